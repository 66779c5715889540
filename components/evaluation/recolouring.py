"""The colours of some images given to another: mean and deviation of each channel (Reinhard et al. 2001).

In L*a*b* in place of their l-alpha-beta. Of transparent images each pixel counts by its opacity, which stays.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..gan.dataset import Pixels, Split, to_pixels

# Images whose colours are looked at by whoever colours without a network.
LEARNED_FROM = 2_000
Values = npt.NDArray[np.float64]


class Recoloured(NamedTuple):
    """Gives images the mean and the deviation (channels,) that were found."""

    mean: Values
    deviation: Values

    @classmethod
    def like(cls, training: Split, label: int | None = None) -> Recoloured:
        """Look at the training images, or those of one class."""
        index = training.spread(LEARNED_FROM) if label is None else np.flatnonzero(training.labels == label)
        return cls(*_statistics(training.pixels(index[:LEARNED_FROM])))

    def given(self, given: Tensor) -> Pixels:
        """Return conditions (N, C, H, W) with these colours, (N, H, W, C)."""
        return self.of(to_pixels(given))

    def of(self, pixels: Pixels) -> Pixels:
        """Return images (N, H, W, C) with these colours."""
        return np.stack([self._one(image) for image in pixels])

    def _one(self, image: Pixels) -> Pixels:
        mean, deviation = _statistics(image[None])
        lab = (_lab(image[None])[0] - mean) / np.maximum(deviation, 1e-6) * self.deviation + self.mean
        colours = _levels(lab)
        return np.concatenate([colours, image[..., 3:]], 2) if image.shape[2] == 4 else colours


def in_colours_of(training: Split, pixels: Pixels, labels: npt.NDArray[np.int64]) -> Pixels:
    """Return images (N, H, W, C) in the colours of the classes `labels` (N,)."""
    made = np.empty_like(pixels)
    for label in np.unique(labels):
        made[labels == label] = Recoloured.like(training, int(label)).of(pixels[labels == label])
    return made


def _statistics(pixels: Pixels) -> tuple[Values, Values]:
    """Return mean and deviation of each channel of L*a*b* over all pixels of images (N, H, W, C)."""
    lab = _lab(pixels).reshape(-1, 3 if pixels.shape[3] >= 3 else 1)
    weights = pixels[..., 3].reshape(-1) / 255 if pixels.shape[3] == 4 else np.ones(len(lab))
    weights = weights / max(weights.sum(), 1e-9)
    mean = weights @ lab
    return mean, np.sqrt(weights @ np.square(lab - mean))


def _lab(pixels: Pixels) -> Values:
    """Pixels (N, H, W, C) in L*a*b*; of grey ones the levels."""
    from skimage.color import rgb2lab

    if pixels.shape[3] < 3:
        return pixels[..., :1].astype(np.float64)
    return np.asarray(rgb2lab(pixels[..., :3]))


def _levels(lab: Values) -> Pixels:
    from skimage.color import lab2rgb

    with warnings.catch_warnings():
        # What lies outside of all colours is clipped, as it should.
        warnings.simplefilter("ignore", UserWarning)
        levels = lab if lab.shape[-1] == 1 else 255 * lab2rgb(lab)
    return np.asarray(np.rint(levels).clip(0, 255).astype(np.uint8))
