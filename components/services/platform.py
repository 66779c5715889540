"""The record of what `ganflow up` keeps running for a workspace: which processes, and where the servers answer."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil
from pydantic import Field

from ..gan.options import Options
from ..workspace.files import disk_errors
from ..workspace.workspace import Workspace


class Process(Options):
    """A process that is known again after its number was given to another one."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> Process:
        """Describe the process that has this number now."""
        return cls(pid=pid, started=psutil.Process(pid).create_time())

    def find(self) -> psutil.Process | None:
        """Return the process if it still lives."""
        with suppress(psutil.Error):
            found = psutil.Process(self.pid)
            if found.create_time() == self.started and is_alive(found):
                return found
        return None


class Platform(Options):
    """What runs for a workspace, as `.ganflow/platform.json` records it: processes, and addresses of the servers."""

    supervisor: Process
    parts: Mapping[str, Process] = Field(default_factory=dict)
    prefect: str
    mlflow: str
    ready: bool = False

    @property
    def running(self) -> bool:
        """Whether somebody keeps it running."""
        return self.supervisor.find() is not None

    @property
    def pages(self) -> str:
        """Where Prefect's pages are."""
        return self.prefect.removesuffix("/api")

    @classmethod
    def read(cls, workspace: Workspace) -> Platform:
        """Return what is recorded, running or not.

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
        file = record(workspace)
        with disk_errors(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            staged = file.with_suffix(".tmp")
            staged.write_text(self.model_dump_json(indent=2))
            staged.replace(file)


def find(workspace: Workspace) -> Platform | None:
    """Return the platform of the workspace, running or not; None if there is no record of one, or not a whole one."""
    try:
        return Platform.read(workspace)
    except (OSError, ValueError):
        return None


def record(workspace: Workspace) -> Path:
    """Return the file that the platform is recorded in."""
    return workspace.state / "platform.json"


def is_alive(process: psutil.Process) -> bool:
    """Whether a process runs; one that ended and that nobody has waited for does not."""
    with suppress(psutil.Error):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False
