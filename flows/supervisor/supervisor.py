"""The platform on one machine: Prefect's server, a worker and MLflow's pages, kept running by one process.

What is named by `PREFECT_API_URL` or `MLFLOW_TRACKING_URI` is used instead of started. MLflow's server shows the
workspace's own database, which runs go on writing directly: faster, and its end costs no run anything.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
import yaml
from pydantic import Field

from components.gan.errors import BusyError, UnreachableError, UserError
from components.gan.options import Options
from components.provenance import ledger
from components.services.address import masked
from components.services.tracking import connection
from components.workspace.files import disk_errors
from components.workspace.params import Params
from components.workspace.workspace import Workspace

POOL = "ganflow"
START_SECONDS = 120
# Of both, with a margin, before `ganflow down` has taken ten seconds.
STOP_RUNS_SECONDS, STOP_SECONDS = 6.0, 1.5
# A part that ends so soon after its start is started again later and later, up to so much later: it shall not keep the
# machine busy, and what still runs beside it goes on.
QUICK_SECONDS, MAX_PAUSE_SECONDS = 30, 64
RECONCILE_SECONDS = 20
PLAN_SECONDS = 8
MAX_LOG_BYTES = 10_000_000
# In the environment of every process of the platform of that workspace.
_MARK = "GANFLOW_PLATFORM"
_PROJECT = Path(__file__).resolve().parents[2]


class Process(Options):
    """A process that is known again after its number was given to another one."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> Process:
        return cls(pid=pid, started=psutil.Process(pid).create_time())

    def find(self) -> psutil.Process | None:
        """The process if it still lives."""
        with suppress(psutil.Error):
            found = psutil.Process(self.pid)
            if found.create_time() == self.started and _lives(found):
                return found
        return None


class Platform(Options):
    """What runs for a workspace: `.ganflow/platform.json`."""

    supervisor: Process
    parts: Mapping[str, Process] = Field(default_factory=dict)
    prefect: str
    mlflow: str
    ready: bool = False

    @property
    def running(self) -> bool:
        return self.supervisor.find() is not None

    @property
    def pages(self) -> str:
        """Where Prefect's pages are."""
        return self.prefect.removesuffix("/api")


def find(workspace: Workspace) -> Platform | None:
    """The platform of the workspace, running or not; None if there is no record of one, or not a whole one."""
    try:
        return Platform.model_validate_json(_record(workspace).read_text())
    except (OSError, ValueError):
        return None


def use(workspace: Workspace) -> None:
    """Let this process's flows go to the platform's Prefect server, where one runs and no other is named."""
    platform = find(workspace)
    if platform and platform.running and answers(f"{platform.prefect}/health"):
        os.environ.setdefault("PREFECT_API_URL", platform.prefect)


def answers(address: str, seconds: float = 2) -> bool:
    try:
        with urlopen(address, timeout=seconds) as response:
            return bool(response.status == 200)
    except (OSError, ValueError):
        return False


