"""Held-out images, what a model of an image task was given of them, and what was made of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..evaluation.baselines import baselines
from ..evaluation.recolouring import in_colours_of
from ..gan.dataset import Pixels, Split
from ..gan.sampling import conditions_of
from ..gan.tasks.image_tasks import task_of
from ..gan.tasks.translation import Restyling
from ..workspace.artifacts import RETURNED, Dataset, Evaluation, Model
from ..workspace.measure_words import measure_in
from ..workspace.scores import Images, Scores
from .scores import best_baseline

# The best, those in the middle and the worst, so many of each.
EXTREMES = 4


@dataclass(frozen=True)
class Example:
    """A held-out image, what the model was given of it, what the best baseline and what the model made of that.

    All (H, W, C) uint8. `seed` is the number by which it was degraded, `distance` the perceptual distance of what was
    made to the original, and `baseline_distance` that of the baseline. Where a picture was carried into another class
    there is no original: what was carried back stands in its place, and the distances are to the class.
    """

    seed: int
    label: int
    distance: float
    baseline_distance: float
    given: Pixels
    baseline: Pixels
    made: Pixels
    original: Pixels

    @property
    def pictures(self) -> tuple[Pixels, Pixels, Pixels, Pixels]:
        return self.given, self.baseline, self.made, self.original


@dataclass(frozen=True)
class Extremes:
    """The best, those in the middle, and the worst of all held-out images that were measured, by name."""

    best: Sequence[Example]
    middle: Sequence[Example]
    worst: Sequence[Example]

    @property
    def named(self) -> Mapping[str, Sequence[Example]]:
        return {"best": self.best, "median": self.middle, "worst": self.worst}


def name_of_best(evaluation: Evaluation) -> Images:
    """Return the name of the baseline that is hardest to beat."""
    best = best_baseline(Scores.of(evaluation))
    assert best is not None
    return best.name


def examples(evaluation: Evaluation, model: Model, dataset: Dataset, count: int) -> list[Example]:
    """Return `count` of the measured images at most, from the nearest to its original to the farthest."""
    order = _ranked(evaluation)
    at = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(np.int64)
    return _examples(order[at], evaluation, model, dataset)


def extremes_of(evaluation: Evaluation, model: Model, dataset: Dataset) -> Extremes:
    """Return the best, those in the middle, and the worst of the measured images; of few some stand twice."""
    order = _ranked(evaluation)
    each = min(EXTREMES, len(order))
    middle = max(0, (len(order) - each) // 2)
    chosen = (order[:each], order[middle : middle + each], order[::-1][:each])
    return Extremes(*(_examples(positions, evaluation, model, dataset) for positions in chosen))


def _ranked(evaluation: Evaluation) -> npt.NDArray[np.int64]:
    table = pd.read_csv(evaluation.folder / "samples.csv")
    return np.argsort(table[measure_in(table)].to_numpy(), kind="stable")


def _examples(
    positions: npt.NDArray[np.int64], evaluation: Evaluation, model: Model, dataset: Dataset
) -> list[Example]:
    table = pd.read_csv(evaluation.folder / "samples.csv").iloc[positions]
    made, given = (
        np.load(evaluation.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)[positions]
        for name in ("samples", "given")
    )
    holdout, training = (Split(dataset.folder, name, dataset.image) for name in ("holdout", "training"))
    rows = table["row"].to_numpy(np.int64)
    originals, measure = holdout.pixels(rows), measure_in(table)
    name, task = name_of_best(evaluation), task_of(model.training.task)
    assert task is not None
    if isinstance(task, Restyling):
        originals = np.load(evaluation.folder / RETURNED, mmap_mode="r", allow_pickle=False)[positions]
        baseline = (
            in_colours_of(training, holdout.pixels(rows), table["label"].to_numpy(np.int64))
            if name == "reinhard"
            else given
        )
    else:
        condition = conditions_of(task, holdout, rows, table["seed"].tolist())
        baseline = baselines(model.training.task, task, training)[name](condition)
    return [
        Example(
            seed=int(row["seed"]),
            label=int(row["label"]),
            distance=float(row[measure]),
            baseline_distance=float(row[f"{measure}_{name}"]),
            given=given[at],
            baseline=baseline[at],
            made=made[at],
            original=originals[at],
        )
        for at, (_, row) in enumerate(table.iterrows())
    ]
