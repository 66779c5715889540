"""How measures are called that decide between ways to make pictures: what people read is written here alone."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Literal, NamedTuple, get_args

from ..gan.tasks.options import AnyTask, Restyle

# What decides of image tasks, as scores and columns call it: how near pictures come to their originals, or where there
# are none to the classes wanted.
Measure = Literal["perceptual", "kid_wanted"]
MEASURES: tuple[Measure, ...] = get_args(Measure)


class MeasureWords(NamedTuple):
    """Words of a measure: a `distance` to what a picture is to be, of `one` or of `all`; in `whole` where none follow.

    `fourth`: head of the last of four pictures in a line, which is `shown` there. `floor`: the real pictures that were
    measured in place of what was made.
    """

    distance: str
    one: str
    all: str
    whole: str
    fourth: str
    shown: str
    floor: str


WORDS: Mapping[Measure, MeasureWords] = {
    "perceptual": MeasureWords(
        distance="perceptual distance",
        one="the original",
        all="the originals",
        whole="perceptual distance",
        fourth="original",
        shown="the original",
        floor="the originals themselves",
    ),
    "kid_wanted": MeasureWords(
        distance="KID",
        one="the class wanted",
        all="the classes wanted",
        whole="KID to the classes wanted",
        fourth="carried back",
        shown="what was carried back",
        floor="real pictures of the class",
    ),
}


def measure_of(task: AnyTask) -> Measure:
    """Return what decides of an image task."""
    return "kid_wanted" if isinstance(task, Restyle) else "perceptual"


def measure_in(names: Container[str]) -> Measure:
    """Return the measure that is among the columns of a table of an image task."""
    return next(measure for measure in MEASURES if measure in names)


def compared_by(measure: Measure | None) -> str:
    """Return what the gate compares; None of images from noise."""
    return "KID" if measure is None else WORDS[measure].whole


def plain(images: str) -> str:
    """Return how the images that a score is of are called: `lanczos_sharpened` -> lanczos sharpened."""
    return images.replace("_", " ")
