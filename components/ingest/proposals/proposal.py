"""Parameters that suit images and a machine: what all proposals have, and are measured by."""

from __future__ import annotations

import re
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from tqdm import tqdm

from ...gan.dataset import Split
from ...gan.errors import UserError
from ...gan.models import build
from ...gan.network_options import DCGAN
from ...gan.options import Execution, ImageFormat, TrainingOptions
from ...gan.training_loop import bf16, training_loop
from ...workspace.params import Preprocess
from .survey import Survey

CPU_SIDE, GPU_SIDE = 64, 128
SIDES = (16, 28, 32, 48, 64, 96, 128)
MOST_OBLONG = 4
HOLDOUT_SHARE = 0.2
TRAINING_SECONDS = 600
# Of the steps that the speed is measured by, where they are slow: the first one prepares what all need.
LEAST_STEPS, MEASURED_SECONDS = 4, 5.0


@dataclass(frozen=True)
class Proposal:
    """Parameters for `params.yaml`, and what they will cost here."""

    params: dict[str, dict[str, Any]]
    image: ImageFormat
    images_per_second: float
    training_seconds: float
    disk_bytes: int


def shape_of(found: Survey, largest: int) -> tuple[int, int]:
    """(height, width): what nearly all images have if it can be made, else a side that few images fall short of."""
    (most, count), *_ = found.sizes.most_common(1) or [((28, 28), 1)]
    if count >= 0.9 * found.sizes.total() and max(most) <= largest and _can_be_made(most[1], most[0]):
        return most[1], most[0]
    shorter = median(min(size) for size, times in found.sizes.items() for _ in range(times))
    side = max((s for s in SIDES if s <= min(shorter, largest)), default=SIDES[0])
    ratios = sorted(size[0] / size[1] for size, times in found.sizes.items() for _ in range(times))
    low, ratio, high = (ratios[int(q * (len(ratios) - 1))] for q in (0.05, 0.5, 0.95))
    if high / low > 1.1 or 0.8 < ratio < 1.25:
        return side, side
    # All are about equally wide: nothing has to be cut off.
    step = next(2**k for k in range(8, -1, -1) if side % 2**k == 0 and side // 2**k >= 4)
    # Of panoramas and strips the middle.
    longer = max(step, round(side * min(max(ratio, 1 / ratio), MOST_OBLONG) / step) * step)
    return (side, longer) if ratio > 1 else (longer, side)


def _can_be_made(height: int, width: int) -> bool:
    try:
        Preprocess(resolution=(height, width))
        build(DCGAN(), ImageFormat(height=height, width=width, channels=1, classes=("image",)))
    except (UserError, ValidationError):
        return False
    return True


def channels_of(found: Survey) -> int:
    grey = {"grey", "L", "1", "I;16", "I", "array of 1 channels"}
    if found.modes.keys() <= grey:
        return 1
    arrays = [int(mode.split()[2]) for mode in found.modes if mode.startswith("array of")]
    return max([3, *arrays])


def max_rejected(rejected: int, found: Survey) -> float:
    """Return a limit that so many rejected ones of the images looked at do not reach."""
    share = rejected / max(1, found.looked_at + len(found.broken))
    return float(min(1.0, max(0.01, np.ceil(share * 150) / 100)))


def images_per_second(options: TrainingOptions, image: ImageFormat, cpus: int, gpus: int) -> float:
    """Measure a few steps of the proposed training on noise."""
    steps = 12
    options = options.model_copy(update={"images": steps * options.batch, "log_every": options.batch})
    execution = Execution(
        workers=1, threads=cpus, device="cuda" if gpus else "cpu", precision="bf16" if bf16(bool(gpus)) else "fp32"
    )
    rng = np.random.default_rng(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(cpus)
    with tempfile.TemporaryDirectory() as name:
        np.save(Path(name, "training-00000.npy"), rng.integers(0, 256, (options.batch, *image.shape), dtype=np.uint8))
        if image.paired:
            np.save(Path(name, "training-input-00000.npy"), np.load(Path(name, "training-00000.npy")))
        np.save(Path(name, "training-labels.npy"), rng.integers(0, len(image.classes), options.batch))
        times = [time.monotonic()]
        bar = tqdm(total=steps, desc="measure speed", unit="step", disable=None, leave=False)
        for _ in training_loop(options, Split(Path(name), "training", image), execution):
            times.append(time.monotonic())
            bar.update()
            if len(times) > LEAST_STEPS and times[-1] - times[0] > MEASURED_SECONDS:
                break
        bar.close()
    torch.set_num_threads(threads)
    # The fastest step: what else the machine does now, and what the first one prepares, say nothing about the training.
    return 0.9 * options.batch / min(b - a for a, b in pairwise(times)) * max(1, gpus)


def model_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.").lower() or "ganflow"
