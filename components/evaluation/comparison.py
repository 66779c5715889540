"""How much nearer to the holdout a challenger is than a champion, with all that this rests on by chance.

By chance are the samples of both (of an image task held-out files, which both are given), the choice of held-out
images, and the seed that a feature net was trained with: another one sees the same images in other features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit  # type: ignore[import-untyped]

from ..measures.intervals import Values
from ..measures.metrics import Resampled

# Wanted of a test: how often it finds what is there.
POWER = 0.9


class Comparison(NamedTuple):
    """Improvement, distance of the champion minus that of the challenger, as a mean over feature nets.

    The distance is KID, and of an image task the perceptual one. Standard errors by what they are owed to; `by_nets` is
    None where there is one net alone, of which nothing says how far another would be from it. `samples`: of each of the
    two. `paired`: the samples are files, of which both are given the same, so that one choice of them counts for both;
    it is few of them that `by_samples` is known by.
    """

    challenger: float
    champion: float
    by_samples: float
    by_held: float
    by_nets: float | None
    nets: int
    samples: int
    paired: bool = False

    @classmethod
    def of_pairs(cls, challenger: Values, champion: Values) -> Comparison:
        """Compare by the distances of both, (nets, files), to the originals of the same files.

        Nets differ in scale, which is divided out as by `of`.
        """
        nets, files = challenger.shape
        weight = weights_of_nets(challenger, champion)[:, None]
        new, old = weight * challenger, weight * champion
        by_file, by_net = (old - new).mean(0), (old - new).mean(1)
        return cls(
            challenger=float(new.mean()),
            champion=float(old.mean()),
            by_samples=float(by_file.std(ddof=1)) / files**0.5 if files > 1 else math.inf,
            by_held=0.0,
            by_nets=float(by_net.std(ddof=1)) / nets**0.5 if nets > 1 else None,
            nets=nets,
            samples=files,
            paired=True,
        )

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
        if self.paired:
            return -float(stdtrit(self._freedom_of_pairs, alpha)) * self.error
        if not self.by_nets:
            return -float(ndtri(alpha)) * self.error
        freedom = (self.nets - 1) * min(self.error / self.by_nets, 1e3) ** 4
        return -float(stdtrit(freedom, alpha)) * self.error

    @property
    def _freedom_of_pairs(self) -> float:
        """By how many the error is known that is owed to files and to nets, each by as many as there are less one."""
        terms = [(self.by_samples, self.samples), *([(self.by_nets, self.nets)] if self.by_nets else [])]
        known = sum((part / self.error) ** 4 / max(1, count - 1) for part, count in terms) if self.error else 0.0
        return 1 / known if known and math.isfinite(known) else 1.0

    def with_samples(self, samples: int) -> Comparison:
        """Return what is to be expected of other numbers of samples: their error falls with the root of the number."""
        return self._replace(samples=samples, by_samples=self.by_samples * (self.samples / samples) ** 0.5)

    def power(self, improvement: float, least: float) -> float:
        """Probability that `least` is found, or more, where the improvement is `improvement`."""
        return float(ndtr((improvement - least) / self.error)) if self.error else float(improvement > least)


def weights_of_nets(challenger: Values, champion: Values) -> Values:
    """Return what each net counts (nets,), by the distances of both, (nets, files): as if all had the same mean."""
    scale = (challenger + champion).mean(1)
    return scale.mean() / scale if (scale > 0).all() else np.ones(len(scale))


def spent(alpha: float, look: int, early: float) -> float:
    """Return the part of `alpha` that the look number `look`, from 1 on, may use; those of all looks sum up to `alpha`.

    So however often one looks, the probability of being wrong at any look stays below `alpha`. The `early` first looks
    take half of it.
    """
    return alpha * early / ((look + early - 1) * (look + early))
