"""The gate's rule: promote, keep or abstain, by the distances of both to held-out images."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Literal, NamedTuple

from ..gan import metrics
from ..gan.distances import Features
from ..gan.metrics import Resampled
from .contenders import Labels

# More than that nobody makes for a verdict.
MAX_SAMPLES = 1_000_000


class Decision(NamedTuple):
    """What the samples say, in units of KID; `low` and `high` each hold with a confidence of 1 - alpha."""

    answer: Literal["promote", "keep", "abstain"]
    improvement: float
    low: float
    high: float
    margin: float
    needed: int | None = None


def decide(
    challenger: Features, champion: Features, held: Features, labels: Labels, margin: float, alpha: float
) -> Decision:
    """Whether the challenger is nearer to the holdout than the champion, by more than `margin` of its KID.

    Shapes: (N, F), (N, F), (M, F), and the labels of both, (N,).
    """
    new, old = (metrics.kernel_resampled(f, held, labels, stream) for stream, f in enumerate((challenger, champion)))
    return decided(new, old, margin, alpha, len(challenger))


def decided(new: Resampled, old: Resampled, margin: float, alpha: float, samples: int) -> Decision:
    """`decide` by distances of `samples` images of each that are known already.

    Two trainings of one recipe differ too, which no number of samples tells: that is what the margin is for.
    """
    improvement, by_samples, by_held = metrics.kernel_difference(new, old)
    wanted = margin * max(old.value, 0.0)
    z = NormalDist().inv_cdf(1 - alpha)
    reach = z * math.hypot(by_samples, by_held)
    low, high = improvement - reach, improvement + reach
    if low > wanted:
        return Decision("promote", improvement, low, high, wanted)
    if high < wanted:
        return Decision("keep", improvement, low, high, wanted)
    # An error falls with the root of the number; more samples make up for no choice of held-out images.
    left = (abs(improvement - wanted) / z) ** 2 - by_held**2
    needed = math.ceil(samples * by_samples**2 / left) if left > 0 else None
    return Decision("abstain", improvement, low, high, wanted, needed if needed and needed <= MAX_SAMPLES else None)
