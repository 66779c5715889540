"""The order of images over epochs, and pixels on their way to tensors and back."""

import numpy as np
import torch

from components.gan.dataset import Split, shuffled_order, to_pixels, to_signed


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
    real, label, condition = split.batch(index, torch.device("cpu"))
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
