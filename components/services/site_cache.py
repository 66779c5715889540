"""The folder of DVC's site cache, from whose pickles DVC runs code: this user's own, and in no workspace.

By default every user of the machine can write it, and diskcache, which reads it, has no version without this
fault (CVE-2025-69872). `python -m components.services.site_cache` readies the workspace in this folder for a `dvc` that
is not started by ganflow, and prints where the cache is.
"""

from __future__ import annotations

import io
import os
import stat
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..gan.errors import UserError
from ..workspace.files import write_whole
from .git_environment import harmless
from .own_folder import own_folder

VARIABLE = "DVC_SITE_CACHE_DIR"


def site_cache(root: Path, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the site cache for a workspace at `root`, made unless it is there: that of the environment, or our own.

    Raises:
        UserError: others may write there, or it lies in the workspace, which a stranger may have made.
    """
    if named := environment.get(VARIABLE):
        if (wrong := why_unsafe(Path(named))) or _is_within(Path(named), root):
            raise UserError(
                f"{VARIABLE} names {named}, from which DVC would run code, and {wrong or 'it is in the workspace'}: "
                "unset it, or name a folder of your own of mode 700"
            )
        return Path(named).resolve()
    caches = [environment.get("XDG_CACHE_HOME"), environment.get("HOME") and f"{environment['HOME']}/.cache"]
    for place in [*(Path(cache) for cache in caches if cache), own_folder(environment)]:
        cache = place / "ganflow" / "dvc"
        if not place.is_absolute() or _is_within(cache, root):
            continue
        with suppress(OSError):
            for folder in (place, cache.parent, cache):
                folder.mkdir(mode=0o700, exist_ok=True)
            if why_unsafe(cache.parent) is None:
                if wrong := why_unsafe(cache):
                    raise UserError(f"DVC would run code from {cache}, and {wrong}: delete it: rm -r {cache}")
                cache.chmod(0o700)
                return cache.resolve()
    raise UserError(f"DVC needs a folder that only you can write: set {VARIABLE} to one of mode 700")


def why_unsafe(cache: Path) -> str | None:
    """Return why somebody else can put files into `cache`, or another folder in its place, if so."""
    place = cache.resolve()
    try:
        found = place.stat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            return "it is no folder of yours"
        if found.st_mode & 0o022:
            return "others can write it"
        for parent in place.parents:
            above = parent.stat()
            if above.st_uid not in (0, os.getuid()) or (above.st_mode & 0o022 and not above.st_mode & stat.S_ISVTX):
                return f"others can write {parent}"
    except OSError as error:
        return f"it cannot be looked at ({error.strerror})"
    return None


def prepare(root: Path) -> Path:
    """Let DVC use this user's site cache: in this process, in what it starts, and where `dvc` is typed at `root`.

    Called before each use of DVC. Returns the site cache.

    Raises:
        UserError: the workspace's settings would let DVC run code that came with it, or there is no space left.
    """
    cache = site_cache(root)
    os.environ.setdefault("DVC_NO_ANALYTICS", "1")
    os.environ.update(harmless(), **{VARIABLE: str(cache)})
    if dvc := next((at / ".dvc" for at in (root, *root.parents) if (at / ".dvc").is_dir()), None):
        _check(dvc)
        _point(dvc / "config.local", cache)
    return cache


def _check(dvc: Path) -> None:
    committed = dvc / "config"
    if "site_cache_dir" in _section(committed, "core"):
        raise UserError(
            f"{committed} sets core.site_cache_dir, a folder from which DVC would run code: delete that setting"
        )
    for file in (committed, dvc / "config.local"):
        for name, remote in _section(file, "remote").items():
            for key in ("configpath", "credentialpath"):
                # Files of settings of AWS, which may name a program to be run (credential_process).
                if key in remote and _may_have_come_with(dvc.parent, str(remote[key])):
                    raise UserError(
                        f"{file}: {key} of the remote {name} is a file that came with the workspace and may name a "
                        "program to be run: keep that file in your home directory, and write its whole path"
                    )


def _point(file: Path, cache: Path) -> None:
    """Have `dvc` typed by hand use the cache, and say so where it was to use another one."""
    set_to = _section(file, "core").get("site_cache_dir")
    if set_to == str(cache):
        return
    from configobj import ConfigObj

    config = ConfigObj(file.read_text().splitlines() if file.exists() else [])
    for section in [name for name in config.sections if name.lower() == "core"]:
        for key in [key for key in config[section].scalars if key.lower() == "site_cache_dir"]:
            del config[section][key]
    config.setdefault("core", {})["site_cache_dir"] = str(cache)
    written = io.BytesIO()
    config.write(written)
    write_whole(file, written.getvalue())
    if set_to is not None:
        print(f"{file} named {set_to!r} as DVC's site cache; it names your own now, {cache}", file=sys.stderr)


def _may_have_come_with(workspace: Path, place: str) -> bool:
    """Whether a file lies in the workspace, or beside it, where the same archive may have put it."""
    try:
        path = Path(place).expanduser()
        return not path.is_absolute() or _is_within(path, workspace)
    # The home of a user that there is not, and a zero byte.
    except (RuntimeError, ValueError):
        return True


def _section(file: Path, name: str) -> Mapping[str, Any]:
    found = _settings(file).get(name, {})
    if not isinstance(found, dict):
        raise UserError(f"{file} cannot be read ({name} is no section): correct it")
    return found


def _settings(file: Path) -> dict[str, Any]:
    """Read a file of DVC's settings as DVC does."""
    from configobj import ConfigObjError
    from dvc.config import Config, ConfigError

    try:
        found: dict[str, Any] = Config.load_file(str(file))
    except FileNotFoundError:
        return {}
    except (ConfigError, ConfigObjError, OSError) as error:
        raise UserError(f"{file} cannot be read ({' '.join(str(error).split())}): correct it") from None
    return found


def _is_within(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


if __name__ == "__main__":
    try:
        print(prepare(Path.cwd()))
    except UserError as error:
        sys.exit(f"ganflow: {error}")