def up(workspace: Workspace, prefect_port: int, mlflow_port: int, tell: Callable[[str], None]) -> None:
    """Start all parts, deploy, and keep them running until SIGINT or SIGTERM; then end them all.

    Raises:
        UserError: a port is in use, or a part does not start.
    """
    prefect = os.environ.get("PREFECT_API_URL") or f"http://127.0.0.1:{prefect_port}/api"
    mlflow = f"http://127.0.0.1:{mlflow_port}" if connection.address() == "embedded" else connection.address()
    ours = {"prefect": not os.environ.get("PREFECT_API_URL"), "mlflow": connection.address() == "embedded"}
    # What another supervisor, killed meanwhile, has left; and what a killed run made and did not write down.
    down(workspace)
    with suppress(BusyError), workspace.exclusive():
        ledger.record(workspace)
    for name, port, option in (("prefect", prefect_port, "--prefect-port"), ("mlflow", mlflow_port, "--mlflow-port")):
        if ours[name] and _taken(port):
            raise UserError(f"port {port} is in use{_user_of(port)}: name another by {option}")
    environment = _environment(workspace, prefect)
    commands = _commands(workspace, prefect_port, mlflow_port)
    # Written down, and shown: without the password that the user's own server may have in its address.
    platform = Platform(supervisor=Process.of(os.getpid()), prefect=masked(prefect), mlflow=mlflow)
    with _ended_by_signals(), _supervised(workspace, platform, environment, tell) as parts:
        # Both at once, since each takes seconds of imports.
        for name in ("prefect", "mlflow"):
            if ours[name]:
                parts.start(name, commands[name])
        parts.wait("prefect", f"{prefect}/health")
        os.environ |= environment
        from flows.supervisor.prefect_api import cancel_missed, make_pool, next_runs, notify
        from flows.supervisor.reconcile import reconcile

        make_pool(POOL)
        for line in [*cancel_missed(), *reconcile(workspace)]:
            tell(line)
        deploying = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "prefect",
                "--no-prompt",
                "deploy",
                "--all",
                "--prefect-file",
                _deployments(workspace),
            ],
            cwd=_PROJECT,
            env={**environment, "PWD": str(_PROJECT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        parts.start("worker", commands["worker"])
        if ours["mlflow"]:
            parts.wait("mlflow", f"{mlflow}/health")
        said, _ = deploying.communicate(timeout=START_SECONDS)
        if deploying.returncode:
            raise UserError(f"prefect.yaml was not deployed: {' '.join(said.split())[-300:]}")
        # The server plans the runs of new deployments every five seconds.
        planned_until = time.monotonic() + PLAN_SECONDS
        while not next_runs() and time.monotonic() < planned_until:
            time.sleep(0.3)
        # At last, because the server overlooks an automation that is made while its services start.
        notify(Params.load(workspace.params).retrain.notify)
        parts.ready()
        tell("")
        parts.keep(lambda: reconcile(workspace))


def down(workspace: Workspace) -> bool:
    """End the platform of the workspace, or what is left of it; whether there was something to end."""
    platform = find(workspace)
    if platform is None:
        return False
    supervisor = platform.supervisor.find()
    if supervisor and supervisor.pid != os.getpid():
        supervisor.terminate()
        with suppress(psutil.TimeoutExpired):
            supervisor.wait(STOP_RUNS_SECONDS + 2 * STOP_SECONDS)
        with suppress(psutil.Error):
            supervisor.kill()
    left = members(workspace)
    _end(workspace, platform.parts)
    _record(workspace).unlink(missing_ok=True)
    return supervisor is not None or bool(left)


class _Parts:
    """The processes of the platform, as their supervisor sees them."""

    def __init__(
        self, workspace: Workspace, platform: Platform, environment: Mapping[str, str], tell: Callable[[str], None]
    ) -> None:
        self.platform = platform
        self._workspace, self._environment, self._tell = workspace, environment, tell
        self._commands: dict[str, list[str]] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._quick_ends: dict[str, int] = {}
        self._due: dict[str, float] = {}
        self._write()

    def start(self, name: str, command: list[str]) -> None:
        """Start the part, in a session of its own, so that Ctrl-C reaches only who ends them in order."""
        log = _log(self._workspace, name)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=self._workspace.root,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._commands[name], self._processes[name] = command, process
        parts = {**self.platform.parts, name: Process.of(process.pid)}
        self.platform = self.platform.model_copy(update={"parts": parts})
        self._write()

    def wait(self, name: str, address: str) -> None:
        """Until the part answers at `address`.

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
        self.platform = self.platform.model_copy(update={"ready": True})
        self._write()

    def keep(self, reconcile: Callable[[], Iterable[str]]) -> None:
        """Start again what ends, and close what died, for ever."""
        due = time.monotonic()
        while True:
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

    def _again(self, name: str) -> None:
        """Start the part that ended, at once or, where it ends again and again, when its pause is over."""
        now = time.time()
        if name in self._due:
            if now >= self._due[name]:
                del self._due[name]
                self.start(name, self._commands[name])
            return
        # A server that was killed leaves its own child on the port. A run outlives its worker, and is left to.
        if name != "worker":
            with suppress(OSError):
                os.killpg(self._processes[name].pid, signal.SIGKILL)
        quick = now - self.platform.parts[name].started < QUICK_SECONDS
        ends = self._quick_ends[name] = self._quick_ends.get(name, 0) + 1 if quick else 0
        pause = min(2**ends, MAX_PAUSE_SECONDS) if ends else 0
        self._due[name] = now + pause
        why = f" in {pause} seconds: {self._last_words(name)}" if pause else ""
        self._tell(f"{name} ended (exit code {self._processes[name].returncode}) and is started again{why}")

    def _last_words(self, name: str) -> str:
        log = _log(self._workspace, name)
        lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
        return f"{' '.join(lines[-1:])[-300:] or 'it said nothing'} (all of it: {log})"

    def _write(self) -> None:
        record = _record(self._workspace)
        with disk_errors(record):
            record.parent.mkdir(parents=True, exist_ok=True)
            staged = record.with_suffix(".tmp")
            staged.write_text(self.platform.model_dump_json(indent=2))
            staged.replace(record)


@contextmanager
def _supervised(
    workspace: Workspace, platform: Platform, environment: Mapping[str, str], tell: Callable[[str], None]
) -> Iterator[_Parts]:
    parts = _Parts(workspace, platform, environment, tell)
    try:
        yield parts
    except KeyboardInterrupt:
        tell("Ending the platform")
    finally:
        # A second Ctrl-C shall not leave half of it.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        _end(workspace, parts.platform.parts)
        _record(workspace).unlink(missing_ok=True)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGINT, which a background process may have inherited as ignored, both raise KeyboardInterrupt."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    yield


def _end(workspace: Workspace, parts: Mapping[str, Process]) -> None:
    """Runs first, which write a checkpoint while the server can still be told of it; then worker and servers."""
    # The worker would take the next run; it does not end by SIGTERM as long as one runs.
    runs = [process for process in members(workspace) if _is_run(process)]
    for process in runs:
        with suppress(psutil.Error):
            process.terminate()
    psutil.wait_procs(runs, STOP_RUNS_SECONDS)
    everything = members(workspace)
    found = [process for part in parts.values() if (process := part.find())]
    for process in found:
        with suppress(psutil.Error):
            process.terminate()
    psutil.wait_procs(found, STOP_SECONDS)
    for process in {*everything, *members(workspace)}:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(everything, STOP_SECONDS)


def members(workspace: Workspace) -> list[psutil.Process]:
    """All processes of the workspace's platform but its supervisor; also those whose parent was killed."""
    found: dict[int, psutil.Process] = {}
    mark = str(workspace.root.resolve())
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(_MARK) == mark and _lives(process):
                # Ray's change their title, and with it what can be read of their environment.
                found |= {member.pid: member for member in [process, *_children(process)]}
    return [process for pid, process in found.items() if pid != os.getpid()]


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def _is_run(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return "prefect.engine" in " ".join(process.cmdline())
    return False


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.Error:
        return []


def _commands(workspace: Workspace, prefect_port: int, mlflow_port: int) -> dict[str, list[str]]:
    python = [sys.executable, "-m"]
    return {
        "prefect": [*python, "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(prefect_port)],
        "worker": [*python, "prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", POOL],
        "mlflow": [
            *[*python, "mlflow", "server", "--host", "127.0.0.1", "--port", str(mlflow_port), "--workers", "1"],
            *[
                "--backend-store-uri",
                connection.uri(workspace),
                "--artifacts-destination",
                f"{workspace.mlruns}/artifacts",
            ],
        ],
    }


def _environment(workspace: Workspace, prefect: str) -> dict[str, str]:
    quiet = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # Eight processes of 240 MB, for judges of language models.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "RAY_USAGE_STATS_ENABLED": "0",
        "DVC_NO_ANALYTICS": "1",
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    named = {"PREFECT_HOME": str(workspace.state / "prefect"), **os.environ, "PREFECT_API_URL": prefect, "PATH": path}
    return {**quiet, **named, _MARK: str(workspace.root.resolve())}


def _deployments(workspace: Workspace) -> Path:
    """The workspace's prefect.yaml, or the project's, with deployments that work in this workspace."""
    own = workspace.root / "prefect.yaml"
    described: dict[str, Any] = yaml.safe_load((own if own.exists() else _PROJECT / "prefect.yaml").read_text())
    # Into a file: written to the worker, which would pass it on, a run would die at its next line after the worker did.
    log = _log(workspace, "runs")
    output = f'exec "$0" -m prefect.engine >>{shlex.quote(str(log))} 2>&1'
    command = shlex.join(["sh", "-c", output, sys.executable])
    for deployment in described["deployments"]:
        deployment["parameters"] = {**(deployment.get("parameters") or {}), "workspace": str(workspace.root)}
        pool = deployment.get("work_pool") or {}
        variables = {"command": command, **(pool.get("job_variables") or {})}
        deployment["work_pool"] = {"name": POOL, **pool, "job_variables": variables}
    file = workspace.state / "platform" / "prefect.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(described, sort_keys=False))
    if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
        log.unlink()
    return file


def _record(workspace: Workspace) -> Path:
    return workspace.state / "platform.json"


def _log(workspace: Workspace, name: str) -> Path:
    return workspace.state / "platform" / f"{name}.log"


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _user_of(port: int) -> str:
    """By whom, where that can be seen."""
    with suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.pid and connection.status == "LISTEN":
                return f" by process {connection.pid} ({psutil.Process(connection.pid).name()})"
    return ""
