"""How the parts of the platform are started: commands, environment, deployments and logs."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from components.services.tracking import connection
from components.workspace.workspace import Workspace

POOL = "ganflow"
MAX_LOG_BYTES = 10_000_000
# In the environment of every process of the platform of that workspace.
MARK = "GANFLOW_PLATFORM"
PROJECT = Path(__file__).resolve().parents[2]


class Part(NamedTuple):
    """A process of the platform: how it is started, and, if it is a server, its port and where it says that it is well.

    The command line's option for the port is `--NAME-port`.
    """

    name: str
    command: list[str]
    port: int | None = None
    health: str | None = None


def parts(workspace: Workspace, prefect_port: int, mlflow_port: int) -> list[Part]:
    """Return what is to be kept running: all but the servers that the user named."""
    python = [sys.executable, "-m"]
    local = ["--host", "127.0.0.1", "--port"]
    found = []
    if not os.environ.get("PREFECT_API_URL"):
        command = [*python, "prefect", "server", "start", *local, str(prefect_port)]
        found.append(Part("prefect", command, prefect_port, f"http://127.0.0.1:{prefect_port}/api/health"))
    if connection.address() == "embedded":
        store = ["--backend-store-uri", connection.uri(workspace)]
        store += ["--artifacts-destination", f"{workspace.mlruns}/artifacts"]
        command = [*python, "mlflow", "server", *local, str(mlflow_port), "--workers", "1", *store]
        found.append(Part("mlflow", command, mlflow_port, f"http://127.0.0.1:{mlflow_port}/health"))
    command = [*python, "prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", POOL]
    return [*found, Part("worker", command)]


def environment(workspace: Workspace, prefect: str) -> dict[str, str]:
    """Return the environment of all parts; `prefect` is the address of Prefect's API."""
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
    return {**quiet, **named, MARK: str(workspace.root.resolve())}


def deployments(workspace: Workspace) -> Path:
    """Write the workspace's prefect.yaml, or the project's, with deployments that work in this workspace; its copy."""
    own = workspace.root / "prefect.yaml"
    described: dict[str, Any] = yaml.safe_load((own if own.exists() else PROJECT / "prefect.yaml").read_text())
    # Into a file: written to the worker, which would pass it on, a run would die at its next line after the worker did.
    log = log_of(workspace, "runs")
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


def log_of(workspace: Workspace, name: str) -> Path:
    """Where the part, or `runs`, writes what it has to say."""
    return workspace.state / "platform" / f"{name}.log"
