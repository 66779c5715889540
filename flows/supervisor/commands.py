"""How the parts of the platform are started: commands, environment, deployments and logs."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from components.services import password
from components.services.process import folder_id
from components.services.tracking import connection
from components.services.tracking.database import relocate
from components.workspace.workspace import Workspace

POOL = "ganflow"
# In the environment of every process of the platform: what the kernel knows the workspace's folder by.
MARK = "GANFLOW_PLATFORM"


class Part(NamedTuple):
    """A process of the platform: how it is started, and, if it is a server, its port and where it says that it is well.

    The command line's option for the port is `--NAME-port`.
    """

    name: str
    command: list[str]
    port: int | None = None
    health: str | None = None
    # Beside what all parts have.
    environment: Mapping[str, str] = MappingProxyType({})


def parts(workspace: Workspace, prefect_port: int, mlflow_port: int) -> list[Part]:
    """Return what is to be kept running: all but the servers that the user named."""
    python = [sys.executable, "-m"]
    local = ["--host", "127.0.0.1", "--port"]
    found = []
    if not os.environ.get("PREFECT_API_URL"):
        command, origin = [*python, "prefect", "server", "start", *local, str(prefect_port)], _origin(prefect_port)
        guard = password.for_prefect_server(password.prefect_auth(password.ensure(workspace)), origin)
        found.append(Part("prefect", command, prefect_port, f"{origin}/api/health", guard))
    if connection.address() == "embedded":
        found.append(mlflow_pages(workspace, mlflow_port))
    command = [*python, "prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", POOL]
    return [*found, Part("worker", command)]


def mlflow_pages(workspace: Workspace, port: int) -> Part:
    """Return the server that shows the workspace's own experiments, wherever the workspace lies now.

    Raises:
        UserError: its database is of another version of MLflow, or there is no space left.
    """
    relocate(workspace)
    server = [sys.executable, "-m", "components.services.tracking.server"]
    command = [*server, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--app-name", "basic-auth", "--backend-store-uri", connection.uri(workspace)]
    command += ["--artifacts-destination", f"{workspace.mlruns}/artifacts"]
    guard = password.for_mlflow_server(password.ensure(workspace), workspace)
    return Part("mlflow", command, port, f"{_origin(port)}/health", guard)


def _origin(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def mark(workspace: Workspace) -> str:
    """Return the line of the environment that tells the processes of this workspace's platform.

    Raises:
        OSError: the workspace is not there.
    """
    return f"{MARK}={folder_id(workspace)}"


def environment(workspace: Workspace, prefect: str, own: bool) -> dict[str, str]:
    """Return the environment of all parts; `prefect` is the address of Prefect's API, `own` whether it is a part."""
    quiet = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # Runs that ended 90 days ago leave its database, which else only grows; their results are no part of it.
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # Eight processes of 240 MB, for judges of language models.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "RAY_USAGE_STATS_ENABLED": "0",
        "DVC_NO_ANALYTICS": "1",
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    named = {"PREFECT_HOME": str(workspace.state / "prefect"), **os.environ, "PREFECT_API_URL": prefect, "PATH": path}
    if own:
        # What the user has set is for another server.
        named["PREFECT_API_AUTH_STRING"] = password.prefect_auth(password.ensure(workspace))
    return {**quiet, **named, MARK: folder_id(workspace)}
