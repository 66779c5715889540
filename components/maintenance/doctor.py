"""Whether this machine is fit for the work: what is old, open, full, unreachable or left over, and what mends it.

It only looks. Nothing is changed, ended or deleted, and nothing is asked but the servers that the user named.
"""

from __future__ import annotations

import configparser
import os
import re
import resource
import shutil
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from importlib.metadata import distributions
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import psutil
from filelock import FileLock, Timeout
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from ..gan.errors import UserError
from ..services.address import SERVERS, endpoint, masked, unanswered
from ..services.platform import Platform, record
from ..workspace.params import Params
from ..workspace.workspace import Workspace

_PROJECT = Path(__file__).resolve().parents[2]
# Below that much or that share of a disk a training may not find room.
DISK_BYTES, DISK_SHARE = 5e9, 0.05
# Ray's object store and torch's workers lie in shared memory, or else in slow files.
SHARED_BYTES = 256e6
OPEN_FILES = 1024
CLOCK_SECONDS = 60
STAGING_SECONDS = 3600
# Ray leaves a folder of logs for every session, dead or not.
RAY_BYTES = 500e6


class Diagnosis(NamedTuple):
    """What a check found; `ok` is None where it does not apply, and `mends` says what to do where it is False."""

    check: str
    ok: bool | None
    words: str
    mends: str = ""


class Advisory(NamedTuple):
    """Versions of a package with a known fault."""

    package: str
    affected: str
    id: str
    what: str


# Of the packages that run code, open ports or read foreign files, from their own release notes and the CVE list.
ADVISORIES = (
    Advisory("torch", "<2.6.0", "CVE-2025-32434", "torch.load runs code of a foreign file"),
    Advisory("ray", "<2.52.0", "CVE-2025-62593", "a web page opened on this machine can run jobs"),
    Advisory("ray", "<2.54.0", "CVE-2026-27482", "a web page opened on this machine can delete jobs"),
    Advisory("ray", "<2.55.0", "CVE-2026-41486", "a foreign Parquet file runs code"),
    Advisory("ray", "<2.56.0", "CVE-2026-57516", "a foreign WebDataset archive runs code"),
    Advisory("mlflow", "<2.10.0", "CVE-2024-27132", "a foreign recipe runs code in the browser"),
    Advisory("mlflow", "<3.10.0", "CVE-2026-2614", "its server gives out any file to anybody"),
    Advisory("mlflow", "<3.11.0rc0", "CVE-2026-0545", "its server's jobs are open in spite of a password"),
    Advisory("prefect", "<3.6.14", "CVE-2026-7723", "its server takes events without a password"),
    Advisory("starlette", "<1.0.1", "CVE-2026-48710", "a false Host header passes checks of paths"),
    Advisory("starlette", ">=0.4.1,<1.3.1", "CVE-2026-54283", "a large form exhausts the server's memory"),
    Advisory("pillow", "<10.3.0", "CVE-2024-28219", "a colour profile overflows a buffer"),
    Advisory("pillow", "<13.0.0", "CVE-2026-112403", "a foreign JPEG overflows a buffer"),
    Advisory("pyarrow", ">=0.14.0,<14.0.1", "CVE-2023-47248", "a foreign Arrow or Parquet file runs code"),
    Advisory("fastapi", ">=0.147", "incompatible", "Prefect 3.8 does not start with it"),
    Advisory("sqlalchemy", ">=2.1", "incompatible", "Prefect 3.8 plans no scheduled runs with it"),
)

# What belongs to a tool, by command line.
_TOOLS = {
    "Ray": re.compile(r"(?:^ray::|/ray/core/src/ray/|/ray/dashboard/|/ray/_private/|/ray/autoscaler/)"),
    "Prefect": re.compile(r"\bprefect(?:\.server| server start| worker start|\.(?:flow_)?engine)\b"),
    "MLflow": re.compile(r"\bmlflow(?:\.server| server| ui| models serve)\b"),
}
_SECRETS = re.compile(
    r"(?P<key>\b(?:AKIA|ASIA)[0-9A-Z]{16}\b)"
    r"|(?P<address>\w://[^/\s:@]*:[^/\s@]+@)"
    r"|(?P<name>[\w-]*(?:password|passwd|secret|token|api_key|auth_string)[\w-]*)[\"']?\s*:\s*"
    r"(?!null\b|~|\{|\$|[\"']?\{\{|#)[\"']?[^\s\"'#]",
    re.IGNORECASE,
)


