"""The order of images over epochs, and pixels on their way to tensors and back."""

import numpy as np
import pytest
import torch

from components.gan.dataset import Split, shuffled_order, to_pixels, to_signed
from components.gan.options import ImageFormat


def test_every_epoch_shows_every_image_once_wherever_it_is_cut() -> None:
    order = shuffled_order(103, seed=1)
    sequence = np.concatenate([order(first, first + 10) for first in range(0, 1030, 10)])
    for epoch in range(10):
        assert sorted(sequence[epoch * 103 : (epoch + 1) * 103]) == list(range(103))
    assert (sequence[:103] != sequence[103:206]).any()
    # A fresh process that begins in the middle, as after a resume, sees the same images.
    assert (shuffled_order(103, seed=1)(517, 700) == sequence[517:700]).all()
    assert (shuffled_order(103, seed=2)(0, 103) != sequence[:103]).any()


def test_pixels_come_from_the_right_shard(split: Split) -> None:
    index = np.array([299, 300, 0, 499, 7])
    whole = np.concatenate([pixels for pixels, _ in split.batches(64)])
    assert len(whole) == len(split) == 500
    assert (split.pixels(index) == whole[index]).all()
    real, label, condition, _ = split.batch(index, torch.device("cpu"))
    assert real.shape == (5, 1, 28, 28)
    assert real.is_contiguous(memory_format=torch.channels_last)
    assert real.min() >= -1
    assert real.max() <= 1
    assert label.tolist() == split.labels[index].tolist()
    assert condition is None


def test_pixels_survive_the_way_to_floats_and_back() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    assert (to_pixels(to_signed(torch.from_numpy(every))) == every).all()
    assert to_pixels(torch.full((1, 1, 1, 1), 7.0)).item() == 255


@pytest.mark.parametrize("order", ["sorted", "in turns", "rare last"])
def test_some_images_and_the_first_of_them_are_a_sample_whatever_their_order(order: str) -> None:
    labels = {
        "sorted": np.repeat(np.arange(10), 50),
        "in turns": np.arange(500) % 10,
        "rare last": np.repeat([0, 1], [490, 10]),
    }[order].astype(np.int64)
    classes = labels.max() + 1
    image = ImageFormat(height=4, width=4, channels=1, classes=tuple(map(str, range(classes))))
    split = Split.of(np.zeros((500, 4, 4, 1), np.uint8), labels, image)
    assert np.array_equal(np.sort(split.spread(900)), np.arange(500))
    chosen = split.spread(250)
    assert len(np.unique(chosen)) == 250
    for first in (50, 100, 250):
        counts = np.bincount(labels[chosen[:first]], minlength=classes)
        # One more or less than its share of each class.
        assert np.abs(counts - split.class_shares * first).max() <= 1
    # Not the first images of each class, which may be of one day or one maker.
    assert abs(np.mean(chosen) - 249.5) < 30
