"""What Ray, MLflow, progress, checkpoints and scores cost the loop: the same training bare and under all of them.

python -m benchmarks.loop [--images 32000] [--rounds 3]

Both run in turns, each in a process of its own; images/s are counted inside the loop, from its first Progress to its
last, so that starting processes does not count.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from components.gan.dataset import Split
from components.gan.training_loop import training_loop
from components.train import resolve
from components.workspace.artifacts import Dataset
from components.workspace.params import Params
from components.workspace.workspace import Workspace
from flows.runner import run_stage

PROJECT = Path(__file__).resolve().parents[1]


def bare(workspace: Workspace, params: Params) -> float:
    """Images/s of the loop alone."""
    import torch

    dataset = Dataset.load(workspace.dataset)
    execution = resolve(params.train)
    torch.set_num_threads(execution.threads)
    stamps = [
        (progress.images, time.monotonic())
        for progress in training_loop(params.train.loop, Split(dataset.folder, "training", dataset.image), execution)
    ]
    return rate(stamps)


def whole(workspace: Workspace, params: Params) -> float:
    """Images/s of the stage's loop, with all that is around it."""
    run_stage("train", params, workspace)
    (progress,) = workspace.state.glob("training/*/progress.jsonl")
    rows = [json.loads(line) for line in progress.read_text().splitlines()]
    return rate([(row["images"], row["images"] / row["images_per_second"]) for row in rows])


def rate(stamps: list[tuple[int, float]]) -> float:
    (first_images, first), (last_images, last) = stamps[0], stamps[-1]
    return (last_images - first_images) / (last - first)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=32_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["bare", "whole"], help="one measurement in this process")
    parser.add_argument("--workspace", type=Path)
    arguments = parser.parse_args()
    params = Params.load(PROJECT / "params.yaml", [f"train.images={arguments.images}"])
    if arguments.only:
        workspace = Workspace(arguments.workspace)
        print(json.dumps((bare if arguments.only == "bare" else whole)(workspace, params)))
        return
    rates: dict[str, list[float]] = {"bare": [], "whole": []}
    for _ in range(arguments.rounds):
        for name, found in rates.items():
            with tempfile.TemporaryDirectory() as folder:
                workspace = Workspace(Path(folder))
                workspace.data.symlink_to(PROJECT / "data")
                run_stage("preprocess", params, workspace)
                command = [sys.executable, "-m", "benchmarks.loop", "--images", str(arguments.images)]
                command += ["--only", name, "--workspace", folder]
                out = subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.PIPE, text=True).stdout
                found.append(json.loads(out.splitlines()[-1]))
    ratios = [b / a for a, b in zip(*rates.values(), strict=True)]
    print(json.dumps({"bare": rates["bare"], "whole": rates["whole"], "ratio": median(ratios)}))


if __name__ == "__main__":
    main()
