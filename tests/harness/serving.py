"""A registered model served by MLflow, where the project's code is not to be had."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import environment
from tests.harness.clusters import free_port


@contextmanager
def served_without_project(root: Path, model: str) -> Iterator[str]:
    """The address of `mlflow models serve` for `model`, such as models:/ganflow@champion, of the workspace `root`."""
    port = free_port()
    # The scoring server imports the model in a process of its own: without the project's folder on its path.
    (root / "hide").mkdir()
    (root / "hide" / "components.py").write_text("raise ImportError('the project is not here')")
    env = environment(MLFLOW_TRACKING_URI=f"sqlite:///{root}/mlruns/mlflow.db", PYTHONPATH=str(root / "hide"))
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local", "--host", "127.0.0.1"]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        [*command, "-m", model, "-p", str(port)], cwd=root, env=env, stdout=quiet, stderr=quiet, start_new_session=True
    )
    address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(f"{address}/ping", timeout=2)
            break
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.3)
    yield address
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(30)
