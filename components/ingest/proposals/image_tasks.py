"""What proposals for all image tasks share: how long is trained, the parameters, and the sheet of what is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from ...gan.dataset import Pixels
from ...gan.models import build
from ...gan.options import ImageFormat, TrainingOptions
from ...pictures.tiles import grid, tile_size
from .proposal import TRAINING_SECONDS, images_per_second, model_name

# Held-out pictures below which the gate tells no two models apart.
GATE_PHOTOS = 20
# Of the others, shares that checkpoints are chosen by.
DEVELOPMENT_SHARES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
SAMPLES = 2_000
# Pictures that the sheet shows.
SHOWN = 20
_COLUMNS, _SIDE = 8, 128


def with_length(train: Mapping[str, Any], image: ImageFormat, cpus: int, gpus: int) -> tuple[dict[str, Any], float]:
    """Return the parameters of a training of about ten minutes, and its images a second.

    Raises:
        UserError: the networks cannot make such images.
    """
    options = TrainingOptions(**train)
    build(options.network, image, options.task)
    speed = _speed(train, image, cpus, gpus)
    images = int(min(max(speed * TRAINING_SECONDS, 8_000), 4_000_000) // 1_000 * 1_000)
    length = {"images": images, "log_every": max(images // 50, 500), "checkpoint_every": max(images // 4, 2_000)}
    return {**train, **length}, speed


def params_of(preprocess: Mapping[str, Any], train: Mapping[str, Any], name: str) -> dict[str, dict[str, Any]]:
    """Return what stands in `params.yaml`."""
    return {
        "preprocess": dict(preprocess),
        "train": dict(train),
        "evaluate": {"samples": SAMPLES},
        "register": {"name": model_name(name)},
    }


def sheet_of(pairs: Sequence[tuple[Pixels, Pixels]]) -> Image.Image:
    """Return pairs of pictures of one size, (H, W, C) each, the first of each at the left of the other."""
    pictures = [picture for pair in pairs for picture in pair]
    return grid(pictures, _COLUMNS, tile_size(pictures[0], _SIDE))


def _speed(train: Mapping[str, Any], image: ImageFormat, cpus: int, gpus: int) -> float:
    """Return images a second over the whole training: with the discriminator at rest, and with it at work."""
    ramp = train.get("adversarial_weight")
    if not isinstance(ramp, Mapping) or "rest" not in ramp or ramp["start"]:
        return images_per_second(TrainingOptions(**train), image, cpus, gpus)
    alone, together = (
        images_per_second(TrainingOptions(**{**train, "adversarial_weight": weight}), image, cpus, gpus)
        for weight in (ramp["start"], ramp["end"])
    )
    rest = float(ramp["rest"])
    return 1 / (rest / alone + (1 - rest) / together)
