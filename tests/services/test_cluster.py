"""A cluster that the user started: work goes there, and it is left running."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from components.services.cluster import tasks
from tests.conftest import environment, ganflow, succeeded


@pytest.fixture
def running() -> Iterator[dict[str, str]]:
    """A Ray cluster of one node with token authentication, and the variables that name it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", "--port", str(port)]
    command += ["--num-cpus", "2", "--include-dashboard=false", "--disable-usage-stats"]
    quiet = subprocess.DEVNULL
    head = subprocess.Popen(command, env=environment(**token), stdout=quiet, stderr=quiet, start_new_session=True)
    deadline = time.monotonic() + 240
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    yield {**token, "RAY_ADDRESS": f"127.0.0.1:{port}"}
    assert head.poll() is None, "the cluster was not left running"
    # `ray start --block` does not always end on SIGTERM.
    os.killpg(head.pid, signal.SIGKILL)
    head.wait()


def test_preprocessing_as_ray_tasks_makes_the_same_bytes(
    make_workspace: Callable[..., Path], running: dict[str, str]
) -> None:
    there, here = make_workspace("there"), make_workspace("here")
    succeeded(ganflow(there, "preprocess", **running))
    succeeded(ganflow(here, "preprocess"))
    described = Path("artifacts/dataset/dataset.json")
    assert (there / described).read_bytes() == (here / described).read_bytes()


def test_parts_come_back_in_order_whatever_takes_long() -> None:
    def slow_first(number: int, contents: Iterable[int]) -> int:
        time.sleep(0.2 if number == 0 else 0)
        return number + sum(contents)

    assert list(tasks.run_parts(slow_first, lambda part: [part] * part, range(10))) == [n + n * n for n in range(10)]
