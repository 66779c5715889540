"""This user's processes of Ray, Prefect and MLflow, and where they listen."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress

import psutil

# What belongs to a tool, by command line.
_TOOLS = {
    "Ray": re.compile(r"(?:^ray::|/ray/core/src/ray/|/ray/dashboard/|/ray/_private/|/ray/autoscaler/)"),
    "Prefect": re.compile(r"\bprefect(?:\.server| server start| worker start|\.(?:flow_)?engine)\b"),
    "MLflow": re.compile(
        r"\bmlflow(?:\.server| server| ui| models serve)\b|\bcomponents\.services\.tracking\.server\b"
    ),
}


def related(reached: Iterable[psutil.Process] | None = None) -> list[psutil.Process]:
    """Return this user's processes of Ray, Prefect and MLflow."""
    found = []
    for process in psutil.process_iter() if reached is None else reached:
        with suppress(psutil.Error):
            if process.uids().real == os.getuid() and tool_of(process):
                found.append(process)
    return found


def tool_of(process: psutil.Process) -> str | None:
    """Which tool's process it is, by its command line."""
    command = " ".join(process.cmdline())
    return next((tool for tool, pattern in _TOOLS.items() if pattern.search(command)), None)


def listening(process: psutil.Process) -> set[tuple[str, int]]:
    """Return the addresses at which it takes connections."""
    found = process.net_connections("tcp")
    return {(each.laddr.ip, each.laddr.port) for each in found if each.status == psutil.CONN_LISTEN}
