"""The parts of the platform, as the process that keeps them running sees them: started, awaited, started again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from components.gan.errors import UnreachableError, UserError
from components.services.address import answers, masked
from components.services.platform import Platform, lock, record
from components.services.process import Process
from components.workspace.workspace import Workspace
from flows.supervisor.commands import Part, mark
from flows.supervisor.logs import bound, last_line, log_of

START_SECONDS = 120
# A part that ends within the first number of seconds is started again after ever longer pauses, up to the second: it
# shall not keep the machine busy, and what still runs beside it goes on.
QUICK_SECONDS, MAX_PAUSE_SECONDS = 30, 64
RECONCILE_SECONDS = 20


class Parts:
    """A record of the platform's processes that starts, watches and writes them down."""

    def __init__(
        self, workspace: Workspace, platform: Platform, environment: Mapping[str, str], tell: Callable[[str], None]
    ) -> None:
        self.platform = platform
        self._workspace, self._environment, self._tell = workspace, environment, tell
        self._parts: dict[str, Part] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._quick_ends: dict[str, int] = {}
        self._due: dict[str, float] = {}
        self._log_start: dict[str, int] = {}
        self._started: dict[str, float] = {}
        self._lock = lock(workspace).stat().st_ino
        self.platform.write(self._workspace)

    def start(self, part: Part) -> None:
        """Start the part, in a session of its own, so that Ctrl-C reaches only who ends them in order."""
        log = log_of(self._workspace, part.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._log_start[part.name], self._started[part.name] = output.tell(), time.monotonic()
            process = subprocess.Popen(
                part.command,
                # Prefect would read .env and prefect.toml of the workspace.
                cwd=self._workspace.state,
                env={**self._environment, **part.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._parts[part.name], self._processes[part.name] = part, process
        parts = {**self.platform.parts, part.name: Process.of(process.pid, mark(self._workspace))}
        self.platform = self.platform.model_copy(update={"parts": parts})
        self.platform.write(self._workspace)

    def wait(self, name: str, address: str) -> None:
        """Wait until the part answers at `address`.

        Raises:
            UserError: it ended, or does not answer.
        """
        until = time.monotonic() + START_SECONDS
        while not answers(address):
            process = self._processes.get(name)
            if process is None and time.monotonic() > until - START_SECONDS + 5:
                raise UnreachableError(f"{masked(address)} does not answer: start that server, or unset its variable")
            if (process and process.poll() is not None) or time.monotonic() > until:
                raise UserError(f"{name} did not start: {self._last_words(name)}")
            time.sleep(0.2)

    def ready(self) -> None:
        """Record that all of it runs."""
        self.platform = self.platform.model_copy(update={"ready": True})
        self.platform.write(self._workspace)

    def keep(self, reconcile: Callable[[], Iterable[str]]) -> None:
        """Start again what ends, and close what died, until the workspace is not there any more."""
        due = time.monotonic()
        while self._in_place():
            bound(self._workspace)
            for name, process in list(self._processes.items()):
                if process.poll() is not None:
                    self._again(name)
            if time.monotonic() >= due:
                # The server may be on its way back.
                with suppress(Exception):
                    for line in reconcile():
                        self._tell(line)
                due = time.monotonic() + RECONCILE_SECONDS
            time.sleep(0.5)
        # The addresses of databases, logs and runs are those of the old place.
        root = self._workspace.root
        self._tell(f"{root} was moved or removed: the platform ends; `ganflow up` starts it where the workspace is now")

    def _again(self, name: str) -> None:
        """Start the part that ended, at once or, where it ends again and again, when its pause is over."""
        now = time.monotonic()
        if name in self._due:
            if now >= self._due[name]:
                del self._due[name]
                self.start(self._parts[name])
            return
        # A server that was killed leaves its own child on the port. A run outlives its worker, and is left to.
        if name != "worker":
            with suppress(OSError):
                os.killpg(self._processes[name].pid, signal.SIGKILL)
        quick = now - self._started[name] < QUICK_SECONDS
        ends = self._quick_ends[name] = self._quick_ends.get(name, 0) + 1 if quick else 0
        pause = min(2**ends, MAX_PAUSE_SECONDS) if ends else 0
        self._due[name] = now + pause
        why = f" in {pause} seconds: {self._last_words(name)}" if pause else ""
        self._tell(f"{name} ended (exit code {self._processes[name].returncode}) and is started again{why}")

    def _last_words(self, name: str) -> str:
        log = log_of(self._workspace, name)
        return f"{last_line(log, self._log_start.get(name, 0))[-300:] or 'it said nothing'} (all of it: {log})"

    def _in_place(self) -> bool:
        """Whether the workspace is still where it was; a record that somebody deleted is written again."""
        try:
            if lock(self._workspace).stat().st_ino != self._lock:
                return False
        except OSError:
            return False
        if not record(self._workspace).exists():
            self.platform.write(self._workspace)
        return True
