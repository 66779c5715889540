"""The search for copies on real digits: what is memorised is found whatever lies between, and what is unseen is not."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from components.measures import copies
from tests.conftest import Pixels

EACH = 60


@pytest.fixture(scope="module")
def training(digits: tuple[Pixels, Pixels]) -> Pixels:
    return digits[0][:1000, :, :, None]


@pytest.fixture(scope="module")
def unseen(digits: tuple[Pixels, Pixels]) -> Pixels:
    return digits[0][1000:2000, :, :, None]


@pytest.fixture(scope="module")
def bound(training: Pixels, unseen: Pixels) -> float:
    """By the first half of the unseen images."""
    return copies.threshold(copies.nearest_views(unseen[:500], [training]).ratio)


@pytest.mark.parametrize("kind", copies.KINDS)
def test_memorised_images_are_found_whatever_lies_between(training: Pixels, bound: float, kind: str) -> None:
    chosen = np.random.default_rng(1).permutation(len(training))[:EACH]
    planted = copies.planted(training[chosen], kind, np.random.default_rng(2))
    found = copies.nearest_views(planted, np.array_split(training, 7))
    assert (found.ratio < bound).mean() >= 0.95
    assert (found.nearest == chosen).mean() >= 0.95


def test_all_that_lies_between_at_once_is_found(training: Pixels, bound: float) -> None:
    rng, planted = np.random.default_rng(3), training[:EACH]
    for kind in ("shifted", "mirrored", "toned"):
        planted = copies.planted(planted, kind, rng)
    assert (copies.nearest_views(planted, [training]).ratio < bound).mean() >= 0.9


def test_unseen_images_are_no_copies(training: Pixels, unseen: Pixels, bound: float) -> None:
    """With thousands of training images it is 1 in 100 (docs/evaluation.md); with one thousand the tail is heavier."""
    assert (copies.nearest_views(unseen[500:], [training]).ratio < bound).mean() <= 0.03


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1])
def test_near_duplicates_among_the_unseen_hide_no_copies(training: Pixels, unseen: Pixels, share: float) -> None:
    """As JPEG makes them of training images."""

    def saved_again(pixels: Pixels) -> Pixels:
        file = BytesIO()
        Image.fromarray(pixels[:, :, 0]).save(file, "JPEG", quality=85)
        return np.asarray(Image.open(file))[:, :, None]

    twins = np.stack([saved_again(pixels) for pixels in training[: round(500 * share)]])
    held = np.concatenate([twins, unseen[: 500 - len(twins)]])
    bound = copies.threshold(copies.nearest_views(held, [training]).ratio)
    planted = copies.planted(training[-EACH:], "noisy", np.random.default_rng(0))
    assert (copies.nearest_views(planted, [training]).ratio < bound).mean() >= 0.95


def test_an_image_of_a_series_is_found(training: Pixels, unseen: Pixels) -> None:
    """Ten training images like one another, which are the likeliest to be memorised."""
    rng = np.random.default_rng(0)
    series = [copies.planted(np.repeat(training[i : i + 1], 10, 0), "noisy", rng) for i in range(3)]
    whole = np.concatenate([training, *series])
    bound = copies.threshold(copies.nearest_views(unseen[:500], [whole]).ratio)
    memorised = copies.planted(np.concatenate([each[:1] for each in series]), "noisy", rng)
    assert (copies.nearest_views(memorised, [whole]).ratio < bound).all()


def test_batches_and_few_training_images_change_nothing(training: Pixels) -> None:
    few, images = training[:40], training[20:60]
    whole, parts = (copies.nearest_views(images, batches) for batches in ([few], np.array_split(few, 9)))
    assert (whole.nearest[:20] == np.arange(20, 40)).all()
    assert (parts.nearest == whole.nearest).all()
    # Distances come of products of some 150 values in fp32, whose rounding is in their squares: 300 * 2**-24 in each.
    assert parts.ratio**2 == pytest.approx(whole.ratio**2, abs=1e-4)
    assert whole.ratio[:20].max() < 0.01 < whole.ratio[20:].min()
    assert np.isfinite(copies.nearest_views(images, [few[:1]]).ratio).all()


@pytest.mark.parametrize("shape", [(8, 8, 1), (40, 24, 3), (96, 96, 4)])
def test_images_of_any_size_and_channels(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    training = rng.integers(0, 256, (300, 4, 4, shape[2]), dtype=np.uint8)
    training = training.repeat(-(-shape[0] // 4), 1).repeat(-(-shape[1] // 4), 2)[:, : shape[0], : shape[1]]
    found = copies.nearest_views(copies.planted(training[:20], "mirrored", rng), [training])
    assert (found.nearest == np.arange(20)).all()
    assert found.ratio.max() < 0.4


def test_blank_images_repeat_nothing(training: Pixels) -> None:
    assert copies.nearest_views(np.zeros((2, 28, 28, 1), np.uint8), [training[:500]]).ratio == pytest.approx([1, 1])
