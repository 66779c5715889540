"""What dead runs left: folders, logs and processes."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from ...services.address import SERVERS, endpoint
from ...services.platform import Platform, find, is_held, record, running, where
from ...workspace.workspace import Workspace
from .diagnosis import Diagnosis, some
from .processes import listening, tool_of

STAGING_SECONDS = 3600
# Ray leaves a folder of logs for every session, dead or not.
RAY_BYTES = 500e6


def staging(workspace: Workspace, now: float) -> Diagnosis:
    """Folders that a killed run was building, which nobody goes on with."""
    old = [
        f"{folder.parent.name}/{folder.name}"
        for folder in sorted(workspace.half_built())
        if now - folder.stat().st_mtime > STAGING_SECONDS
    ]
    if not old or _is_held(workspace):
        return Diagnosis("staging", True, "no folder is left half built")
    words = f"{len(old)} folders are left half built by runs that were killed: {some(old)}"
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
    remedy = f"while Ray does not run: rm -r {folder}/session_*"
    return Diagnosis("Ray's folders", False, words, remedy)


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
    """Yield processes that outlived the one that started them; `reaper`: whose children they become."""
    check, found = "processes", False
    wanted = {where[1] for name, port in SERVERS.items() if (where := _endpoint(environment.get(name, ""), port))}
    for process in processes:
        with suppress(psutil.Error):
            if process.ppid() != reaper or wanted & _ports_of(process):
                continue
            found = True
            started = time.strftime("%Y-%m-%d %H:%M", time.localtime(process.create_time()))
            words = f"{tool_of(process)} (process {process.pid}, since {started}) runs without what started it"
            yield Diagnosis(check, False, words, f"kill {process.pid}, unless it is a server that you started yourself")
    if not found:
        yield Diagnosis(check, True, "none of Ray, Prefect or MLflow outlived the one that started it")


def _ports_of(process: psutil.Process) -> set[int]:
    """Return the ports that it listens at, and those that its command line names: Ray's say where their head is."""
    named = {int(port) for port in re.findall(r"[:= ](\d{1,5})\b", " ".join(process.cmdline()))}
    return named | {port for _, port in listening(process)}


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
    if not find(workspace):
        words = f"the record of one is of {recorded.root}, which this workspace is a copy of; it does not run here"
        return Diagnosis("platform", None, words)
    if is_held(workspace) and not running(workspace):
        return Diagnosis("platform", None, f"it {where(workspace)}")
    processes = {"supervisor": recorded.supervisor, **recorded.parts}
    if gone := [name for name, process in processes.items() if process.find() is None]:
        remedy = "`ganflow down` ends what is left of it, `ganflow up` starts it again"
        return Diagnosis("platform", False, f"it was started, but {', '.join(gone)} ended", remedy)
    return Diagnosis("platform", True, f"its {len(processes)} processes run")
