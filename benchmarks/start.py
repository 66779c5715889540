"""A run on a running cluster: where the time goes between the command and the first training step.

python -m benchmarks.start [--rounds 3]

Starts a one-node cluster with token authentication, then in processes of their own what `ganflow train` does, on 2,000
digits, with a line of progress after every step. Times are seconds since the process began.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

import numpy as np

PROJECT = Path(__file__).resolve().parents[1]


def once(root: Path) -> dict[str, float]:
    """Prepare, then train one step; what happened when."""
    began = time.perf_counter()
    times: dict[str, float] = {}

    def mark(name: str) -> None:
        times.setdefault(name, round(time.perf_counter() - began, 2))

    import components.train  # noqa: F401
    from components.services.cluster import session
    from components.workspace.params import Params
    from components.workspace.workspace import Workspace
    from flows.runner import run_stage

    mark("imported")
    session.wait()
    mark("joined the cluster")
    workspace = Workspace(root)
    state = workspace.state / "training"

    def watch() -> None:
        while "first step done" not in times:
            for path in state.glob("*/progress.jsonl"):
                mark("worker has the data")
                if path.stat().st_size:
                    mark("first step done")
            time.sleep(0.01)

    threading.Thread(target=watch, daemon=True).start()
    params = Params.load(workspace.params)
    run_stage("train", params, workspace)
    mark("all done")
    return times


def workspace(root: Path) -> None:
    from components.workspace.params import Params
    from components.workspace.workspace import Workspace
    from flows.runner import run_stage
    from tests.conftest import idx

    (root / "data").mkdir(parents=True)
    rng = np.random.default_rng(0)
    (root / "data" / "images.idx").write_bytes(idx(rng.integers(0, 256, (2_000, 28, 28), dtype=np.uint8)))
    (root / "data" / "labels.idx").write_bytes(idx(np.arange(2_000, dtype=np.uint8) % 10))
    (root / "params.yaml").write_text("train: {images: 640, log_every: 64, checkpoint_every: 640}\n")
    run_stage("preprocess", Params.load(root / "params.yaml"), Workspace(root))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(once(arguments.once)))
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16), "RAY_USAGE_STATS_ENABLED": "0"}
    variables = {**os.environ, **token, "RAY_worker_niceness": "0"}
    ray = str(Path(sys.executable).parent / "ray")
    head = [ray, "start", "--head", f"--port={port}", "--include-dashboard=false", "--block"]
    quiet = subprocess.DEVNULL
    node = subprocess.Popen(head, env=variables, stdout=quiet, stderr=quiet, start_new_session=True)
    found: list[dict[str, float]] = []
    try:
        time.sleep(15)
        for _ in range(arguments.rounds):
            with tempfile.TemporaryDirectory() as name:
                workspace(Path(name))
                command = [sys.executable, "-m", "benchmarks.start", "--once", name]
                environment = {**variables, "RAY_ADDRESS": f"127.0.0.1:{port}"}
                done = subprocess.run(
                    command, cwd=PROJECT, env=environment, check=True, stdout=subprocess.PIPE, text=True
                )
                found.append(json.loads(done.stdout.splitlines()[-1]))
    finally:
        os.killpg(node.pid, 9)
    print(json.dumps({name: median(times[name] for times in found) for name in found[0]}))


if __name__ == "__main__":
    main()
