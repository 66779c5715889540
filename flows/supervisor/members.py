"""The processes of a workspace's platform: how they are found whoever started them, and ended in order."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress

import psutil

from components.services.process import Process, is_alive
from flows.supervisor.commands import MARK

# Seconds that runs have to end, and then servers: with what comes between, less than the ten of `ganflow down`.
STOP_RUNS_SECONDS, STOP_SECONDS = 6.0, 1.5


def members(folder: str) -> list[psutil.Process]:
    """All processes of the workspace's platform but its supervisor; also those whose parent was killed.

    `folder`: what the kernel knows the workspace by, as `folder_id` returns it.
    """
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == folder and is_alive(process):
                # Ray's change their title, and with it what can be read of their environment.
                found |= {member.pid: member for member in [process, *_children(process)]}
    return [process for pid, process in found.items() if pid != os.getpid()]


def end(folder: str, parts: Mapping[str, Process]) -> None:
    """End runs first, which write a checkpoint while the server can still be told of it; then worker and servers."""
    # The worker would take the next run; it does not end by SIGTERM as long as one runs.
    runs = [process for process in members(folder) if _is_run(process)]
    for process in runs:
        with suppress(psutil.Error):
            process.terminate()
    psutil.wait_procs(runs, STOP_RUNS_SECONDS)
    everything = members(folder)
    found = [process for part in parts.values() if (process := part.find())]
    for process in found:
        with suppress(psutil.Error):
            process.terminate()
    psutil.wait_procs(found, STOP_SECONDS)
    for process in {*everything, *members(folder)}:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(everything, STOP_SECONDS)


def _is_run(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return "prefect.engine" in " ".join(process.cmdline())
    return False


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.Error:
        return []
