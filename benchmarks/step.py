"""One full step (discriminator, generator, moving average) of our loop and of a plain loop over the same networks.

python -m benchmarks.step --model dcgan --resolution 64 --batch 32 --seconds 60
python -m benchmarks.step --model r3gan --width 96 --resolution 32 --batch 32 --seconds 60 --minimum 1.6
python -m benchmarks.step --model edsr --task super_resolve --resolution 64 --adversarial-weight 0

Both run in turns in one process, with the same batches, latents, losses, lazy intervals and threads. The plain loop
(`tests/gan/plain_loop.py`) is what tutorials do: fp32, contiguous tensors, nothing frozen, Adam and the moving average
one tensor after another. Prints one JSON line; `ratio` is the median over rounds of ours / plain. With --minimum a
lower ratio is an error.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from components.gan.models import build
from components.gan.network_options import ALL_NETWORKS
from components.gan.options import Execution, ImageFormat, TrainingOptions
from components.gan.tasks.options import TASKS
from components.gan.training_loop import bf16, training_loop
from tests.gan.plain_loop import CLASSES, plain_loop, plain_task_loop, random_split

WARM_UP = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=ALL_NETWORKS, default="dcgan")
    parser.add_argument("--task", choices=TASKS, default="generate")
    parser.add_argument("--adversarial-weight", type=float, default=0.02, help="of an image task; 0: D rests")
    parser.add_argument("--width", type=int, help="of the network; default: its options' own")
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto", help="of our loop")
    parser.add_argument("--minimum", type=float, default=0.0, help="exit with an error where the ratio is below")
    given = parser.parse_args()

    torch.set_num_threads(given.threads)
    network: dict[str, object] = {"name": given.model}
    if given.width:
        widths = {"width", "generator_width", "discriminator_width"} & set(ALL_NETWORKS[given.model].model_fields)
        if not widths:
            parser.error(f"{given.model} has no width")
        network |= dict.fromkeys(widths, given.width)
    gpu = torch.cuda.is_available()
    fast = bf16(gpu)
    precision = ("bf16" if fast and given.model != "mlp" else "fp32") if given.precision == "auto" else given.precision
    values: dict[str, object] = {"network": network, "images": 10**12, "batch": given.batch}
    if given.task != "generate":
        # The plain loop does not mirror.
        weights = {"adversarial_weight": given.adversarial_weight, "mirror": False}
        values |= {"task": {"name": given.task}, **weights}
    options = TrainingOptions.model_validate(values)
    # As many steps as the longest lazy interval, so that every round has each penalty as often.
    lazy = [options.penalty_every] if options.r1_gamma or options.r2_gamma else []
    lazy += [options.path_length_every] if options.path_length_weight else []
    steps = max(2, -(-max(lazy, default=0) // options.d_steps))
    options = options.model_copy(update={"log_every": steps * given.batch * options.d_steps})
    image = ImageFormat(height=given.resolution, width=given.resolution, channels=given.channels, classes=CLASSES)
    execution = Execution(workers=1, threads=given.threads, device="cuda" if gpu else "cpu", precision=precision)

    with TemporaryDirectory() as folder:
        data = random_split(Path(folder), image)
        ours = training_loop(options, data, execution)
        loop = plain_loop if given.task == "generate" else plain_task_loop
        plain = loop(options, data, torch.device(execution.device))

        def seconds(loop: Iterator[object], turns: int) -> float:
            began = time.perf_counter()
            for _ in range(turns):
                next(loop)
            if gpu:
                torch.cuda.synchronize()
            return time.perf_counter() - began

        for _ in range(WARM_UP):
            seconds(ours, 1), seconds(plain, steps)
        rounds: list[tuple[float, float]] = []
        end = time.perf_counter() + given.seconds
        while time.perf_counter() < end or len(rounds) < 3:
            rounds.append((seconds(ours, 1), seconds(plain, steps)))
    G, D = build(options.network, image, options.task)
    seen = steps * given.batch * options.d_steps
    result = {
        "model": given.model,
        **({"task": given.task, "discriminator": bool(given.adversarial_weight)} if given.task != "generate" else {}),
        "precision": precision,
        "device": torch.cuda.get_device_name() if gpu else f"cpu, {given.threads} threads",
        "images_per_second": round(seen / median(a for a, _ in rounds), 1),
        "plain_images_per_second": round(seen / median(b for _, b in rounds), 1),
        "ratio": round(median(b / a for a, b in rounds), 3),
        "rounds": len(rounds),
        "generator_parameters": sum(p.numel() for p in G.parameters()),
        "discriminator_parameters": sum(p.numel() for p in D.parameters()),
    }
    print(json.dumps(result))
    if result["ratio"] < given.minimum:
        sys.exit(f"our loop is {result['ratio']} times as fast as the plain one, which is below {given.minimum}")


if __name__ == "__main__":
    main()
