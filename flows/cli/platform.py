"""The commands of daily life: `ganflow up`, `down`, `status`, `drift` and `ui`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from components.gan.errors import BusyError, UserError
from components.services import site_cache
from components.services.platform import find, hold, running
from components.services.tracking import connection, pages
from components.workspace.params import Params
from components.workspace.workspace import Workspace
from flows.cli.shared import (
    ExistingOption,
    JsonOption,
    SetOption,
    WorkspaceOption,
    away,
    check_servers,
    existing_workspace,
    ready,
    typed_place,
    workspace_at,
)
from flows.cli.status import lines_of, next_lines, next_runs, status_of
from flows.supervisor import supervisor
from flows.supervisor.commands import mlflow_pages
from flows.supervisor.logs import last_line, log_of
from flows.supervisor.parts import START_SECONDS


def up(
    folder: WorkspaceOption = None,
    prefect_port: Annotated[
        int, typer.Option(min=1, max=65535, help="of Prefect's server, on this machine only")
    ] = 4200,
    mlflow_port: Annotated[int, typer.Option(min=1, max=65535, help="of MLflow's pages, on this machine only")] = 5000,
    detach: Annotated[
        bool, typer.Option("--detach", help="return when everything runs; `ganflow down` ends it")
    ] = False,
) -> None:
    """Start the platform: schedules, worker and pages.

    Prefect's server and worker, MLflow's pages and all of prefect.yaml, on this machine only.
    """
    workspace = workspace_at(folder)
    Params.load(workspace.params)
    check_servers()
    if platform := running(workspace):
        print(f"The platform runs already (process {platform.supervisor.pid}).")
        _wait_until_ready(workspace, platform.supervisor.pid)
        _show(workspace)
        return
    with hold(workspace):
        # It runs elsewhere otherwise, which is said here at once.
        pass
    # Its worker's flows, and what they start, find it in their environment.
    site_cache.prepare(workspace.root)
    if detach:
        _detached(workspace, prefect_port, mlflow_port)
        _show(workspace)
        return
    print("Starting Prefect's server, its worker and MLflow: about half a minute")
    with away(workspace):
        supervisor.up(workspace, prefect_port, mlflow_port, lambda line: _tell(line, workspace))
    print("All of it has ended.")


def down(folder: ExistingOption = Path()) -> None:
    """Stop the platform with all its processes.

    A run in progress writes a checkpoint and continues at the next start.
    """
    workspace = existing_workspace(folder)
    began = time.monotonic()
    if supervisor.down(workspace):
        print(f"The platform has ended ({time.monotonic() - began:.0f} s).")
    else:
        print("The platform does not run.")


def status(
    folder: ExistingOption = Path(),
    as_json: JsonOption = False,
    sizes: Annotated[
        bool, typer.Option("--sizes", help="add up what the folders take; slow after thousands of runs")
    ] = False,
) -> None:
    """Show servers, runs, schedules, the champion and the disk."""
    workspace = existing_workspace(folder)
    found = status_of(workspace, sizes)
    if as_json:
        print(json.dumps(found.model_dump(exclude_unset=True), indent=2, default=str))
        return
    for part, lines in lines_of(found):
        for number, line in enumerate(lines):
            print(f"{'' if number else part:<10} {line}")


def drift(
    given: Annotated[
        list[str],
        typer.Option(
            "--given",
            metavar="PHOTO_OR_FOLDER",
            help="photos, as `ganflow apply` takes them, to be compared with what the champion was given in training",
        ),
    ] = [],  # noqa: B006 - typer copies it
    folder: WorkspaceOption = None,
    overrides: SetOption = [],  # noqa: B006
) -> None:
    """Compare new images with what the champion was trained on.

    They are read from `retrain.inbox`; nothing is started.
    """
    named = [typed_place(photo) for photo in given]
    workspace, params = ready(folder, overrides)
    from components.drift import drift as compare
    from components.drift import given_drift

    print((given_drift(named, params, workspace) if named else compare(params, workspace)).message)


def _tell(line: str, workspace: Workspace) -> None:
    """Print a line of the supervisor; an empty one when everything runs."""
    if line:
        # A platform goes on when the terminal that it was started from is gone.
        with suppress(OSError):
            print(f"{datetime.now():%H:%M:%S} {line}", flush=True)
    else:
        _show(workspace)
        print("Ctrl-C ends all of it.", flush=True)


def _detached(workspace: Workspace, prefect_port: int, mlflow_port: int) -> None:
    log = log_of(workspace, "platform")
    log.parent.mkdir(parents=True, exist_ok=True)
    ports = ["--prefect-port", str(prefect_port), "--mlflow-port", str(mlflow_port)]
    command = [str(Path(sys.executable).parent / "ganflow"), "up", "--workspace", str(workspace.root), *ports]
    with log.open("ab") as output:
        since = output.tell()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    _wait_until_ready(workspace, process.pid, process, since)


def _wait_until_ready(
    workspace: Workspace, pid: int, process: subprocess.Popen[bytes] | None = None, since: int = 0
) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        platform = find(workspace)
        if platform and platform.supervisor.pid == pid and platform.ready:
            return
        if process and process.poll() == BusyError.exit_code and platform:
            # Another one was faster, at this very moment.
            pid, process = platform.supervisor.pid, None
        elif process and process.poll() is not None:
            said = last_line(log_of(workspace, "platform"), since)
            raise UserError(said.removeprefix("ganflow: ") or "the platform did not start")
        time.sleep(0.2)
    raise UserError("the platform is not ready after two minutes: `ganflow down`, then `ganflow up` again")


def _show(workspace: Workspace) -> None:
    platform = find(workspace)
    if platform is None:
        return
    print(f"Prefect   {platform.pages}")
    print(f"MLflow    {pages.home(platform.mlflow, workspace)}")
    print("Password  `ganflow login` shows what the pages ask for, `ganflow env` sets it for prefect and mlflow")
    supervisor.use(workspace)
    for number, line in enumerate(next_lines(next_runs())):
        print(f"{'' if number else 'Next':<9} {line}", flush=True)


def ui(
    folder: WorkspaceOption = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="on this machine only")] = 5000,
) -> None:
    """Open MLflow's pages until Ctrl-C.

    Experiments, sample images and registered models.
    """
    workspace = workspace_at(folder)
    if connection.address() != "embedded":
        named = pages.server_of(workspace)
        print(f"The experiments are at {pages.home(named, workspace) if named else connection.address()}")
        return
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise UserError(f"port {port} is in use: name another by --port")
    print(f"Experiments and models: {pages.home(f'http://127.0.0.1:{port}', workspace)} (Ctrl-C ends it)")
    print("`ganflow login` shows the user and the password that it asks for.", flush=True)
    part = mlflow_pages(workspace, port)
    quiet = {**os.environ, **part.environment, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    # In a session of its own, because it does not end its own child when it is killed.
    server = subprocess.Popen(part.command, env=quiet, start_new_session=True)
    try:
        server.wait()
    except KeyboardInterrupt:
        with suppress(OSError):
            print("The pages have ended.")
    finally:
        with suppress(OSError):
            os.killpg(server.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            server.wait(5)
        with suppress(OSError):
            os.killpg(server.pid, signal.SIGKILL)
