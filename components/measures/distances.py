"""Distances between crowds of images in a feature space: what a training is scored by while it runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Features = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Sums over features (N, F) in float64: those of parts add up to those of the whole, however many there are."""

    count: int
    total: npt.NDArray[np.float64]
    products: npt.NDArray[np.float64]

    @classmethod
    def of(cls, features: Features) -> Moments:
        """Shapes: (N, F)."""
        x = features.astype(np.float64, copy=False)
        return cls(len(x), x.sum(0), x.T @ x)

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.count + other.count, self.total + other.total, self.products + other.products)

    def __sub__(self, other: Moments) -> Moments:
        return Moments(self.count - other.count, self.total - other.total, self.products - other.products)

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """Return the mean feature, (F,)."""
        return self.total / self.count

    @property
    def covariance(self) -> npt.NDArray[np.float64]:
        """(F, F), with N - 1 in the denominator."""
        return (self.products - np.outer(self.total, self.mean)) / (self.count - 1)


def frechet(a: Moments, b: Moments) -> float:
    """|mu_a - mu_b|^2 + Tr(C_a + C_b - 2 (C_a C_b)^(1/2)) (Heusel et al. 2017, eq. 6), in squared feature units.

    Biased upwards for few samples: read it beside its floor, the distance of as many real images.
    """
    cov_a, cov_b = a.covariance, b.covariance
    # Tr((C_a C_b)^(1/2)) by the symmetric product root_a C_b root_a, whose eigenvalues are real and not negative.
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    shift = a.mean - b.mean
    return float(shift @ shift + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def frechet_distance(a: Features, b: Features) -> float:
    """`frechet` of two sets of features. Shapes: (N, F), (M, F)."""
    return frechet(Moments.of(a), Moments.of(b))


def kernel_distance(a: Features, b: Features) -> float:
    """KID: unbiased squared maximum mean discrepancy with the kernel (x.y / F + 1)^3 (Binkowski et al. 2018, eq. 4).

    May be slightly negative where the two are alike. Shapes: (N, F), (M, F).
    """

    def total(x: Features, y: Features) -> float:
        blocks = (((x[i : i + 1000] @ y.T) / x.shape[1] + 1) ** 3 for i in range(0, len(x), 1000))
        return float(sum(block.sum() for block in blocks))

    def own(x: Features) -> float:
        diagonal = (((x * x).sum(1) / x.shape[1] + 1) ** 3).sum()
        return (total(x, x) - float(diagonal)) / (len(x) * (len(x) - 1))

    return own(a) + own(b) - 2 * total(a, b) / (len(a) * len(b))
