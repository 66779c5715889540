"""The default job in a fresh clone: seconds of each part, scores, peak memory of all its processes, nothing to do.

python -m benchmarks.job [--seed 0]

`PYTHONPATH` puts the clone's code before the installed one; the environment is the one that runs this.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


def memory_of_group(group: int) -> float:
    """MB of all processes of a session, each page counted once (PSS)."""
    total = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.getsid(int(entry.name)) == group:
                    lines = (entry / "smaps_rollup").read_text().splitlines()
                    total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            except (OSError, StopIteration):
                continue
    return total / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    with tempfile.TemporaryDirectory() as name:
        clone = Path(name) / "clone"
        subprocess.run(["git", "clone", "-q", str(PROJECT), str(clone)], check=True)
        binaries = Path(sys.executable).parent
        environment = {**os.environ, "PYTHONPATH": str(clone), "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"}
        subprocess.run(["dvc", "pull", "-q", "data.dvc"], cwd=clone, env=environment, check=True)
        # As `make run` does at install time.
        workspace = clone / ".ganflow" / "prefect"
        workspace.mkdir(parents=True)
        upgrade = ["prefect", "server", "database", "upgrade", "-y"]
        subprocess.run(
            upgrade, env={**environment, "PREFECT_HOME": str(workspace)}, check=True, stdout=subprocess.DEVNULL
        )
        command = [str(binaries / "ganflow"), "run"] + (["--set", f"train.seed={seed}"] if seed else [])
        began = time.monotonic()
        process = subprocess.Popen(command, cwd=clone, env=environment, start_new_session=True)
        peak, done = [0.0], threading.Event()

        def watch() -> None:
            while not done.wait(1):
                peak[0] = max(peak[0], memory_of_group(process.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        code = process.wait()
        whole = time.monotonic() - began
        done.set()
        watcher.join()
        (progress,) = clone.glob(".ganflow/training/*/progress.jsonl")
        last = json.loads(progress.read_text().splitlines()[-1])
        training = last["images"] / last["images_per_second"]
        began = time.monotonic()
        subprocess.run(command, cwd=clone, env=environment, check=True, stdout=subprocess.DEVNULL)
        nothing = time.monotonic() - began
        scores = json.loads((clone / "artifacts" / "evaluation" / "metrics.json").read_text())
    result = {"code": code, "whole_s": whole, "training_s": training, "around_s": whole - training, "peak_mb": peak[0]}
    print(json.dumps({**result, "nothing_to_do_s": nothing, "scores": scores}))


if __name__ == "__main__":
    main()
