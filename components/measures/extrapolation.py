"""The Frechet distance of infinitely many images, from what it falls to as their number grows.

The distance of n images is too high by about c / n, where c depends on the two sets: two models at one n may come out
in the wrong order, and figures at two n cannot be compared (Chong & Forsyth 2020, arXiv 1911.07023, section 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import pairwise
from operator import add

import numpy as np

from .distances import Features, Moments, frechet
from .intervals import Estimate, left_out
from .metrics import dealt

# Groups of images: subsets are unions of them, and each is left out once for the interval.
GROUPS = 16
# Into how many subsets the images are cut, all of which are used: distances at n, n / 2 and n / 4.
CUTS = (1, 2, 4)
# Images for each feature below which the distance is not linear in 1 / n.
IMAGES_PER_FEATURE = 8


def reaches(fake: Features, real: Features) -> bool:
    """Whether there are enough images for an extrapolation in so many features."""
    return min(len(fake), len(real)) >= IMAGES_PER_FEATURE * fake.shape[1]


def frechet_infinity(fake: Features, real: Features) -> Estimate:
    """Frechet distance of infinitely many fakes to infinitely many reals: the line in 1 / n at 0.

    Subsets have the same part of the fakes and of the reals, so that the error of both falls along the line. Its
    interval is by leaving out groups of both; it may reach below 0 where the two are alike. Shapes: (N, F), (M, F).
    """
    groups = [
        (Moments.of(x), Moments.of(y)) for x, y in zip(*(dealt(each, GROUPS) for each in (fake, real)), strict=True)
    ]
    without = [_at_infinity([*groups[:left], *groups[left + 1 :]]) for left in range(GROUPS)]
    return left_out(_at_infinity(groups), without)


def _at_infinity(groups: Sequence[tuple[Moments, Moments]]) -> float:
    """Return the line through the mean distances of subsets, at an infinite number of images."""
    lines = []
    for cuts in CUTS:
        ends = np.linspace(0, len(groups), cuts + 1).round().astype(int)
        subsets = [groups[start:end] for start, end in pairwise(ends)]
        sums = [[reduce(add, moments) for moments in zip(*subset, strict=True)] for subset in subsets]
        distance = np.mean([frechet(reals, fakes) for fakes, reals in sums])
        lines.append((np.mean([1 / fakes.count for fakes, _ in sums]), distance))
    inverse, distances = np.array(lines).T
    return float(np.polynomial.Polynomial.fit(inverse, distances, 1)(0.0))
