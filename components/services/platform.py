"""The record of what `ganflow up` keeps running for a workspace: which processes, and where the servers answer.

That a platform runs is told by a lock, which the kernel frees when its supervisor ends, however it ends, and which is
seen from other containers and machines too. The record says which process holds it.
"""

from __future__ import annotations

import fcntl
import json
import socket
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import psutil
from filelock import FileLock, Timeout
from pydantic import Field

from ..gan.errors import BusyError
from ..gan.options import Options
from ..workspace.files import disk_errors, write_whole
from ..workspace.workspace import Workspace
from .process import Process, folder_id


class Platform(Options):
    """What runs for a workspace, as `.ganflow/platform.json` records it: processes, and addresses of the servers."""

    supervisor: Process
    # What the kernel knows the workspace by, and how it was called: a copy of the workspace has a copy of the record.
    folder: str
    root: str
    host: str = Field(default_factory=socket.gethostname)
    parts: Mapping[str, Process] = Field(default_factory=dict)
    prefect: str
    mlflow: str
    ready: bool = False

    @property
    def pages(self) -> str:
        """Where Prefect's pages are."""
        return self.prefect.removesuffix("/api")

    @classmethod
    def read(cls, workspace: Workspace) -> Platform:
        """Return what is recorded, running or not, of this workspace or of one that it is a copy of.

        Raises:
            OSError: nothing is recorded.
            ValueError: the record is damaged.
        """
        return cls.model_validate_json(record(workspace).read_text())

    def write(self, workspace: Workspace) -> None:
        """Record it, whole or not at all.

        Raises:
            UserError: there is no space left.
        """
        write_whole(record(workspace), self.model_dump_json(indent=2))


def find(workspace: Workspace) -> Platform | None:
    """Return the platform of the workspace, running or not; None if there is no whole record of it, or a copied one."""
    try:
        platform = Platform.read(workspace)
        return platform if platform.folder == folder_id(workspace) else None
    except (OSError, ValueError):
        return None


def running(workspace: Workspace) -> Platform | None:
    """Return the platform of the workspace if it runs where its processes can be seen and ended."""
    platform = find(workspace)
    return platform if platform and is_held(workspace) and platform.supervisor.find() else None


def hold(workspace: Workspace) -> AbstractContextManager[object]:
    """Hold the right to run the workspace's platform, until the block ends or else the process does.

    Raises:
        BusyError: another process holds it.
    """
    if older := _older(workspace):
        raise BusyError(
            f"a platform that an older ganflow started runs (process {older}): end it by `kill {older}`, then run the "
            "same command again"
        )
    file = lock(workspace)
    with disk_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            # Others look at it for a moment.
            return FileLock(file, fallback_to_soft=False).acquire(timeout=1)
        except Timeout:
            raise BusyError(f"the platform of {workspace.root} {where(workspace)}") from None


def _older(workspace: Workspace) -> int | None:
    """Return the supervisor's process number where a platform runs that was recorded before it was told by a lock."""
    with suppress(OSError, ValueError, KeyError, TypeError, psutil.Error):
        supervisor = json.loads(record(workspace).read_bytes())["supervisor"]
        process = psutil.Process(int(supervisor["pid"]))
        command = process.cmdline()
        # This may be a copy of the folder that it was started for.
        named = command[command.index("--workspace") + 1] if "--workspace" in command else "."
        same = abs(process.create_time() - float(supervisor["started"])) < 1
        if same and "up" in command and Path(process.cwd(), named).resolve() == workspace.root.resolve():
            return int(process.pid)
    return None


def is_held(workspace: Workspace) -> bool:
    """Whether a platform of the workspace runs: here, in another container, or on another machine."""
    file = lock(workspace)
    if not file.exists():
        return False
    with file.open("rb") as opened:
        try:
            # Shared: two that look do not take each other for a platform.
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            # A disk without locks, on which no platform can have been started.
            return False
    return False


def where(workspace: Workspace) -> str:
    """Say where the platform runs that holds the lock, and what can be done about it."""
    try:
        found = Platform.read(workspace)
    except (OSError, ValueError):
        return "starts or ends at this moment: try again in a few seconds"
    if running(workspace):
        return f"runs already (process {found.supervisor.pid}): `ganflow down` ends it"
    seen = f"runs in another container or machine (on {found.host}, process {found.supervisor.pid} there)"
    return f"{seen}, which cannot be reached from here: use `ganflow` there"


def record(workspace: Workspace) -> Path:
    """Return the file that the platform is recorded in."""
    return workspace.state / "platform.json"


def lock(workspace: Workspace) -> Path:
    """Return the file that the supervisor holds locked."""
    return workspace.state / "platform.lock"
