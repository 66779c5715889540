"""Servers, and clusters of Ray of which each node can disappear, on this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.harness.trainings import BIN, NAMED, QUIET

NODE = [str(BIN / "ray"), "start", "--block", "--num-cpus=1", "--disable-usage-stats"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_server(command: list[str], port: int, folder: Path, **variables: str) -> subprocess.Popen[bytes]:
    """`command`, once something answers at `port`."""
    quiet = subprocess.DEVNULL
    environment = {name: value for name, value in os.environ.items() if name not in NAMED} | QUIET | variables
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=quiet, stderr=quiet, start_new_session=True)
    deadline = time.monotonic() + 90
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return process
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)


def end(process: subprocess.Popen[bytes]) -> None:
    for each in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait()


@contextmanager
def cluster(folder: Path, count: int) -> Iterator[tuple[dict[str, str], list[subprocess.Popen[bytes]]]]:
    """A Ray cluster of nodes with one processor each, all on this machine."""
    variables = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "faults",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        "RAY_health_check_initial_delay_ms": "1000",
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_failure_threshold": "3",
    }
    port = free_port()
    address = f"127.0.0.1:{port}"
    nodes = [start_server([*NODE, "--head", f"--port={port}", "--include-dashboard=false"], port, folder, **variables)]
    try:
        for _ in range(count - 1):
            nodes.append(start_server([*NODE, f"--address={address}"], port, folder, **variables))
        script = f"import ray; ray.init('{address}', log_to_driver=False); print(sum(n['Alive'] for n in ray.nodes()))"
        command, environment = [sys.executable, "-c", script], os.environ | variables
        while True:
            told = subprocess.run(command, env=environment, capture_output=True, text=True).stdout.split()
            if told[-1:] == [str(count)]:
                break
        yield variables | {"RAY_ADDRESS": address}, nodes
    finally:
        for node in nodes:
            with suppress(psutil.NoSuchProcess):
                end(node)


def works(node: subprocess.Popen[bytes]) -> bool:
    for child in psutil.Process(node.pid).children(recursive=True):
        with suppress(psutil.Error):
            if "RayTrainWorker" in " ".join(child.cmdline()):
                return True
    return False
