"""Scores as records, and the names under which files, cards and MLflow keep them.

A name states the protocol: `fd_holdout_classifier_2k_floor` is the Frechet distance (`fd`) of 2,000 real images in
place of samples (`floor`) to the holdout, in the features of `classifier`. This is the only place that reads names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

if TYPE_CHECKING:
    from .artifacts import Evaluation

# Whose images were measured: the model's samples, unseen real images in their place, planted copies of training images
# as a positive control, or what is made of the same inputs without a network.
Images = Literal[
    "samples",
    "floor",
    "control",
    "bicubic",
    "lanczos_sharpened",
    "fill",
    "grey",
    "brightness_colours",
    "input",
    "sharpened",
    "reinhard",
    "nearest",
]
BASELINES: tuple[Images, ...] = get_args(Images)[3:]
METRICS = (
    "agreement",
    "class_score",
    "classification_accuracy",
    "colourfulness",
    "consistency",
    "copied",
    "coverage",
    "cycle",
    "density",
    "discriminator_accuracy",
    "discriminator_auc",
    "discriminator_calibration_error",
    "fd",
    "fd_infinity",
    "identity",
    "kid",
    "kid_wanted",
    "kid_wanted_gain",
    "membership",
    "msssim",
    "perceptual",
    "perceptual_gain",
    "precision",
    "psnr",
    "psnr_hole",
    "psnr_median",
    "psnr_nearest",
    "psnr_y",
    "recall",
    "reconstruction_auc",
    "ssim",
    "ssim_nearest",
    "truth",
)
# `class`: pairs of images of one class. Kinds of planted copies: what lies between them and the training image.
SPLITS = ("class", "generated", "holdout", "exact", "noisy", "shifted", "mirrored", "toned", "cropped")
_ENDINGS: Mapping[Images, str] = {
    **{name: f"_{name}" for name in get_args(Images)},
    "samples": "",
    "control": "_canaries",
}


@dataclass(frozen=True)
class Score:
    """A number that a metric gave to a set of images, with its 95 % interval where there is one."""

    metric: str
    value: float
    # Images that were measured; None in a name that states no number.
    n: int | None = None
    # Space of the comparison: a feature net, `pixels`, or the `discriminator`'s logits.
    features: str = ""
    # Of `SPLITS`, where the metric is not of the samples and the training split.
    split: str = ""
    images: Images = "samples"
    low: float | None = None
    high: float | None = None

    @property
    def name(self) -> str:
        """The protocol in one word, such as `kid_efficientnet_lite0_5k_floor`."""
        parts = (self.metric, self.split, self.features, "" if self.n is None else _count(self.n))
        return "_".join(filter(None, parts)) + _ENDINGS[self.images]

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends of the interval."""
        return None if self.low is None or self.high is None else (self.low, self.high)


class Compared(NamedTuple):
    """A score, with those of real images and of planted copies by the same protocol."""

    score: Score
    floor: Score | None
    control: Score | None


class Scores:
    """The scores of one evaluation, in the order of their names."""

    def __init__(self, scores: Iterable[Score]) -> None:
        self._by_name = {score.name: score for score in sorted(scores, key=lambda score: score.name)}

    @classmethod
    def of(cls, evaluation: Evaluation) -> Scores:
        """Read the scores of an evaluation."""
        return cls.read(evaluation.metrics, evaluation.intervals)

    @classmethod
    def read(
        cls, metrics: Mapping[str, float], intervals: Mapping[str, tuple[float, float]] = MappingProxyType({})
    ) -> Scores:
        """Read values and intervals by name."""
        return cls(read_name(name, value, *intervals.get(name, ())) for name, value in metrics.items())

    def __iter__(self) -> Iterator[Score]:
        return iter(self._by_name.values())

    @property
    def metrics(self) -> dict[str, float]:
        """Values by name."""
        return {score.name: score.value for score in self}

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """Intervals by name, of the scores that have one."""
        return {score.name: score.interval for score in self if score.interval}

    def beside(self, score: Score, images: Images) -> Score | None:
        """Return the score by the same protocol of other images."""
        return self._by_name.get(replace(score, images=images).name)

    def baselines(self, score: Score) -> list[Score]:
        """Return the scores by the same protocol of what was made of the same inputs without a network."""
        found = (self.beside(score, images) for images in BASELINES)
        return [each for each in found if each is not None]

    def compared(self) -> Iterator[Compared]:
        """Each score of samples with its floor and control; a floor or control without one stands alone."""
        for score in self:
            if score.images == "samples":
                yield Compared(score, self.beside(score, "floor"), self.beside(score, "control"))
            elif self.beside(score, "samples") is None:
                yield Compared(score, None, None)

    def shown(self) -> Iterator[Compared]:
        """What `compared` yields for people: without scores of more images than there are real ones to compare with.

        Such a score has no floor, and invites to be read beside that of fewer. Its protocol with as many samples as
        real images stands instead.
        """
        for found in self.compared():
            if found.floor or self.paired(found.score) is None:
                yield found._replace(control=found.control or self._control(found.score))

    def paired(self, score: Score) -> Score | None:
        """Return the score that asks the same of a number of images for which it has a floor."""
        same = (each for each in self if _question(each) == _question(score) and self.beside(each, "floor"))
        return next(same, None) if score.images == "samples" else None

    def of_metric(self, metric: str, features: str | None = None, split: str = "") -> Iterator[Compared]:
        """Yield what `compared` yields of samples by one metric, the most images first.

        Of one feature space if `features` is given.
        """
        for found in sorted(self.compared(), key=lambda found: -(found.score.n or 0)):
            score = found.score
            if (score.metric, score.split, score.images) == (metric, split, "samples") and (
                features is None or score.features == features
            ):
                yield found

    def _control(self, score: Score) -> Score | None:
        """Return the control of the same question, which is of as many planted copies whatever the samples are."""
        asked = replace(score, images="control")
        return next((each for each in self if score.images == "samples" and _question(each) == _question(asked)), None)


def _question(score: Score) -> tuple[str, str, str, Images]:
    """What is asked, whatever the number of images."""
    return score.metric, score.features, score.split, score.images


def read_name(name: str, value: float, low: float | None = None, high: float | None = None) -> Score:
    """Return the score with this name: one that displays as `name` again, whatever `name` is."""
    ends = [kind for kind, ending in _ENDINGS.items() if ending and name.endswith(ending)]
    images: Images = max(ends, key=lambda kind: len(_ENDINGS[kind]), default="samples")
    stem = name.removesuffix(_ENDINGS[images])
    described, _, count = stem.rpartition("_")
    n = None
    if found := re.fullmatch("([0-9]+)(k?)", count):
        n = int(found[1]) * (1000 if found[2] else 1)
    else:
        described = stem
    metric = max((m for m in METRICS if f"{described}_".startswith(f"{m}_")), key=len, default=described)
    rest = described.removeprefix(metric).removeprefix("_")
    split = next((each for each in SPLITS if f"{rest}_".startswith(f"{each}_")), "")
    features = rest.removeprefix(split).removeprefix("_")
    score = Score(metric, value, n, features, split, images, low, high)
    return score if score.name == name else Score(name, value, low=low, high=high)


def _count(number: int) -> str:
    """8000 -> 8k, as the field writes it in names of metrics."""
    return f"{number // 1000}k" if number and number % 1000 == 0 else str(number)
