"""The server that Prefect starts for one flow, which outlives a process that is killed: the next run ends it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil

from components.gan.options import Options
from components.services.process import Process, folder_id
from components.workspace.workspace import Workspace


class _Servers(Options):
    """The servers that a run in a workspace has started, and what the kernel knows the workspace by."""

    folder: str
    servers: tuple[Process, ...]


def note(workspace: Workspace) -> None:
    """Remember the servers that this process has started, if any."""
    started = []
    for child in psutil.Process().children(recursive=True):
        with suppress(OSError):
            started += [Process.of(child.pid)] if _is_server(child) else []
    noted = _Servers(folder=folder_id(workspace), servers=tuple(started))
    _record(workspace).write_text(noted.model_dump_json())


def end_orphans(workspace: Workspace) -> None:
    """End the servers whose process was killed. Called by the process that holds the workspace."""
    try:
        noted = _Servers.model_validate_json(_record(workspace).read_bytes())
    except (OSError, ValueError):
        return
    if noted.folder != folder_id(workspace):
        # A copy: what it names are the servers of the workspace that it was copied from.
        return
    for server in noted.servers:
        if (process := server.find()) and _is_server(process):
            with suppress(psutil.Error):
                process.kill()


def _record(workspace: Workspace) -> Path:
    return workspace.state / "prefect-server.json"


def _is_server(process: psutil.Process) -> bool:
    try:
        return "prefect.server" in " ".join(process.cmdline())
    except psutil.Error:
        return False
