"""The commands of daily life: `ganflow up`, `down`, `status`, `drift` and `ui`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from components.gan.errors import NotThereError, UserError
from components.services.address import answers
from components.services.platform import Platform, find
from components.services.tracking import champions, connection
from components.workspace.artifacts import Registration
from components.workspace.params import Params
from components.workspace.verdict import Verdict
from components.workspace.workspace import Workspace
from flows.cli.shared import SetOption, WorkspaceOption, check_servers, ready, workspace_at
from flows.supervisor import supervisor
from flows.supervisor.parts import START_SECONDS

_JsonOption = Annotated[bool, typer.Option("--json", help="for programs")]
RUNS = 5


def up(
    folder: WorkspaceOption = None,
    prefect_port: Annotated[
        int, typer.Option(min=1, max=65535, help="of Prefect's server, on this machine only")
    ] = 4200,
    mlflow_port: Annotated[int, typer.Option(min=1, max=65535, help="of MLflow's pages, on this machine only")] = 5000,
    detach: Annotated[bool, typer.Option("--detach", help="come back when all runs; `ganflow down` ends it")] = False,
) -> None:
    """Start the platform: schedules, worker and pages.

    Prefect's server and worker, MLflow's pages and all of prefect.yaml, on this machine only.
    """
    workspace = workspace_at(folder)
    Params.load(workspace.params)
    check_servers()
    platform = find(workspace)
    if platform and platform.running:
        print(f"The platform runs already (process {platform.supervisor.pid}).")
        _wait_until_ready(workspace, platform.supervisor.pid)
        _show(workspace)
        return
    if detach:
        _detached(workspace, prefect_port, mlflow_port)
        _show(workspace)
        return
    print("Starting Prefect's server, its worker and MLflow: about half a minute")
    supervisor.up(workspace, prefect_port, mlflow_port, lambda line: _tell(line, workspace))
    print("All of it has ended.")


def down(folder: WorkspaceOption = None) -> None:
    """Stop the platform with all its processes.

    A run in progress writes a checkpoint and continues at the next start.
    """
    workspace = workspace_at(folder)
    began = time.monotonic()
    if supervisor.down(workspace):
        print(f"The platform has ended ({time.monotonic() - began:.0f} s).")
    else:
        print("The platform does not run.")


def status(folder: WorkspaceOption = None, as_json: _JsonOption = False) -> None:
    """Show servers, runs, schedules, the champion and disk use."""
    workspace = workspace_at(folder)
    found = _status(workspace)
    if as_json:
        print(json.dumps(found, indent=2, default=str))
        return
    for part, lines in _lines(found):
        for number, line in enumerate(lines):
            print(f"{'' if number else part:<10} {line}")


def drift(folder: WorkspaceOption = None, overrides: SetOption = []) -> None:  # noqa: B006
    """Compare new images with what the champion was trained on.

    They are read from `retrain.inbox`; nothing is started.
    """
    workspace, params = ready(folder, overrides)
    from components.drift import drift as compare

    print(compare(params, workspace).message)


def _tell(line: str, workspace: Workspace) -> None:
    """Print a line of the supervisor; an empty one when everything runs."""
    if line:
        print(f"{datetime.now():%H:%M:%S} {line}", flush=True)
    else:
        _show(workspace)
        print("Ctrl-C ends all of it.", flush=True)


def _detached(workspace: Workspace, prefect_port: int, mlflow_port: int) -> None:
    log = workspace.state / "platform" / "platform.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    ports = ["--prefect-port", str(prefect_port), "--mlflow-port", str(mlflow_port)]
    command = [str(Path(sys.executable).parent / "ganflow"), "up", "--workspace", str(workspace.root), *ports]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    _wait_until_ready(workspace, process.pid, process, log)


def _wait_until_ready(
    workspace: Workspace, pid: int, process: subprocess.Popen[bytes] | None = None, log: Path | None = None
) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        platform = find(workspace)
        if platform and platform.supervisor.pid == pid and platform.ready:
            return
        if process and process.poll() is not None:
            said = log.read_text(errors="replace").strip().splitlines() if log else []
            raise UserError(said[-1].removeprefix("ganflow: ") if said else "the platform did not start")
        time.sleep(0.2)
    raise UserError("the platform is not ready after two minutes: `ganflow down`, then `ganflow up` again")


def _show(workspace: Workspace) -> None:
    platform = find(workspace)
    if platform is None:
        return
    print(f"Prefect   {platform.pages}")
    print(f"MLflow    {platform.mlflow}")
    for part, lines in _lines({"next": _next(platform)}):
        for number, line in enumerate(lines):
            print(f"{'' if number else part.capitalize():<9} {line}", flush=True)


def _status(workspace: Workspace) -> dict[str, Any]:
    platform = find(workspace)
    running = platform is not None and platform.running
    server = os.environ.get("PREFECT_API_URL") or (platform.prefect if platform and running else None)
    servers: dict[str, Any] = {}
    if platform and running:
        for name, part in platform.parts.items():
            servers[name] = {"pid": part.pid, "healthy": part.find() is not None}
        servers.setdefault("prefect", {})["address"] = platform.pages
        servers.setdefault("mlflow", {})["address"] = platform.mlflow
        for name, health in (("prefect", f"{platform.prefect}/health"), ("mlflow", f"{platform.mlflow}/health")):
            servers[name]["healthy"] = answers(health)
    found: dict[str, Any] = {"platform": "running" if running else "not running", "servers": servers}
    if server and answers(f"{server}/health"):
        os.environ["PREFECT_API_URL"] = server
        found |= {"runs": _runs(), "next": _next_of(server)}
    found["champion"] = _champion(workspace)
    found["disk"] = {
        name: _size(workspace.root / name) for name in ("data", "artifacts", "mlruns", ".ganflow", ".dvc/cache")
    }
    return found


def _runs() -> list[dict[str, Any]]:
    from flows.supervisor.prefect_api import last_runs

    return [
        {
            "name": run.name,
            "state": run.state_name,
            "message": run.state.message if run.state else None,
            "began": run.start_time,
            "seconds": round(run.estimated_run_time.total_seconds()),
        }
        for run in last_runs(RUNS)
    ]


def _next(platform: Platform) -> list[dict[str, Any]]:
    return _next_of(platform.prefect)


def _next_of(server: str) -> list[dict[str, Any]]:
    os.environ["PREFECT_API_URL"] = server
    from flows.supervisor.prefect_api import next_runs

    return [{"deployment": name, "at": due} for name, due in next_runs()]


def _champion(workspace: Workspace) -> dict[str, Any] | None:
    name = Params.load(workspace.params).register.name
    changes = champions.history(name, workspace)
    if not changes:
        return None
    since = datetime.fromisoformat(changes[-1].time)
    found: dict[str, Any] = {"name": name, "version": changes[-1].version, "since": since}
    try:
        judged = Verdict.of(workspace)
        registered = Registration.load(workspace.registration)
    except NotThereError:
        return found
    found["last_registered"] = registered.version
    if judged:
        found["last_verdict"] = f"version {judged.challenger}: {judged.answer}"
    return found


def _size(folder: Path) -> int:
    """Bytes below a folder; files that vanish meanwhile count for nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(Path(place) / name).st_size
            except OSError:
                continue
    return total


