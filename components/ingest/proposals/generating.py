"""What `ganflow init` proposes for images that are to be made from noise."""

from __future__ import annotations

from typing import Any

from PIL import Image

from ...gan.dataset import to_image
from ...gan.options import ImageFormat, TrainingOptions
from ...workspace.params import Preprocess
from ..class_sizes import MIN_HELD_OUT, MIN_TRAINING_IMAGES
from ..decoding import used_bits
from ..pairs.decoding import images_of
from .proposal import (
    CPU_SIDE,
    GPU_SIDE,
    HOLDOUT_SHARE,
    TRAINING_SECONDS,
    Proposal,
    channels_of,
    images_per_second,
    max_rejected,
    model_name,
    shape_of,
)
from .survey import Survey

# Fewer images than this are learned by heart without augmentation.
FEW_IMAGES = 5_000


def propose(found: Survey, name: str, cpus: int, gpus: int) -> Proposal:
    """Parameters for such images, with a training of about ten minutes on this machine's processors."""
    shape = shape_of(found, GPU_SIDE if gpus else CPU_SIDE)
    image = ImageFormat(
        height=shape[0], width=shape[1], channels=channels_of(found), classes=tuple(found.class_counts) or ("image",)
    )
    few = found.images < FEW_IMAGES
    train: dict[str, Any] = {
        "network": {"name": "dcgan", "generator_width": 32 if found.images < 1_000 else 64},
        "batch": 128 if gpus else 64 if found.images >= 1_000 else 32,
        "augment": ["color", "translation", "cutout"] if few else [],
        # Small data sets need a firmer hand on the discriminator.
        "r1_gamma": 5.0 if few else 1.0,
        "seed": 0,
    }
    speed = images_per_second(TrainingOptions(**train), image, cpus, gpus)
    images = int(min(max(speed * TRAINING_SECONDS, 20_000), 4_000_000) // 1_000 * 1_000)
    train |= {"images": images, "log_every": max(images // 100, 500), "checkpoint_every": max(images // 8, 4_000)}
    samples = 8_000 if found.labelled else 5_000
    factor = min(4, 256 // max(shape))
    steps: list[dict[str, Any]] = [
        {"name": "curate", "share": 0.8, "by": "confidence" if found.labelled else "discriminator"}
    ]
    if factor >= 2:
        steps += [{"name": "upscale", "factor": factor}, {"name": "sharpen", "radius": 2, "amount": 0.5}]
    params = {
        "preprocess": {"resolution": shape[0] if shape[0] == shape[1] else list(shape), "holdout": _holdout(found)},
        "train": train,
        "evaluate": {"samples": samples},
        "postprocess": {"images": 250 if found.labelled else 100, "steps": steps},
        "register": {"name": model_name(name)},
    }
    if found.heic:
        params["preprocess"]["heic"] = True
    if found.broken:
        params["preprocess"]["max_rejected"] = max_rejected(len(found.broken), found)
    pixels = shape[0] * shape[1] * image.channels
    # The data set and, while it is made, its parts; samples; some checkpoints.
    disk = 2 * found.images * pixels + samples * pixels + 200 * 2**20
    return Proposal(params, image, speed, images / speed, disk)


def sample_sheet(found: Survey, proposal: Proposal) -> Image.Image:
    """Return some of the images as the networks will see them."""
    options = Preprocess(**{"bits": used_bits(found.largest), **proposal.params["preprocess"]})
    made = (next(images_of(content, options, shape)) for content, shape in found.samples)
    tiles = [to_image(image.pixels).convert("RGB") for image in made if not isinstance(image, str)]
    factor = max(1, 96 // max(options.shape))
    height, width = (side * factor for side in options.shape)
    columns = 10
    sheet = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height), "white")
    for index, tile in enumerate(tiles):
        place = index % columns * width, index // columns * height
        sheet.paste(tile.resize((width, height), Image.Resampling.NEAREST), place)
    return sheet


def _holdout(found: Survey) -> float:
    """Return the share to hold out: a fifth, or of few images one by which enough stand on either side."""
    if found.held_out is not None or found.looked_at < found.images:
        return HOLDOUT_SHARE
    count = len(found.distinct)
    shares = sorted((share / 100 for share in range(5, 96)), key=lambda share: abs(share - HOLDOUT_SHARE))
    for share in shares:
        held = sum(image.is_held_out(share) for image in found.distinct)
        if held >= MIN_HELD_OUT and count - held >= MIN_TRAINING_IMAGES:
            return share
    return HOLDOUT_SHARE
