"""How the parts of the platform are started: commands, environment, deployments and logs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

from components.services.process import folder_id
from components.services.tracking import connection
from components.workspace.workspace import Workspace

POOL = "ganflow"
# In the environment of every process of the platform: what the kernel knows the workspace's folder by.
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


def mark(workspace: Workspace) -> str:
    """Return the line of the environment that tells the processes of this workspace's platform.

    Raises:
        OSError: the workspace is not there.
    """
    return f"{MARK}={folder_id(workspace)}"


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
    return {**quiet, **named, MARK: folder_id(workspace)}
