"""The server that Prefect starts for one flow, which outlives a process that is killed: the next run ends it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil
from pydantic import TypeAdapter

from components.services.platform import Process
from components.workspace.workspace import Workspace

_SERVERS = TypeAdapter(list[Process])


def note(workspace: Workspace) -> None:
    """Remember the servers that this process has started, if any."""
    started = [Process.of(child.pid) for child in psutil.Process().children(recursive=True) if _is_server(child)]
    _record(workspace).write_bytes(_SERVERS.dump_json(started))


def end_orphans(workspace: Workspace) -> None:
    """End the servers whose process was killed. Called by the process that holds the workspace."""
    try:
        noted = _SERVERS.validate_json(_record(workspace).read_bytes())
    except (OSError, ValueError):
        return
    for server in noted:
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
