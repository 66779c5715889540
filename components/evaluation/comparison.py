"""How much nearer to the holdout a challenger is than a champion, with all that this rests on by chance.

By chance are the samples of both, the choice of held-out images, and the seed that a feature net was trained with:
another one sees the same images in other features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit  # type: ignore[import-untyped]

from ..measures.metrics import Resampled

# Wanted of a test: how often it finds what is there.
POWER = 0.9


class Comparison(NamedTuple):
    """Improvement, KID of the champion minus that of the challenger, as a mean over feature nets.

    Standard errors by what they are owed to; `by_nets` is None where there is one net alone, of which nothing says how
    far another would be from it. `samples`: of each of the two.
    """

    challenger: float
    champion: float
    by_samples: float
    by_held: float
    by_nets: float | None
    nets: int
    samples: int

    @classmethod
    def of(cls, challenger: Sequence[Resampled], champion: Sequence[Resampled], samples: int) -> Comparison:
        """Compare by the KID of both in each feature net.

        Nets differ in the scale of their features, which is divided out: each counts as if the two KIDs were together
        what they are on average.
        """
        new, old = (np.array([each.value for each in model]) for model in (challenger, champion))
        scale = new + old
        # KIDs of models that are as good as real images may be negative, and say nothing of the scale.
        weight = scale.mean() / scale if (scale > 0).all() else np.ones(len(scale))
        pairs = list(zip(weight, challenger, champion, strict=True))
        by_fakes = sum(w * (b.by_fakes - a.by_fakes) for w, a, b in pairs) / len(pairs)
        by_reals = sum(w * (b.by_reals - a.by_reals) for w, a, b in pairs) / len(pairs)
        differences = weight * (old - new)
        return cls(
            challenger=float((weight * new).mean()),
            champion=float((weight * old).mean()),
            by_samples=float(by_fakes.std()),
            by_held=float(by_reals.std()),
            by_nets=float(differences.std(ddof=1)) / len(pairs) ** 0.5 if len(pairs) > 1 else None,
            nets=len(pairs),
            samples=samples,
        )

    @property
    def improvement(self) -> float:
        return self.champion - self.challenger

    @property
    def error(self) -> float:
        """Standard error of the improvement."""
        return math.hypot(self.by_samples, self.by_held, self.by_nets or 0.0)

    def reach(self, alpha: float) -> float:
        """By how much the improvement may be less with a probability of `alpha`, and as much more.

        A quantile of Student's t: the error that is owed to nets is known by few of them (Satterthwaite 1946).
        """
        if not self.by_nets:
            return -float(ndtri(alpha)) * self.error
        freedom = (self.nets - 1) * min(self.error / self.by_nets, 1e3) ** 4
        return -float(stdtrit(freedom, alpha)) * self.error

    def with_samples(self, samples: int) -> Comparison:
        """Return what is to be expected of other numbers of samples: their error falls with the root of the number."""
        return self._replace(samples=samples, by_samples=self.by_samples * (self.samples / samples) ** 0.5)

    def power(self, improvement: float, least: float) -> float:
        """Probability that `least` is found, or more, where the improvement is `improvement`."""
        return float(ndtr((improvement - least) / self.error)) if self.error else float(improvement > least)


def spent(alpha: float, look: int, early: float) -> float:
    """Return the part of `alpha` that the look number `look`, from 1 on, may use; those of all looks sum up to `alpha`.

    So however often one looks, the probability of being wrong at any look stays below `alpha`. The `early` first looks
    take half of it.
    """
    return alpha * early / ((look + early - 1) * (look + early))
