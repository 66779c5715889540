"""What a machine and a user's shell bring along that would trip a tool: mended for this process and its children.

Each is mended where that changes nothing that the user could want, and told otherwise; `ganflow doctor` shows both.
"""

from __future__ import annotations

import os
import pwd
import re
import resource
import tempfile
import unicodedata
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from zoneinfo import ZoneInfo

from ..gan.errors import UserError
from .own_folder import own_folder

# Files that a process may have open: what is asked for, and with how few Ray and the servers end in the midst of it.
OPEN_FILES, FEWEST_FILES = 8192, 256
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
# By `git rev-parse --local-env-vars`: a hook sets them, and they name its repository instead of the workspace's.
_GIT = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NAMESPACE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
)
# As C reads them: no digits of other alphabets.
_COUNT = re.compile(r"0*[1-9][0-9]{0,8}")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
# With ? the database lands elsewhere; Prefect fills in what stands between braces.
_FORBIDDEN = ("?", "{{", "}}")
# What `mend` said in this process.
mended: list[str] = []


def mend(environment: MutableMapping[str, str] = os.environ) -> None:
    """Mend `environment`, and the limit of open files; what was done is added to `mended`."""
    for part in (_git, _loopback, _home, _user, _numbers, _open_files):
        mended.extend(part(environment))


def check(environment: Mapping[str, str] = os.environ) -> None:
    """Make sure of what cannot be mended, before work begins.

    Raises:
        UserError: work would end in the midst of it.
    """
    for found in unfit(environment):
        raise UserError(found)


def unfit(environment: Mapping[str, str]) -> Iterator[str]:
    """Yield what cannot be mended here, each in a sentence with its remedy."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most != resource.RLIM_INFINITY and most < FEWEST_FILES:
        yield f"a process may open {most} files here, which is too few: raise it by `ulimit -n {OPEN_FILES}`"
    for name, address in _proxies(environment):
        scheme, mark, _ = address.partition("://")
        if mark and scheme.lower() not in ("http", "https"):
            yield (
                f"{name} names a {scheme} proxy, which Prefect and MLflow cannot use: name an HTTP proxy, or unset it"
            )


def check_path(root: Path) -> None:
    """Make sure that every tool can name what lies in the workspace.

    Raises:
        UserError: its path has a sign that the addresses of databases cannot hold, or is no text.
    """
    found = {signs for signs in _FORBIDDEN if signs in str(root)}
    # Control characters, and bytes that are no UTF-8.
    found |= {sign for sign in str(root) if unicodedata.category(sign) in ("Cc", "Cs")}
    if found:
        signs = " ".join(repr(sign) for sign in sorted(found))
        raise UserError(
            f"the workspace's path may not hold {signs}, which addresses of databases cannot: name another folder"
        )


def _git(environment: MutableMapping[str, str]) -> Iterator[str]:
    if taken := [name for name in _GIT if environment.pop(name, None) is not None]:
        yield f"{', '.join(taken)} of a git hook or another repository: not used"


def _proxies(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name in (*_PROXIES, *map(str.lower, _PROXIES)):
        if address := environment.get(name):
            yield name, address


def _loopback(environment: MutableMapping[str, str]) -> Iterator[str]:
    """Let no proxy stand between the processes of this machine."""
    if not any(_proxies(environment)):
        return
    given = [environment.get(name, "") for name in ("no_proxy", "NO_PROXY")]
    hosts = list(dict.fromkeys(host.strip() for host in ",".join(given).split(",") if host.strip()))
    missing = [] if "*" in hosts else [host for host in _LOOPBACK if host not in hosts]
    # Tools differ in which of the two they read.
    environment["no_proxy"] = environment["NO_PROXY"] = ",".join([*hosts, *missing])
    if missing:
        yield f"a proxy is set without an exception for {', '.join(missing)}: added to NO_PROXY"


def _home(environment: MutableMapping[str, str]) -> Iterator[str]:
    """Give tools another place where the home cannot take their caches, and a home where there is none."""
    try:
        home = Path(environment.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        home = None
    if home is not None and home.is_dir() and _writable(home):
        return
    own = own_folder(environment)
    if home is None or not home.is_dir():
        environment["HOME"] = str(own)
    places = {"XDG_CACHE_HOME": own / "cache", "MPLCONFIGDIR": own / "matplotlib", "GANFLOW_CACHE": own / "ganflow"}
    for name, place in places.items():
        environment.setdefault(name, str(place))
    yield f"the home {home or 'of this user'} cannot be written: caches lie in {own}"


def _writable(folder: Path) -> bool:
    """Whether a file can be made there; access rights alone say nothing of a read-only disk, nor to root."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _user(environment: MutableMapping[str, str]) -> Iterator[str]:
    """Name a user without an entry, as whom a container may be started."""
    with suppress(KeyError):
        pwd.getpwuid(os.getuid())
        return
    if not any(environment.get(name) for name in ("LOGNAME", "USER", "LNAME", "USERNAME")):
        environment["USER"] = environment["LOGNAME"] = f"user-{os.getuid()}"
        yield f"user {os.getuid()} has no entry: called {environment['USER']}"


def _numbers(environment: MutableMapping[str, str]) -> Iterator[str]:
    """Take away settings that their readers cannot read."""
    for name in _THREADS:
        given = environment.get(name)
        if given is not None and not all(_COUNT.fullmatch(part.strip()) for part in given.split(",")):
            del environment[name]
            yield f"{name}={given} is no number of threads: not used"
    zone = environment.get("TZ", "").removeprefix(":")
    if zone and not zone.startswith("/") and not any(sign.isdigit() for sign in zone):
        try:
            ZoneInfo(zone)
        except (OSError, ValueError, KeyError):
            del environment["TZ"]
            yield f"TZ={zone} is no time zone: not used"


def _open_files(_: MutableMapping[str, str]) -> Iterator[str]:
    """Raise the limit as far as this user may."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if most == resource.RLIM_INFINITY else min(OPEN_FILES, most)
    if now != resource.RLIM_INFINITY and now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
        yield f"a process may open {now} files: raised to {wanted:,}"
