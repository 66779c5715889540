"""What a short training for an image task gains over its baseline, on photographs that it has not seen.

python -m benchmarks.image_tasks --photos /usr/share/games/endless-sky/images/land --task "{name: super_resolve}"

Pieces of 64x64 are cut from every photograph; a fifth of the files, by a hash of their content, is held out. Prints
PSNR of all held-out pieces together, and the median, of the baseline and of what was learned, before and after the
discriminator begins to work. Times are seconds of the processor, user and system, without those of the measurement.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image

from components.gan.dataset import Pixels, Split, to_pixels
from components.gan.inputs import Inputs
from components.gan.options import Execution, ImageFormat, TrainingOptions
from components.gan.sampling import conditions, sample
from components.gan.tasks.image_tasks import task_of
from components.gan.training_loop import bf16, training_loop
from components.measures.fidelity import psnr, squared_errors

SIDE = 64
HELD_OUT = 400


def pieces(photos: Path) -> tuple[Pixels, Pixels]:
    """All whole pieces of the photographs, (N, 64, 64, 3): of files to learn from, and of those held out."""
    found: tuple[list[Pixels], list[Pixels]] = ([], [])
    files = sorted(file for file in photos.rglob("*") if file.suffix.lower() in (".jpg", ".jpeg", ".png"))
    for file in files:
        whole = np.asarray(Image.open(file).convert("RGB"))
        rows, columns = whole.shape[0] // SIDE, whole.shape[1] // SIDE
        cut = whole[: rows * SIDE, : columns * SIDE].reshape(rows, SIDE, columns, SIDE, 3).swapaxes(1, 2)
        held_out = hashlib.sha256(file.read_bytes()).digest()[0] < 51
        found[held_out].append(cut.reshape(-1, SIDE, SIDE, 3))
    print(f"{len(files)} photographs, {len(found[1])} held out")
    learned, unseen = (np.concatenate(each) for each in found)
    print(f"{len(learned):,} pieces to learn from, {HELD_OUT} of {len(unseen):,} held out")
    return learned, unseen[np.random.default_rng(0).permutation(len(unseen))[:HELD_OUT]]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--task", default="{name: super_resolve}")
    parser.add_argument("--set", default="{}", help="other options of the training, as YAML")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    learned, unseen = pieces(arguments.photos)
    image = ImageFormat(height=SIDE, width=SIDE, channels=3, classes=("photo",))
    values = {"task": yaml.safe_load(arguments.task), "images": 48_000, "batch": 32, "log_every": 4_000}
    options = TrainingOptions.model_validate({**values, **yaml.safe_load(arguments.set)})
    task = task_of(options.task)
    assert task is not None
    given = conditions(task, unseen, range(len(unseen)), image)
    execution = Execution(workers=1, threads=1, device="cpu", precision="bf16" if bf16(False) else "fp32")

    def told(name: str, made: Pixels, seconds: float) -> None:
        errors = squared_errors(made, unseen)
        each = 10 * np.log10(255**2 / np.maximum(errors, 1e-3))
        print(
            f"{name:>12}  PSNR {psnr(errors):.2f} dB, median {np.median(each):.2f}, after {seconds:.0f} s", flush=True
        )

    told("baseline", to_pixels(task.baseline(given)), 0)
    inputs = Inputs.without_latent(torch.zeros(len(unseen), dtype=torch.long), given)
    data, spent, began = Split.of(learned, np.zeros(len(learned), np.int64), image), 0.0, time.process_time()
    for progress in training_loop(options, data, execution):
        spent += time.process_time() - began
        kind = "GAN" if "discriminator_loss" in progress.metrics else "L1"
        told(f"{kind} {progress.images:,}", sample(progress.ema, inputs, precision=execution.precision), spent)
        began = time.process_time()


if __name__ == "__main__":
    main()
