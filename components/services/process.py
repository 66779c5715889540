"""Which process is which: by the boot, the namespace, the start in kernel ticks, and a token in its environment.

None of it changes when the clock is set or the machine gets another name. Wall-clock start times do, and a number alone
is given to another process sooner or later.
"""

from __future__ import annotations

import os
import secrets
import time
from contextlib import suppress
from pathlib import Path

import psutil
from pydantic import Field

from ..gan.options import Options
from ..workspace.files import write_whole
from ..workspace.workspace import Workspace


class Process(Options):
    """A process that is known again; `token`, if any, is a `NAME=value` of its environment."""

    pid: int
    ticks: int
    boot: str
    namespace: str
    token: str = ""

    @classmethod
    def of(cls, pid: int, token: str = "") -> Process:
        """Describe the process that has this number now.

        Raises:
            OSError: there is none.
        """
        return cls(pid=pid, ticks=_stat(pid)[1], boot=_boot(), namespace=_namespace(), token=token)

    @property
    def is_here(self) -> bool:
        """Whether its number means something here: the same start of the kernel, and the same namespace of numbers."""
        return (self.boot, self.namespace) == (_boot(), _namespace())

    def find(self) -> psutil.Process | None:
        """Return the process if it can be seen from here and lives."""
        if not self.is_here:
            return None
        with suppress(OSError, psutil.Error):
            state, ticks = _stat(self.pid)
            if ticks == self.ticks and state not in "ZX" and _carries(self.pid, self.token):
                return psutil.Process(self.pid)
        return None


class Claim(Options):
    """Which process works on a run of Prefect or MLflow, and in which workspace; kept there by the run's id."""

    process: Process
    folder: str
    token: str = Field(default_factory=lambda: secrets.token_hex(8))

    @classmethod
    def make(cls, workspace: Workspace, run: str, token: str = "") -> Claim:
        """Write down that this process, with `token` in its environment, works on `run`.

        Raises:
            UserError: there is no space left.
        """
        claim = cls(process=Process.of(os.getpid(), token), folder=folder_id(workspace))
        write_whole(_claim(workspace, run), claim.model_dump_json())
        return claim

    @classmethod
    def read(cls, workspace: Workspace, run: str) -> Claim | None:
        """Return who worked on `run` in this workspace; None if nobody did."""
        try:
            return cls.model_validate_json(_claim(workspace, run).read_text())
        except (OSError, ValueError):
            return None

    def is_of(self, workspace: Workspace) -> bool:
        """Whether it was made in this very folder, however it is called by now, rather than in one it is a copy of."""
        made, here = self.folder.partition(":"), folder_id(workspace).partition(":")
        # The number of a disk is another one after a start of the machine.
        return made == here if self.process.boot == _boot() else made[2] == here[2]


def drop_claim(workspace: Workspace, run: str) -> None:
    """Forget who worked on `run`, which has ended."""
    _claim(workspace, run).unlink(missing_ok=True)


def _claim(workspace: Workspace, run: str) -> Path:
    return workspace.state / "claims" / f"{run}.json"


def folder_id(workspace: Workspace) -> str:
    """Return what the kernel knows the workspace by: through links and mounts and after a move the same; not a copy's.

    Raises:
        OSError: it is not there.
    """
    found = workspace.root.stat()
    return f"{found.st_dev}:{found.st_ino}"


def is_alive(process: psutil.Process) -> bool:
    """Whether a process runs; one that ended and that nobody has waited for does not."""
    with suppress(psutil.Error):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def _stat(pid: int) -> tuple[str, int]:
    """State, and start in ticks since the kernel's (proc(5), fields 3 and 22 of /proc/PID/stat)."""
    # The name stands in parentheses, and may hold some itself.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0], int(fields[19])


def _carries(pid: int, token: str) -> bool:
    if not token:
        return True
    try:
        return token.encode() in _environment(pid)
    except PermissionError:
        # Another user's: number, start and boot are all that can be seen of it.
        return True


def _environment(pid: int) -> list[bytes]:
    for _ in range(100):
        if read := Path(f"/proc/{pid}/environ").read_bytes():
            return read.split(b"\0")
        # The kernel shows none while one program takes the place of another (execve(2)).
        time.sleep(0.005)
    return []


def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _namespace() -> str:
    """Return the namespaces of process numbers and of the clock that starts are counted by; "" where there are none."""
    found = []
    for kind in ("pid", "time"):
        with suppress(OSError):
            found.append(str(Path(f"/proc/self/ns/{kind}").readlink()))
    return " ".join(found)
