"""The platform on one machine: Prefect's server, a worker and MLflow's pages, kept running by one process.

What is named by `PREFECT_API_URL` or `MLFLOW_TRACKING_URI` is used instead of started. MLflow's server shows the
workspace's own database, which runs go on writing directly: faster, and its end costs no run anything.

Not by what there is: a run of `prefect.serve` ends when the process that serves it is killed; `honcho` ends all parts
when one ends; and what `supervisord` started before it was killed keeps its port, on which the next one starts in vain.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from components.gan.errors import BusyError, UserError
from components.provenance import ledger
from components.services import password, signals
from components.services.address import answers, masked
from components.services.platform import Platform, find, hold, lock, record, running
from components.services.process import Process, folder_id
from components.services.tracking import connection
from components.workspace.params import Params
from components.workspace.project import PROJECT
from components.workspace.workspace import Workspace
from flows.supervisor import commands
from flows.supervisor.members import STOP_RUNS_SECONDS, STOP_SECONDS, end, members
from flows.supervisor.parts import START_SECONDS, Parts

PLAN_SECONDS = 8


def use(workspace: Workspace) -> None:
    """Let this process's flows go to the platform's Prefect server, where one runs and no other is named."""
    platform = running(workspace)
    if platform and not os.environ.get("PREFECT_API_URL") and answers(f"{platform.prefect}/health"):
        enter(workspace, platform)


def enter(workspace: Workspace, platform: Platform) -> None:
    """Let this process ask the platform's Prefect server."""
    os.environ["PREFECT_API_URL"] = platform.prefect
    # A platform of before there was a password asks for none.
    if any(name == "prefect" for name in platform.parts) and (known := password.known(workspace)):
        os.environ["PREFECT_API_AUTH_STRING"] = password.prefect_auth(known)


def up(workspace: Workspace, prefect_port: int, mlflow_port: int, tell: Callable[[str], None]) -> None:
    """Start all parts, deploy, and keep them running until a signal ends it; then end them all.

    Raises:
        BusyError: another process keeps the platform of this workspace running.
        UserError: a port is in use, or a part does not start.
    """
    with hold(workspace):
        _up(workspace, prefect_port, mlflow_port, tell)


def _up(workspace: Workspace, prefect_port: int, mlflow_port: int, tell: Callable[[str], None]) -> None:
    prefect = os.environ.get("PREFECT_API_URL") or f"http://127.0.0.1:{prefect_port}/api"
    mlflow = f"http://127.0.0.1:{mlflow_port}" if connection.address() == "embedded" else connection.address()
    wanted = commands.parts(workspace, prefect_port, mlflow_port)
    own = any(part.name == "prefect" for part in wanted)
    if left := _clear(workspace):
        tell(f"{left} processes of a platform whose supervisor was killed are ended")
    # What a killed run made and did not write down.
    with suppress(BusyError), workspace.exclusive():
        ledger.record(workspace)
    for part in wanted:
        if part.port and _taken(part.port):
            raise UserError(f"port {part.port} is in use{_user_of(part.port)}: name another by --{part.name}-port")
    environment = commands.environment(workspace, prefect, own)
    # Written down, and shown: without the password that the user's own server may have in its address.
    platform = Platform(
        supervisor=Process.of(os.getpid()),
        folder=folder_id(workspace),
        root=str(workspace.root.resolve()),
        prefect=masked(prefect),
        mlflow=mlflow,
    )
    with _ended_by_signals(), _supervised(workspace, platform, environment, tell) as parts:
        # All servers at once, since each takes seconds of imports.
        for part in wanted:
            if part.health:
                parts.start(part)
        parts.wait("prefect", f"{prefect}/health")
        os.environ |= environment
        from flows.supervisor.deployments import Deployed, Plan
        from flows.supervisor.prefect_api import cancel_missed, cancel_runs_of, make_pool, notify
        from flows.supervisor.reconcile import reconcile

        make_pool(commands.POOL)
        plan = Plan(workspace)
        if own and (moved := Deployed.of(workspace).moved_from(workspace)):
            tell(
                f"this workspace was copied or moved from {moved}: {cancel_runs_of(moved)} runs due there are cancelled"
            )
        for line in [*cancel_missed(), *reconcile(workspace, own), *plan.remove_dropped()]:
            tell(line)
        deploying = _deploying(plan.file(), environment)
        for part in wanted:
            if not part.health:
                parts.start(part)
        for part in wanted:
            if part.health:
                parts.wait(part.name, part.health)
        _wait_until_deployed(deploying)
        for line in plan.set_schedules():
            tell(line)
        _wait_until_planned()
        # At last, because the server overlooks an automation that is made while its services start.
        notify(Params.load(workspace.params).retrain.notify)
        parts.ready()
        tell("")
        parts.keep(lambda: reconcile(workspace, own))


def _deploying(file: Path, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start to deploy all of `file`."""
    return subprocess.Popen(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)],
        cwd=PROJECT,
        env={**environment, "PWD": str(PROJECT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _wait_until_deployed(deploying: subprocess.Popen[str]) -> None:
    """Wait until all is deployed.

    Raises:
        UserError: something in prefect.yaml is wrong.
    """
    said, _ = deploying.communicate(timeout=START_SECONDS)
    if deploying.returncode:
        raise UserError(f"prefect.yaml was not deployed: {' '.join(said.split())[-300:]}")


def _wait_until_planned() -> None:
    """Wait until the server knows which run comes next."""
    from flows.supervisor.prefect_api import next_runs

    # The server plans the runs of new deployments every five seconds.
    planned_until = time.monotonic() + PLAN_SECONDS
    while not next_runs() and time.monotonic() < planned_until:
        time.sleep(0.3)


def down(workspace: Workspace) -> bool:
    """End the platform of the workspace, or what is left of it; whether there was something to end.

    Raises:
        BusyError: it runs where this process can end nothing.
    """
    platform = running(workspace)
    supervisor = platform.supervisor.find() if platform else None
    if supervisor:
        supervisor.terminate()
        with suppress(psutil.TimeoutExpired):
            supervisor.wait(STOP_RUNS_SECONDS + 2 * STOP_SECONDS)
        with suppress(psutil.Error):
            supervisor.kill()
            supervisor.wait(STOP_SECONDS)
    if not (lock(workspace).exists() or record(workspace).exists()):
        return False
    with hold(workspace):
        return bool(_clear(workspace)) or supervisor is not None


def _clear(workspace: Workspace) -> int:
    """End what a supervisor has left that was killed; how many processes that was. The caller holds the platform."""
    platform = find(workspace)
    left = len(members(folder_id(workspace)))
    end(folder_id(workspace), platform.parts if platform else {})
    # In a copy of a workspace it is a copy, of what is none of this workspace's business.
    record(workspace).unlink(missing_ok=True)
    return left


@contextmanager
def _supervised(
    workspace: Workspace, platform: Platform, environment: Mapping[str, str], tell: Callable[[str], None]
) -> Iterator[Parts]:
    parts = Parts(workspace, platform, environment, tell)
    try:
        yield parts
    except KeyboardInterrupt:
        tell("Ending the platform")
    finally:
        # A second Ctrl-C shall not leave half of it.
        for number in (signal.SIGINT, *signals.STOPS):
            signal.signal(number, signal.SIG_IGN)
        end(parts.platform.folder, parts.platform.parts)
        record(workspace).unlink(missing_ok=True)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Every signal that ends a process raises KeyboardInterrupt; so does Ctrl-C, which may be inherited as ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with signals.as_interrupt():
        yield


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
