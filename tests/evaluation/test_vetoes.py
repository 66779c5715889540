"""The rules of the vetoes, on classes as a classifier sees them."""

from __future__ import annotations

import numpy as np
import pytest

from components.evaluation.vetoes import scarcest

LEAST = 0.25


def seen(shares: list[float], recall: list[float], count: int, rng: np.random.Generator) -> np.ndarray:
    """Classes that a classifier sees in `count` images: one that is overlooked is seen as class 0."""
    true = rng.choice(len(shares), count, p=np.array(shares) / np.sum(shares))
    return np.where(rng.random(count) < np.array(recall)[true], true, 0)


@pytest.mark.parametrize("seed", range(10))
def test_a_class_that_the_classifier_overlooks_is_not_charged_to_the_samples(seed: int) -> None:
    """Real images in place of samples, of a long tail of classes; of the rarest one in eight is recognised."""
    rng = np.random.default_rng(seed)
    shares, recall = [900.0, 400, 200, 100, 60, 30], [1, 0.98, 0.9, 0.7, 0.3, 0.12]
    found = scarcest(seen(shares, recall, 8000, rng), seen(shares, recall, 2000, rng), 6)
    assert found is not None
    assert found[2] >= LEAST


def test_a_class_that_is_missing_is_found() -> None:
    rng = np.random.default_rng(0)
    real = seen([1.0] * 10, [0.97] * 10, 2000, rng)
    for kept, passes in ((0.0, False), (0.1, False), (0.6, True)):
        made = seen([1.0] * 9 + [kept], [0.97] * 10, 8000, rng)
        found = scarcest(made, real, 10)
        assert found is not None
        assert (found[0] == 9) or passes
        assert (found[2] >= LEAST) == passes


def test_what_chance_explains_is_no_veto() -> None:
    """Of 10 expected images 1 came: that may be by chance where so few are made, and not where 100 are expected."""
    real = np.repeat([0, 1], [90, 10])
    few, many = (scarcest(np.repeat([0, 1], made), real, 2) for made in ([99, 1], [9990, 10]))
    assert few is not None and many is not None
    assert few[:2] == (1, 0.1)
    assert few[2] > LEAST
    assert many[2] < LEAST


def test_classes_of_a_few_images_are_not_judged() -> None:
    assert scarcest(np.zeros(100, np.int64), np.arange(100) % 20, 20) is None
