"""Two workers of one core each, against two loops of one core each that know nothing of each other.

python -m benchmarks.scaling --model dcgan --resolution 32 --batch 64 --seconds 30

All run under the same load: both cores are busy either way. Prints one JSON line: `ratio` is the images/s of the two
workers over the sum of the two loops', median over rounds in turns; `all_reduce_share` is the part of a step that the
flat all-reduces of the two networks take by themselves.
"""

from __future__ import annotations

import argparse
import json
import socket
import time
from multiprocessing.queues import Queue
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from components.gan.dataset import Split
from components.gan.models import build
from components.gan.network_options import NETWORKS
from components.gan.options import Execution, ImageFormat, TrainingOptions
from components.gan.training_loop import bf16, training_loop
from tests.gan.plain_loop import CLASSES, random_split

WARM_UP = 1
STEPS = 8


def worker(
    rank: int, port: int | None, folder: str, options: TrainingOptions, image: ImageFormat, seconds: float, out: Queue
) -> None:
    """Train for `seconds`, as one of two ranks or alone on half the batch; put (images, seconds, all-reduce's)."""
    torch.set_num_threads(1)
    if port is not None:
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    precision = "bf16" if bf16(False) else "fp32"
    execution = Execution(workers=1, threads=1, device="cpu", precision=precision)
    loop = training_loop(options, Split(Path(folder), "training", image), execution)
    for _ in range(WARM_UP):
        next(loop)
    steps, began = 0, time.perf_counter()
    while True:
        next(loop)
        steps += STEPS
        going_on = torch.tensor(float(time.perf_counter() - began < seconds))
        if port is not None:
            dist.all_reduce(going_on, dist.ReduceOp.MIN)
        if not going_on:
            break
    took, reduced = time.perf_counter() - began, 0.0
    if port is not None:
        sizes = [sum(p.numel() for p in network.parameters()) for network in build(options.network, image)]
        began = time.perf_counter()
        for _ in range(20):
            for size in sizes:
                dist.all_reduce(torch.zeros(size))
        reduced = (time.perf_counter() - began) / 20
        dist.destroy_process_group()
    out.put((steps * options.batch * options.d_steps, took, reduced * steps / took))


def run(
    together: bool, folder: str, options: TrainingOptions, image: ImageFormat, seconds: float
) -> tuple[float, float]:
    """Images/s of both processes, and the share of all-reduce."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1] if together else None
    context = mp.get_context("spawn")
    results = context.Queue()
    processes = [
        context.Process(target=worker, args=(rank, port, folder, options, image, seconds, results)) for rank in range(2)
    ]
    for process in processes:
        process.start()
    measured = [results.get() for _ in processes]
    for process in processes:
        process.join()
    # Two workers share one global batch; two loops have one each.
    rates = [images / took for images, took, _ in measured]
    return (sum(rates) / 2 if together else sum(rates)), max(share for _, _, share in measured)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=NETWORKS, default="dcgan")
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64, help="of the two workers together; each loop has half of it")
    parser.add_argument("--seconds", type=float, default=20, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    image = ImageFormat(height=given.resolution, width=given.resolution, channels=3, classes=CLASSES)

    def options(batch: int) -> TrainingOptions:
        values = {"network": {"name": given.model}, "images": 10**12, "batch": batch}
        chosen = TrainingOptions.model_validate(values)
        return chosen.model_copy(update={"log_every": batch * chosen.d_steps * STEPS})

    with TemporaryDirectory() as folder:
        random_split(Path(folder), image)
        rounds = [
            (
                run(True, folder, options(given.batch), image, given.seconds),
                run(False, folder, options(given.batch // 2), image, given.seconds),
            )
            for _ in range(given.rounds)
        ]
    print(
        json.dumps(
            {
                "model": given.model,
                "batch": given.batch,
                "images_per_second": round(median(together for (together, _), _ in rounds), 1),
                "apart_images_per_second": round(median(apart for _, (apart, _) in rounds), 1),
                "ratio": round(median(together / apart for (together, _), (apart, _) in rounds), 3),
                "all_reduce_share": round(median(share for (_, share), _ in rounds), 4),
            }
        )
    )


if __name__ == "__main__":
    main()
