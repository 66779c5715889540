"""What `ganflow init --task` proposes: how photos are cut, how long is trained, and what the network will be given."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import numpy as np
from PIL import Image

from ...gan.dataset import to_pixels
from ...gan.errors import UserError
from ...gan.options import ImageFormat, TrainingOptions
from ...gan.sampling import conditions
from ...gan.tasks.image_task import Degrading
from ...gan.tasks.image_tasks import task_of
from ...workspace.params import Preprocess
from ...workspace.presets import FOR_TASKS, PRESETS
from ..decoding import decoded, used_bits, whole_photo
from ..splits import mixed
from .image_tasks import DEVELOPMENT_SHARES, GATE_PHOTOS, SAMPLES, SHOWN, params_of, sheet_of, with_length
from .proposal import CPU_SIDE, GPU_SIDE, HOLDOUT_SHARE, Proposal, channels_of, max_rejected, shape_of
from .sharpness import SOFT, sharpness
from .survey import Distinct, Survey

SIDES = (32, 48, 64, 96, 128)
REDUCTIONS = (1, 2, 4)
# Photos whose sharpness is measured.
MEASURED_PHOTOS = 24


@dataclass(frozen=True)
class TaskProposal(Proposal):
    """Parameters for an image task on `photos`, of which `held` are held out.

    `pieces`: of all photos; None where they are used whole. `too_small`: photos that are smaller than a piece. `soft`
    of `measured` photos lose little by being halved.
    """

    photos: int
    held: int
    pieces: int | None
    too_small: int
    soft: int
    measured: int

    @property
    def lacking(self) -> str:
        """What has to be mended before anything is run, in a sentence; empty where nothing is."""
        if 0 < self.held < self.photos:
            return ""
        return f"{self.photos} photos are too few to train on some and to hold others out, so add some to data/"

    @property
    def pieces_bytes(self) -> int:
        """How much the pieces take."""
        return (self.pieces or 0) * math.prod(self.image.shape)


def propose_task(found: Survey, task: str, name: str, cpus: int, gpus: int) -> TaskProposal:
    """Return parameters for `task` with such photos, and a training of about ten minutes on this machine's processors.

    They are those of the preset for the task, made to fit.

    Raises:
        UserError: nothing can be learned of these photos for it.
    """
    preset = PRESETS[FOR_TASKS[task]]
    cut = preset.preprocess["fit"] == "patches"
    detail = _detail(found) if cut else _Detail(1, 0, 0)
    preprocess = dict(preset.preprocess)
    if cut:
        preprocess["resolution"] = _side(found, detail.reduce, GPU_SIDE if gpus else CPU_SIDE)
        preprocess |= {"reduce": detail.reduce} if detail.reduce > 1 else {}
    else:
        height, width = shape_of(found, preset.preprocess["resolution"])
        preprocess["resolution"] = height if height == width else [height, width]
    options = Preprocess(**preprocess)
    photos = [photo for photo in found.distinct if not cut or _cells(photo.size, options)]
    many = found.images / found.looked_at
    holdout = _holdout(found, photos)
    preprocess |= {"holdout": holdout, "development": _development(photos, holdout)}
    if found.labelled:
        # One net judges all, and classes are not looked at.
        preprocess["labels"] = "none"
    if found.heic:
        preprocess["heic"] = True
    too_small = len(found.distinct) - len(photos)
    if found.broken or too_small:
        preprocess["max_rejected"] = max_rejected(len(found.broken) + too_small, found)
    image = ImageFormat(
        height=options.shape[0], width=options.shape[1], channels=channels_of(found), classes=("image",)
    )
    train, speed = with_length({**preset.train, "batch": 64 if gpus else 32, "seed": 0}, image, cpus, gpus)
    pieces = round(many * sum(min(_cells(photo.size, options), options.patches_per_file) for photo in photos))
    made = pieces if cut else found.images
    # The data set and, while it is made, its parts; what was made and given; some checkpoints.
    disk = 2 * (made + SAMPLES) * math.prod(image.shape) + 200 * 2**20
    return TaskProposal(
        params_of(preprocess, train, name),
        image,
        speed,
        train["images"] / speed,
        disk,
        photos=round(many * len(photos)),
        held=found.held_out or round(many * sum(photo.is_held_out(holdout) for photo in photos)),
        pieces=pieces if cut else None,
        too_small=round(many * too_small),
        soft=detail.soft,
        measured=detail.measured,
    )


def given_sheet(found: Survey, proposal: Proposal) -> Image.Image:
    """Return what the network will be given, each beside its original, of a piece of some photos."""
    options = Preprocess(**{"bits": used_bits(found.largest), **proposal.params["preprocess"], "patches_per_file": 1})
    task = task_of(TrainingOptions(**proposal.params["train"]).task)
    assert isinstance(task, Degrading)
    made = (next(decoded(content, options, shape)) for content, shape in _some(found, SHOWN))
    shape = proposal.image.shape
    originals = [np.broadcast_to(image.pixels, shape) for image in made if not isinstance(image, str)]
    given = to_pixels(task.shown(conditions(task, np.stack(originals), range(len(originals)), proposal.image)))
    return sheet_of([*zip(given, originals, strict=True)])


class _Detail(NamedTuple):
    """How many times smaller photos are to be made, and of how many that were `measured` full size is soft."""

    reduce: int
    soft: int
    measured: int


def _detail(found: Survey) -> _Detail:
    """Reduce photos until most of them are sharp."""
    rows = [
        [sharpness(photo, reduce) for reduce in REDUCTIONS]
        for content, shape in _some(found, MEASURED_PHOTOS)
        if not isinstance(photo := whole_photo(content, Preprocess(bits=used_bits(found.largest)), shape), str)
    ]
    each = [[one for one in column if one is not None] for column in zip(*rows, strict=True)] or [[]]
    at_full_size, *_ = each
    reduce = next(
        (factor for factor, one in zip(REDUCTIONS, each, strict=False) if not one or median(one) >= SOFT),
        REDUCTIONS[-1],
    )
    return _Detail(reduce, sum(one < SOFT for one in at_full_size), len(at_full_size))


def _some(found: Survey, count: int) -> Iterator[tuple[bytes, tuple[int, int] | None]]:
    """Yield the contents of some images, evenly over all."""
    for content, shape in found.some(count):
        assert isinstance(content, bytes)
        yield content, shape


def _side(found: Survey, reduce: int, largest: int) -> int:
    """Return the side of pieces: the largest of which nearly all photos have one.

    Raises:
        UserError: most photos are smaller than the smallest piece.
    """
    shorter = sorted(min(photo.size) // reduce for photo in found.distinct)
    fits = [side for side in SIDES if side <= min(largest, shorter[len(shorter) // 20])]
    if fits:
        return fits[-1]
    if median(shorter) < SIDES[0]:
        raise UserError(
            f"most of these pictures are smaller than {SIDES[0] * reduce} pixels: an image task learns from pieces of "
            f"{SIDES[0]}x{SIDES[0]} of photos, so name larger ones by --data"
        )
    return SIDES[0]


def _cells(size: tuple[int, int], options: Preprocess) -> int:
    """How many whole pieces a photo of (width, height) has."""
    height, width = options.shape
    return (size[0] // options.reduce // width) * (size[1] // options.reduce // height)


def _holdout(found: Survey, photos: Sequence[Distinct]) -> float:
    """Return the share of photos to hold out: a fifth, or one near it by which the gate has enough."""
    if found.held_out is not None or found.looked_at < found.images:
        return HOLDOUT_SHARE
    least = min(GATE_PHOTOS, max(1, len(photos) // 4))
    for share in sorted((share / 100 for share in range(10, 41)), key=lambda share: abs(share - HOLDOUT_SHARE)):
        held = sum(photo.is_held_out(share) for photo in photos)
        if least <= held < len(photos):
            return share
    return HOLDOUT_SHARE


def _development(photos: Sequence[Distinct], holdout: float) -> float:
    """Return the share of the other photos that are not trained on: as few as there is one of."""
    others = np.array([photo.place for photo in photos if not photo.is_held_out(holdout)], np.uint64)
    at = mixed(others)
    shares = (share for share in DEVELOPMENT_SHARES if 0 < (at < np.uint64(int(share * 2**64))).sum() < len(at))
    return next(shares, DEVELOPMENT_SHARES[0])