def _lines(found: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Yield what `status` found, in words."""
    if "platform" in found:
        yield "platform", [found["platform"] + ("" if found["servers"] else ": `ganflow up` starts it")]
        for name, server in found["servers"].items():
            health = "healthy" if server["healthy"] else "DOES NOT ANSWER"
            process = f"process {server['pid']}, " if "pid" in server else ""
            yield name, [f"{process}{health}{', ' + server['address'] if 'address' in server else ''}"]
    if "runs" in found:
        told = [
            f"{run['name']}: {run['state']}, {run['seconds']} s{'; ' + run['message'] if run['message'] else ''}"[:200]
            for run in found["runs"]
        ]
        yield "runs", told or ["none yet"]
    if "next" in found:
        told = [f"{run['deployment']} at {run['at'].astimezone():%a %Y-%m-%d %H:%M %Z}" for run in found["next"]]
        yield "next", told or ["nothing is scheduled"]
    if "champion" in found:
        champion = found["champion"]
        if champion is None:
            yield "champion", ["none yet"]
        else:
            days = (datetime.now(UTC) - champion["since"]).total_seconds() / 86_400
            age = f"{days:.0f} days" if days >= 2 else f"{days * 24:.0f} hours"
            lines = [f"{champion['name']} version {champion['version']}, for {age}"]
            yield "champion", lines + ([champion["last_verdict"]] if "last_verdict" in champion else [])
    if "disk" in found:
        sizes = [f"{name} {size / 1e6:,.0f} MB" for name, size in found["disk"].items() if size]
        yield "disk", [", ".join(sizes) or "nothing"]


def ui(
    folder: WorkspaceOption = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="on this machine only")] = 5000,
) -> None:
    """Open MLflow's pages until Ctrl-C.

    Experiments, sample images and registered models.
    """
    workspace = workspace_at(folder)
    if connection.address() != "embedded":
        print(f"The experiments are at {connection.address()}")
        return
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise UserError(f"port {port} is in use: name another by --port")
    print(f"Experiments and models: http://127.0.0.1:{port} (Ctrl-C ends it)")
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    quiet = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    subprocess.run([*command, "--backend-store-uri", connection.uri(workspace)], env=quiet, check=False)
