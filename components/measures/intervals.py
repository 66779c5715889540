"""Intervals of 95 %: within what bounds a figure would lie had other images been drawn.

They hold for this model, and say nothing about what another training of the same recipe would give. How often they hold
what they should is measured by `python -m benchmarks.intervals`. SciPy is imported where it is needed, for it takes a
second.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
# Two-sided, 95 %: of a normal distribution, and the probability below each end.
Z, TAIL = 1.96, 0.025


class Estimate(NamedTuple):
    """A metric with its 95 % interval."""

    value: float
    low: float
    high: float


def mean(values: npt.ArrayLike) -> Estimate:
    """Mean of values (N,), one for each image, by Student's t; of one value alone the interval has no ends."""
    x = np.asarray(values, np.float64)
    if len(x) < 2:
        return Estimate(float(x.mean()), -np.inf, np.inf)
    return around(float(x.mean()), float(x.std(ddof=1)) / len(x) ** 0.5, len(x) - 1)


def share(values: npt.ArrayLike) -> Estimate:
    """Share of values (N,) that are true, by Clopper & Pearson 1934: none of 500 may still be 0.74 %."""
    from scipy.stats import beta  # type: ignore[import-untyped]

    x = np.asarray(values, bool)
    hits, n = int(x.sum()), len(x)
    low = float(beta.ppf(TAIL, hits, n - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - TAIL, hits + 1, n - hits)) if hits < n else 1.0
    return Estimate(hits / n, low, high)


def around(value: float, error: float, degrees: int | None = None) -> Estimate:
    """Interval around `value` by its standard error, which is known with so many degrees of freedom, or exactly."""
    from scipy.stats import t

    reach = error * (Z if degrees is None else float(t.ppf(1 - TAIL, degrees)))
    return Estimate(value, value - reach, value + reach)


def left_out(value: float, without: npt.ArrayLike, least: float = -np.inf, most: float = np.inf) -> Estimate:
    """Interval around `value` by what it is without each of g groups of the images, (g,): the jackknife.

    Where images of two sets are drawn, a group of each is left out at once: the two add up, being independent. Nothing
    is known of the error but the g values, hence Student's t with g - 1 degrees of freedom. The metric itself cannot be
    below `least` or above `most`.
    """
    x = np.asarray(without, np.float64)
    found = around(value, float(x.std()) * (len(x) - 1) ** 0.5, len(x) - 1)
    return Estimate(value, max(found.low, least), min(found.high, most))


def auc(positive: Values, negative: Values) -> float:
    """P(a positive's score is above a negative's), ties half: area under the ROC curve. Shapes: (N,), (M,)."""
    return float(_below(positive, negative).mean())


def auc_estimate(positive: Values, negative: Values) -> Estimate:
    """`auc` by the variance of DeLong et al. 1988, on the scale of log-odds, which no end leaves.

    Where all positives are on one side that variance is 0; then by the score interval of Newcombe 2006 (method 5) with
    the variance of Hanley & McNeil 1982.
    """
    wins, losses = _below(positive, negative), _below(negative, positive)
    value, n, m = float(wins.mean()), len(positive), len(negative)
    if min(n, m) < 2:
        return Estimate(value, 0.0, 1.0)
    variance = float(wins.var(ddof=1) / n + losses.var(ddof=1) / m)
    if not 0 < value < 1 or not variance:
        return _separated(value, n, m)
    logit, reach = np.log(value / (1 - value)), Z * variance**0.5 / (value * (1 - value))
    low, high = (float(1 / (1 + np.exp(-(logit + sign * reach)))) for sign in (-1, 1))
    return Estimate(value, low, high)


def _separated(value: float, n: int, m: int) -> Estimate:
    from scipy.optimize import brentq  # type: ignore[import-untyped]

    others = (n + m) / 2 - 1

    def error(auc: float) -> float:
        several = 1 + others * (1 - auc) / (2 - auc) + others * auc / (1 + auc)
        return float(Z * (auc * (1 - auc) * several / (n * m)) ** 0.5)

    low = 0.0 if value == 0 else brentq(lambda auc: auc + error(auc) - value, 0.0, value - 1e-12)
    high = 1.0 if value == 1 else brentq(lambda auc: auc - error(auc) - value, value + 1e-12, 1.0)
    return Estimate(value, float(low), float(high))


def _below(scores: Values, others: Values) -> Values:
    """Share of `others` (M,) that lie below each of `scores` (N,), ties half: (N,)."""
    ordered = np.sort(others)
    below, up_to = (np.searchsorted(ordered, scores, side) for side in ("left", "right"))
    found: Values = (below + up_to) / 2 / len(others)
    return found
