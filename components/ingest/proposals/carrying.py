"""What `ganflow init` proposes for pictures of one kind made into another: by pairs, or by domains of pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ...gan.errors import UserError
from ...gan.options import ImageFormat
from ...workspace.params import Preprocess
from ...workspace.presets import FOR_TASKS, PRESETS
from ...workspace.text import printable, shortened
from ..class_sizes import MIN_HELD_OUT, MIN_TRAINING_IMAGES
from ..decoding import used_bits
from ..pairs.decoding import images_of
from .image_tasks import DEVELOPMENT_SHARES, GATE_PHOTOS, SAMPLES, SHOWN, params_of, sheet_of, with_length
from .proposal import CPU_SIDE, GPU_SIDE, HOLDOUT_SHARE, Proposal, channels_of, max_rejected, shape_of
from .survey import Survey

CARRYING = ("translate", "restyle")
# Pictures of a domain below which it is said that they are few.
FEW_OF_A_DOMAIN = 20
# Held-out pictures of a domain, by fewer of which no model is trained (measures/directions.py).
LEAST_OF_A_DOMAIN = 2
_ALPHA = {"RGBA", "LA", "PA"}


@dataclass(frozen=True)
class CarryingProposal(Proposal):
    """Parameters for pairs, or for domains, of which `held` pictures are held out."""

    held: int
    few: tuple[str, ...]
    # What has to be mended before anything is run, in a sentence; empty where nothing is.
    lacking: str


def propose_carrying(found: Survey, task: str, given: str | None, name: str, cpus: int, gpus: int) -> CarryingProposal:
    """Return parameters for `task`, and a training of about ten minutes on this machine's processors.

    `given`: what holds the inputs of pairs.

    Raises:
        UserError: there are no two domains that could be learned.
    """
    if task == "restyle":
        _check_domains(found)
    shape = shape_of(found, GPU_SIDE if gpus else CPU_SIDE)
    holdout = _holdout(found, LEAST_OF_A_DOMAIN if task == "restyle" else 0)
    preprocess: dict[str, Any] = {"resolution": shape[0] if shape[0] == shape[1] else [*shape]}
    if given is not None:
        preprocess["input"] = given
    channels = channels_of(found)
    if sum(found.modes[mode] for mode in _ALPHA) > found.modes.total() / 2:
        preprocess["channels"] = channels = 4
    preprocess |= {"holdout": holdout, "development": _development(found, holdout)}
    if found.heic:
        preprocess["heic"] = True
    if found.broken:
        preprocess["max_rejected"] = max_rejected(len(found.broken), found)
    image = ImageFormat(
        height=shape[0],
        width=shape[1],
        channels=channels,
        classes=tuple(found.class_counts) or ("image",),
        paired=given is not None,
    )
    train, speed = with_length({**PRESETS[FOR_TASKS[task]].train, "seed": 0}, image, cpus, gpus)
    pixels = shape[0] * shape[1] * channels * (2 if given is not None else 1)
    # The data set and, while it is made, its parts; what was made and given; some checkpoints.
    disk = 2 * found.images * pixels + 2 * SAMPLES * pixels + 200 * 2**20
    held = found.held_out or round(found.images / found.looked_at * sum(i.is_held_out(holdout) for i in found.distinct))
    few = tuple(each for each, count in found.class_counts.items() if task == "restyle" and count < FEW_OF_A_DOMAIN)
    lacking = lacking_of_domains(found, holdout) if task == "restyle" else ""
    params = params_of(preprocess, train, name)
    return CarryingProposal(params, image, speed, train["images"] / speed, disk, held, few, lacking)


def lacking_of_domains(found: Survey, holdout: float) -> str:
    """Return which domain would have too few held-out pictures to be judged by, with a `holdout` of that share.

    Nearly the same pictures stand on one side, so that there may be fewer still.
    """
    if found.looked_at < found.images:
        return ""
    held = _held_of_domains(found, holdout)
    name = min(held, key=lambda name: held[name])
    if held[name] >= LEAST_OF_A_DOMAIN:
        return ""
    where = "to its pictures for tests" if found.held_out is not None else "to it"
    return (
        f"of the domain {shortened(printable(name))} {held[name]} pictures would be held out, and a model is judged by "
        f"{LEAST_OF_A_DOMAIN} of each domain or more: add pictures {where}"
    )


def _held_of_domains(found: Survey, holdout: float) -> dict[str, int]:
    held = dict.fromkeys(found.class_counts, 0)
    for image in found.distinct:
        held[image.label] += image.held_out if found.held_out is not None else image.is_held_out(holdout)
    return held


def pairs_sheet(found: Survey, proposal: Proposal) -> Image.Image:
    """Return some pairs, of each the input at the left of what is to be made of it, as the networks will see them."""
    options = Preprocess(**{"bits": used_bits(found.largest), **proposal.params["preprocess"]})
    made = (next(images_of(content, options, shape)) for content, shape in found.some(SHOWN))
    pairs = [
        (np.broadcast_to(image.given.pixels, proposal.image.shape), np.broadcast_to(image.pixels, proposal.image.shape))
        for image in made
        if not isinstance(image, str) and image.given is not None
    ]
    return sheet_of(pairs)


def _check_domains(found: Survey) -> None:
    """Refuse pictures that are of one domain, and domains that nothing can be learned of.

    Raises:
        UserError: they are.
    """
    listed = shortened(", ".join(f"{printable(name)} {count:,}" for name, count in found.class_counts.items()), 200)
    if len(found.class_counts) < 2:
        raise UserError(
            f"restyle learns from two domains or more, and these pictures are of one ({listed}): lay the pictures of "
            "each into a folder of its own, as A and B, or trainA, trainB, testA and testB"
        )
    alone = [name for name, count in found.class_counts.items() if count < 2]
    if alone:
        count = "one" if found.class_counts[alone[0]] else "no"
        raise UserError(
            f"the domain {shortened(printable(alone[0]))} has {count} picture that can be read, of which no style "
            "can be learned: add pictures to its folder, or take it away"
        )


def _holdout(found: Survey, of_each: int) -> float:
    """Return the share to hold out: a fifth, or one near it by which the gate has enough, and training as well.

    `of_each`: of each class so many at least.
    """
    if found.held_out is not None or found.looked_at < found.images:
        return HOLDOUT_SHARE
    count = len(found.distinct)
    for least in (GATE_PHOTOS, MIN_HELD_OUT):
        for share in sorted((share / 100 for share in range(10, 41)), key=lambda share: abs(share - HOLDOUT_SHARE)):
            of_classes = _held_of_domains(found, share).values()
            held = sum(of_classes)
            if held >= least and count - held >= MIN_TRAINING_IMAGES and min(of_classes) >= of_each:
                return share
    return HOLDOUT_SHARE


def _development(found: Survey, holdout: float) -> float:
    """Return the share of the others that checkpoints are chosen by: of few images more, so that there are some."""
    others = max(1, round((1 - holdout) * found.images))
    return next((share for share in DEVELOPMENT_SHARES[:3] if share * others >= GATE_PHOTOS), DEVELOPMENT_SHARES[2])
