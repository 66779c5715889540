"""The order in which training sees its images: endless, and a function of seed and position alone.

So a position says which image it is: neither a resume nor another number of workers repeats or loses one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from .dataset import Split, shuffled_order
from .options import TrainingOptions

Indices = npt.NDArray[np.int64]
# (first, last) -> the images at these positions
Order = Callable[[int, int], Indices]


def training_order(options: TrainingOptions, data: Split) -> Order:
    """Return the order of `data` that `options.sampling` asks for."""
    if options.sampling == "balanced":
        return balanced_order(data.labels, options.seed)
    return shuffled_order(len(data), options.seed)


def balanced_order(labels: Indices, seed: int) -> Order:
    """Return an order in which each class that has images comes once in every round, at a place of its own in each.

    A class goes through its images as all are gone through by `shuffled_order`: each once, then each once again.
    """
    classes = np.unique(labels)
    members = [np.flatnonzero(labels == label) for label in classes]
    orders = [shuffled_order(len(of), seed, int(label)) for of, label in zip(members, classes, strict=True)]

    def order(first: int, last: int) -> Indices:
        result = np.empty(last - first, np.int64)
        rounds, places = np.divmod(np.arange(first, last), len(classes))
        for number in np.unique(rounds):
            inside = rounds == number
            chosen = np.random.default_rng((seed, len(labels), number)).permutation(len(classes))[places[inside]]
            result[inside] = [members[c][orders[c](number, number + 1)[0]] for c in chosen]
        return result

    return order
