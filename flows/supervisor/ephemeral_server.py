"""The server that Prefect starts for one flow, which outlives a process that is killed: the next run ends it."""

from __future__ import annotations

import json
from contextlib import suppress

import psutil

from components.workspace.workspace import Workspace


def note(workspace: Workspace) -> None:
    """Remember the servers that this process has started, if any."""
    servers = [
        {"pid": child.pid, "started": child.create_time()}
        for child in psutil.Process().children(recursive=True)
        if _is_server(child)
    ]
    (workspace.state / "prefect-server.json").write_text(json.dumps(servers))


def end_orphans(workspace: Workspace) -> None:
    """End the servers whose process was killed. Called by the process that holds the workspace."""
    try:
        noted = json.loads((workspace.state / "prefect-server.json").read_text())
    except (OSError, ValueError):
        return
    for server in noted:
        with suppress(psutil.Error, KeyError, TypeError):
            process = psutil.Process(server["pid"])
            # The number may be another process's by now.
            if process.create_time() == server["started"] and _is_server(process):
                process.kill()


def _is_server(process: psutil.Process) -> bool:
    try:
        return "prefect.server" in " ".join(process.cmdline())
    except psutil.Error:
        return False