def examine(workspace: Workspace, environment: Mapping[str, str] = os.environ) -> Iterator[Diagnosis]:
    """All checks, for a workspace and the servers that `environment` names."""
    processes = related()
    temporary = Path(environment.get("RAY_TMPDIR") or environment.get("TMPDIR") or "/tmp")
    installed: dict[str, str] = {canonicalize_name(each.name): each.version for each in distributions()}
    yield advisories(installed)
    yield versions(installed, _PROJECT / "constraints.txt")
    yield dvc_cache(Path(environment.get("DVC_SITE_CACHE_DIR") or "/var/tmp/dvc"))
    yield from ports(processes)
    yield from authentication(environment)
    yield secrets(workspace.params, workspace.root / "prefect.yaml")
    yield from disk([workspace.root, temporary])
    yield shared_memory(Path("/dev/shm"))
    yield open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    yield clock(time.time(), [workspace.ledger, workspace.state / "holder.json"], environment)
    yield staging(workspace, time.time())
    yield ray_sessions(temporary / "ray", processes)
    yield from orphans(processes, environment)
    yield platform(workspace)
    yield from servers(environment)
    yield from places(workspace, environment)


# --- versions ---


def advisories(installed: Mapping[str, str]) -> Diagnosis:
    """Packages, by canonical name, in versions with a known fault."""
    found = [
        each
        for each in ADVISORIES
        if each.package in installed
        and SpecifierSet(each.affected, prereleases=True).contains(Version(installed[each.package]))
    ]
    if not found:
        return Diagnosis("advisories", True, f"none of the {len(ADVISORIES)} known ones applies to what is installed")
    words = "; ".join(f"{each.package} {installed[each.package]}: {each.what} ({each.id})" for each in found)
    wanted = " ".join(sorted({each.package for each in found}))
    return Diagnosis("advisories", False, words, f"pip install -c constraints.txt --upgrade {wanted}")


def versions(installed: Mapping[str, str], constraints: Path) -> Diagnosis:
    """Packages in other versions than those that were tried together."""
    if not constraints.exists():
        return Diagnosis("versions", None, f"there is no {constraints.name} to compare with")
    lines = (line.partition("#")[0].strip() for line in constraints.read_text().splitlines())
    pinned = [Requirement(line) for line in lines if line]
    others = [
        f"{pin.name} {version} ({str(pin.specifier).lstrip('=')})"
        for pin in pinned
        # A build such as 2.13.0+cpu is the version 2.13.0.
        if (version := installed.get(canonicalize_name(pin.name)))
        and not pin.specifier.contains(Version(version).public, prereleases=True)
    ]
    if others:
        words = f"{len(others)} packages are not those that were tried together: {_some(others)}"
        return Diagnosis("versions", False, words, "pip install -c constraints.txt -e .")
    return Diagnosis("versions", True, f"all are those of {constraints.name}")


def dvc_cache(folder: Path) -> Diagnosis:
    """Whether other users may write where DVC reads pickles: CVE-2025-69872 of diskcache has no fixed version."""
    check = "DVC's cache"
    places = (folder, folder / "repo")
    open_to_all = [str(place) for place in places if place.exists() and place.stat().st_mode & stat.S_IWOTH]
    if open_to_all:
        words = f"every user of this machine can write {folder}, whose files can make DVC run code (CVE-2025-69872)"
        mends = f"chmod o-w {' '.join(open_to_all)}, or name a folder of your own by DVC_SITE_CACHE_DIR"
        return Diagnosis(check, False, words, mends)
    return Diagnosis(check, True, f"{folder} is no other user's to write")


# --- who can reach what ---


