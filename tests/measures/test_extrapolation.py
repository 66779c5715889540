"""The distance of infinitely many images, held to that of Gaussians, which is known."""

from __future__ import annotations

import numpy as np
import pytest

from components.measures.distances import frechet_distance
from components.measures.extrapolation import IMAGES_PER_FEATURE, frechet_infinity, reaches


@pytest.mark.parametrize(("wider", "shift"), [(1.0, 0.0), (1.3, 0.2)])
@pytest.mark.parametrize(("fakes", "reals"), [(64, 64), (8, 32)])
def test_the_distance_of_gaussians_is_that_of_infinitely_many(
    wider: float, shift: float, fakes: int, reals: int
) -> None:
    """Where that of as many images as there are is far too high; both numbers are images for each feature."""
    size, draws, rng = 16, 12, np.random.default_rng(0)
    truth = size * (shift**2 + (wider - 1) ** 2)
    found, plain = [], []
    for _ in range(draws):
        real, fake = rng.normal(size=(reals * size, size)), rng.normal(size=(fakes * size, size)) * wider + shift
        found.append(frechet_infinity(fake, real))
        plain.append(frechet_distance(fake, real))
    values = np.array([each.value for each in found])
    assert abs(values.mean() - truth) < 4 * values.std() / draws**0.5 + 0.01
    assert np.mean(plain) - truth > 3 * abs(values.mean() - truth)
    assert np.mean([each.low <= truth <= each.high for each in found]) >= 10 / draws


def test_it_is_told_only_of_enough_images() -> None:
    enough = np.zeros((IMAGES_PER_FEATURE * 4, 4))
    assert reaches(enough, enough)
    assert not reaches(enough[1:], enough)
    assert not reaches(enough, enough[1:])
