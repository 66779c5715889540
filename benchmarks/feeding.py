"""What a batch costs: the share of a training step that goes into gathering and scaling images.

python -m benchmarks.feeding [--steps 300]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch

from components.gan.dataset import Split, shuffled_order
from components.gan.training_loop import training_loop
from components.train import resolve
from components.workspace.artifacts import Dataset
from components.workspace.params import Params
from components.workspace.workspace import Workspace
from flows.runner import run_stage

PROJECT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    steps = parser.parse_args().steps
    params = Params.load(PROJECT / "params.yaml")
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        workspace.data.symlink_to(PROJECT / "data")
        run_stage("preprocess", params, workspace)
        dataset = Dataset.load(workspace.dataset)
        data = Split(dataset.folder, "training", dataset.image)
        execution = resolve(params.train)
        torch.set_num_threads(execution.threads)
        batch = params.train.batch
        schedule = {"images": steps * batch, "log_every": batch, "checkpoint_every": batch}
        options = params.train.loop.model_copy(update=schedule)
        stamps = [time.perf_counter()]
        stamps += [time.perf_counter() for _ in training_loop(options, data, execution)]
        step = median(b - a for a, b in pairwise(stamps[1:]))
        order, fed = shuffled_order(len(data), 0), []
        for images in range(0, steps * batch, batch):
            began = time.perf_counter()
            data.batch(order(images, images + batch), torch.device("cpu"))
            fed.append(time.perf_counter() - began)
    print(json.dumps({"step_ms": step * 1e3, "batch_ms": median(fed) * 1e3, "share": median(fed) / step}))


if __name__ == "__main__":
    main()