def related(reached: Iterable[psutil.Process] | None = None) -> list[psutil.Process]:
    """This user's processes of Ray, Prefect and MLflow."""
    found = []
    for process in psutil.process_iter() if reached is None else reached:
        with suppress(psutil.Error):
            if process.uids().real == os.getuid() and _tool(process):
                found.append(process)
    return found


def _tool(process: psutil.Process) -> str | None:
    command = " ".join(process.cmdline())
    return next((tool for tool, pattern in _TOOLS.items() if pattern.search(command)), None)


def ports(processes: Sequence[psutil.Process]) -> Iterator[Diagnosis]:
    """Of these processes the ports that other machines can reach without a password."""
    check = "open ports"
    reached: dict[str, list[str]] = {}
    for process in processes:
        with suppress(psutil.Error):
            beyond = sorted(
                {
                    f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
                    for ip, port in _listening(process)
                    if not ip_address(ip).is_loopback
                }
            )
            tool = _tool(process)
            if tool and beyond and not _asks_for_password(process, tool):
                reached.setdefault(tool, []).append(f"process {process.pid} at {', '.join(beyond)}")
    for tool, where in reached.items():
        words = f"{tool} answers other machines without a password: {_some(where)}"
        mends = "start Ray with RAY_AUTH_MODE=token" if tool == "Ray" else "start it with --host 127.0.0.1"
        yield Diagnosis(check, False, words, mends)
    if not reached:
        yield Diagnosis(check, True, "no port of Ray, Prefect or MLflow here is open to other machines unguarded")


def _listening(process: psutil.Process) -> set[tuple[str, int]]:
    found = process.net_connections("tcp")
    return {(each.laddr.ip, each.laddr.port) for each in found if each.status == psutil.CONN_LISTEN}


def _asks_for_password(process: psutil.Process, tool: str) -> bool:
    # Ray's workers have a title in place of their environment; it is that of the raylet above them.
    for each in [process, *process.parents()]:
        with suppress(psutil.Error):
            match tool:
                case "Ray":
                    asks = each.environ().get("RAY_AUTH_MODE", "").lower() == "token"
                case "Prefect":
                    asks = bool(each.environ().get("PREFECT_SERVER_API_AUTH_STRING"))
                case _:
                    asks = "basic-auth" in each.cmdline()
            if asks:
                return True
    return False


def authentication(environment: Mapping[str, str]) -> Iterator[Diagnosis]:
    """Whether servers on other machines are asked with a password, and over an encrypted connection."""
    check = "authentication"
    named = {name: address for name in SERVERS if (address := environment.get(name))}
    for name, address in named.items():
        shown = masked(address)
        parts = urlsplit(shown if "://" in shown else f"//{shown}")
        if not parts.hostname or _is_loopback(parts.hostname) or parts.scheme == "file" or address == "auto":
            yield Diagnosis(check, True, f"{name} names nothing on another machine")
            continue
        wrong, mends = [], []
        if shown == address and not _credentials(name, environment):
            wrong.append("no password is given")
            mends.append(_CREDENTIALS[name])
        if parts.scheme == "http":
            wrong.append("all is sent in the clear")
            mends.append("put the server behind https://")
        if wrong:
            yield Diagnosis(check, False, f"{name} = {shown}: {' and '.join(wrong)}", "; ".join(mends))
        else:
            yield Diagnosis(check, True, f"{name} = {shown} is asked with a password")
    if not named:
        yield Diagnosis(check, None, f"none of {', '.join(SERVERS)} is set")


_CREDENTIALS = {
    "RAY_ADDRESS": "start the cluster with RAY_AUTH_MODE=token and set it and RAY_AUTH_TOKEN here",
    "PREFECT_API_URL": "set PREFECT_SERVER_API_AUTH_STRING there and PREFECT_API_AUTH_STRING here",
    "MLFLOW_TRACKING_URI": "start the server with --app-name basic-auth and set MLFLOW_TRACKING_USERNAME and "
    "MLFLOW_TRACKING_PASSWORD here",
}


def _credentials(name: str, environment: Mapping[str, str]) -> bool:
    match name:
        case "RAY_ADDRESS":
            mode = environment.get("RAY_AUTH_MODE", "").lower()
            token = Path(environment.get("HOME", "/"), ".ray", "auth_token")
            given = environment.get("RAY_AUTH_TOKEN") or environment.get("RAY_AUTH_TOKEN_PATH") or token.exists()
            # Where a token is found, Ray uses it unless told otherwise.
            return mode == "token" or (not mode and bool(given))
        case "PREFECT_API_URL":
            return any(environment.get(key) for key in ("PREFECT_API_KEY", "PREFECT_API_AUTH_STRING"))
        case _:
            return any(environment.get(key) for key in ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME"))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def secrets(*files: Path) -> Diagnosis:
    """Lines of files that go into git and look like a password; what they say is not repeated."""
    found = []
    for file in files:
        with suppress(OSError, UnicodeDecodeError):
            for number, line in enumerate(file.read_text().splitlines(), 1):
                if match := _SECRETS.search(line):
                    kind = {"key": "an access key", "address": "an address with a password"}.get(match.lastgroup or "")
                    found.append(f"{file.name} line {number} holds {kind or match['name']}")
    if found:
        mends = "take it out and set a variable instead, such as AWS_SECRET_ACCESS_KEY; change it, if it was committed"
        return Diagnosis("secrets", False, _some(found), mends)
    return Diagnosis("secrets", True, f"none stands in {', '.join(file.name for file in files)}")


# --- the machine ---


def disk(folders: Sequence[Path], needed: float = DISK_BYTES, share: float = DISK_SHARE) -> Iterator[Diagnosis]:
    """Free space, once for each disk that these folders lie on."""
    seen = set()
    for folder in folders:
        if not folder.exists() or (device := folder.stat().st_dev) in seen:
            continue
        seen.add(device)
        usage = shutil.disk_usage(folder)
        words = f"{usage.free / 1e9:.1f} GB of {usage.total / 1e9:.0f} are free at {folder}"
        ok = usage.free >= max(needed, share * usage.total)
        yield Diagnosis("disk", ok, words, "" if ok else "make room: `ganflow status` says what takes how much here")


def shared_memory(folder: Path, needed: float = SHARED_BYTES) -> Diagnosis:
    """Free shared memory."""
    check = "shared memory"
    if not folder.exists():
        return Diagnosis(check, None, f"this system has no {folder}")
    free = shutil.disk_usage(folder).free
    words = f"{free / 1e6:,.0f} MB are free at {folder}"
    if free >= needed:
        return Diagnosis(check, True, words)
    mends = "in a container: start it with --shm-size=2g; else delete what dead programs left there"
    return Diagnosis(check, False, f"{words}: Ray falls back to files, which are slower", mends)


def open_files(limit: int) -> Diagnosis:
    """How many files a process may have open."""
    ok = limit == resource.RLIM_INFINITY or limit >= OPEN_FILES
    words = f"a process may open {'any number of' if limit == resource.RLIM_INFINITY else f'{limit:,}'} files"
    if ok:
        return Diagnosis("open files", True, words)
    return Diagnosis("open files", False, words, f"ulimit -n {8 * OPEN_FILES}, before Ray or a server starts")


def clock(now: float, written: Sequence[Path], environment: Mapping[str, str]) -> Diagnosis:
    """Whether it is later than what was written before, and the same time as at the named servers.

    `now` in seconds since 1970.
    """
    wrong = []
    # The code itself was written before, wherever it came from.
    if now < Path(__file__).stat().st_mtime - 86_400 or time.gmtime(now).tm_year > 2100:
        wrong.append(f"it says {time.strftime('%Y-%m-%d', time.gmtime(now))}")
    for file in written:
        if file.exists() and (ahead := file.stat().st_mtime - now) > CLOCK_SECONDS:
            wrong.append(f"{file.name} was written {ahead:,.0f} s from now")
    for name in SERVERS:
        there = _date(masked(environment.get(name, "")))
        if there is not None and abs(there - now) > CLOCK_SECONDS:
            wrong.append(f"{name}'s server is {abs(there - now):,.0f} s {'ahead' if there > now else 'behind'}")
    if wrong:
        return Diagnosis("clock", False, "; ".join(wrong), "set the clock, or let it be set: timedatectl set-ntp true")
    return Diagnosis("clock", True, f"it says {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime(now))}")


def _date(address: str) -> float | None:
    """What time it is at a server that speaks HTTP, in seconds since 1970, if it says so."""
    if not address.startswith(("http://", "https://")):
        return None
    try:
        with urlopen(address, timeout=5) as response:
            said = response.headers["Date"]
    except HTTPError as refusal:
        said = refusal.headers["Date"]
    except (OSError, ValueError):
        return None
    try:
        return parsedate_to_datetime(said).timestamp()
    except (TypeError, ValueError):
        return None


# --- what dead runs left ---


def staging(workspace: Workspace, now: float) -> Diagnosis:
    """Folders that a killed run was building, which nobody goes on with."""
    old = [
        f"{folder.parent.name}/{folder.name}"
        for folder in sorted([*workspace.root.glob("artifacts/.*-*"), *workspace.root.glob("mlruns/.*-*")])
        if now - folder.stat().st_mtime > STAGING_SECONDS
    ]
    if not old or _is_held(workspace):
        return Diagnosis("staging", True, "no folder is left half built")
    words = f"{len(old)} folders are left half built by runs that were killed: {_some(old)}"
    return Diagnosis("staging", False, words, "delete them, or let the next `ganflow run` that has something to do")


def _is_held(workspace: Workspace) -> bool:
    lock = workspace.state / "lock"
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True


def ray_sessions(folder: Path, processes: Sequence[psutil.Process], allowed: float = RAY_BYTES) -> Diagnosis:
    """Room that the logs of this user's ended Ray sessions take."""
    commands = []
    for process in processes:
        with suppress(psutil.Error):
            commands.append(" ".join(process.cmdline()))
    alive = "\n".join(commands)
    size, dead = 0, 0
    for session in folder.glob("session_*_*"):
        with suppress(OSError):
            if session.is_symlink() or session.stat().st_uid != os.getuid() or session.name in alive:
                continue
            dead += 1
            size += _size(session)
    if not dead:
        return Diagnosis("Ray's folders", True, f"no ended session left one in {folder}")
    words = f"{dead} ended sessions left {size / 1e6:,.0f} MB in {folder}"
    if size <= allowed:
        return Diagnosis("Ray's folders", True, words)
    mends = f"while Ray does not run: rm -r {folder}/session_*"
    return Diagnosis("Ray's folders", False, words, mends)


def _size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(Path(place) / name).st_size
    return total


def orphans(
    processes: Sequence[psutil.Process], environment: Mapping[str, str], reaper: int = 1
) -> Iterator[Diagnosis]:
    """Processes that outlived the one that started them; `reaper`: whose children they become."""
    check, found = "processes", False
    wanted = {where[1] for name, port in SERVERS.items() if (where := _endpoint(environment.get(name, ""), port))}
    for process in processes:
        with suppress(psutil.Error):
            if process.ppid() != reaper or wanted & _ports_of(process):
                continue
            found = True
            started = time.strftime("%Y-%m-%d %H:%M", time.localtime(process.create_time()))
            words = f"{_tool(process)} (process {process.pid}, since {started}) runs without what started it"
            yield Diagnosis(check, False, words, f"kill {process.pid}, unless it is a server that you started yourself")
    if not found:
        yield Diagnosis(check, True, "none of Ray, Prefect or MLflow outlived the one that started it")


def _ports_of(process: psutil.Process) -> set[int]:
    """The ports that it listens at, and those that its command line names: Ray's say where their head is."""
    named = {int(port) for port in re.findall(r"[:= ](\d{1,5})\b", " ".join(process.cmdline()))}
    return named | {port for _, port in _listening(process)}


def _endpoint(address: str, port: int) -> tuple[str, int] | None:
    with suppress(ValueError):
        return endpoint(address, port)
    return None


def platform(workspace: Workspace) -> Diagnosis:
    """Whether the platform that was started here still runs."""
    try:
        recorded = Platform.read(workspace)
    except FileNotFoundError:
        return Diagnosis("platform", None, "it does not run here")
    except (OSError, ValueError):
        file = record(workspace)
        return Diagnosis("platform", False, f"{file} is damaged", f"delete it: rm {file}")
    processes = {"supervisor": recorded.supervisor, **recorded.parts}
    if gone := [name for name, process in processes.items() if process.find() is None]:
        mends = "`ganflow down` ends what is left of it, `ganflow up` starts it again"
        return Diagnosis("platform", False, f"it was started, but {', '.join(gone)} ended", mends)
    return Diagnosis("platform", True, f"its {len(processes)} processes run")


# --- what must answer ---


def servers(environment: Mapping[str, str]) -> Iterator[Diagnosis]:
    """Whether each server that the user named answers."""
    for name, port in SERVERS.items():
        address = environment.get(name, "")
        if not address:
            yield Diagnosis("servers", None, f"{name} is not set: the embedded default is used")
        elif wrong := unanswered(address, port):
            words = f"{name} = {masked(address)} does not answer ({wrong})"
            yield Diagnosis("servers", False, words, f"start that server, or unset {name}")
        else:
            yield Diagnosis("servers", True, f"{name} = {masked(address)} answers")


def places(workspace: Workspace, environment: Mapping[str, str]) -> Iterator[Diagnosis]:
    """Whether the folders and buckets exist that the parameters and DVC's default remote name."""
    named = {"DVC's remote": _remote(workspace.root)}
    if workspace.params.exists():
        try:
            params = Params.load(workspace.params)
            named |= {"train.storage": params.train.storage, "retrain.inbox": params.retrain.inbox}
        except UserError as error:
            yield Diagnosis("parameters", False, masked(str(error)), "correct params.yaml: `ganflow params` lists all")
    for name, place in named.items():
        if place is None:
            yield Diagnosis("storage", None, f"{name} is not set")
        elif wrong := _unreachable(place, workspace, environment):
            mends = f"make it, or correct {name}; buckets: check the network and AWS_ENDPOINT_URL"
            yield Diagnosis("storage", False, f"{name} = {masked(place)}: {wrong}", mends)
        else:
            yield Diagnosis("storage", True, f"{name} = {masked(place)} is there")


def _unreachable(place: str, workspace: Workspace, environment: Mapping[str, str]) -> str | None:
    scheme, mark, rest = place.partition("://")
    if not mark or scheme == "file":
        folder = workspace.root / (rest if mark else place)
        return None if folder.is_dir() else "there is no such folder"
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    address = {
        "s3": environment.get("AWS_ENDPOINT_URL_S3")
        or environment.get("AWS_ENDPOINT_URL")
        or f"https://s3.{f'{region}.' if region else ''}amazonaws.com",
        "gs": "https://storage.googleapis.com",
        "ssh": f"ssh://{rest}",
        "http": place,
        "https": place,
    }.get(scheme)
    wrong = unanswered(address, 22) if address else None
    return wrong and f"{masked(address or '')} does not answer ({wrong})"


def _remote(root: Path) -> str | None:
    """Where DVC's default remote is, by its own files: its import takes seconds."""
    dvc = next((at / ".dvc" for at in (root, *root.parents) if (at / ".dvc").is_dir()), None)
    if dvc is None:
        return None
    config = configparser.ConfigParser(interpolation=None)
    try:
        config.read([dvc / "config", dvc / "config.local"])
        name = config.get("core", "remote", fallback=None)
        url = name and config.get(f"'remote \"{name}\"'", "url", fallback=None)
    except (configparser.Error, UnicodeDecodeError):
        return None
    # A folder is named from where the file lies.
    return str(dvc / url) if url and "://" not in url else url


def _some(found: Sequence[str], many: int = 5) -> str:
    return ", ".join(found[:many]) + (", ..." if len(found) > many else "")
