"""Which images repeat a training image, whatever shift, mirroring, crop or tone lies between the two.

Two images are as far apart as the nearest pair of views of them: of the image its middle and the whole of it, both also
mirrored; of the training image every window of the middle's size. A view has no mean and no contrast. So a shift is the
middle at another window, with no invented pixels at a border, and a crop is the whole at a window.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from ..gan.dataset import Pixels

Values = npt.NDArray[np.float64]
# Pixels: larger images are reduced to this side before they are compared.
SIDE = 32
# Training images nearest to an image that do not count as its neighbours, for they may be frames of one scene or
# pictures of one series (at most one in a hundred of all); and those behind them that do.
SKIPPED, OTHERS = 64, 50
# Deviations of the bulk of unseen images below their median: 6 of 10,000 where log ratios are normal, and less than
# 1 of 100 with the heavier tails that they have (docs/evaluation.md).
DEVIATIONS = 3.25
# Grey levels by which a generator that learned an image by heart is off.
NOISE = 8.0


class Nearest(NamedTuple):
    """Of each of N images: the index of the nearest training image, and the ratio of its distance to the others'.

    The ratio is about 0.6 for an image of its own and near 0 for a copy (Carlini et al. 2023, section 4.2: typical
    images are near to everything, so that a distance alone tells nothing).
    """

    nearest: npt.NDArray[np.int64]
    ratio: Values


def nearest_views(images: Pixels, training: Iterable[Pixels]) -> Nearest:
    """Nearest training image of each of `images` (N, H, W, C), whatever lies between them; training in batches."""
    grey = _grey(images)
    middle, whole = _middle(grey), _whole(grey)
    views = _normalised(torch.cat((middle, middle.flip(3), whole, whole.flip(3))))
    best = torch.full((len(images), SKIPPED + OTHERS + 1), -torch.inf)
    index, start = torch.zeros(len(images), dtype=torch.long), 0
    for batch in training:
        alike: Tensor | None = None
        for window in _windows(_grey(batch)):
            found = views @ _normalised(window).T
            alike = found if alike is None else torch.maximum(alike, found)
        assert alike is not None
        nearest = alike.view(4, len(images), len(batch)).amax(0)
        most, position = nearest.max(1)
        closer = most > best[:, 0]
        index[closer] = position[closer] + start
        best = torch.cat((best, nearest), 1).topk(best.shape[1], dim=1).values
        start += len(batch)
    skipped = min(SKIPPED, start // 100)
    distance = (2 - 2 * best[:, : min(start, 1 + skipped + OTHERS)].double()).clamp(min=0).sqrt()
    others = distance[:, 1 + skipped :] if distance.shape[1] > 1 + skipped else distance
    ratio: Values = (distance[:, 0] / others.mean(1).clamp(min=1e-12)).numpy()
    return Nearest(index.numpy(), ratio)


def threshold(unseen: Values) -> float:
    """Ratio below which an image is a copy, by the bulk of the ratios of unseen real images (N,).

    Not by the least of them: near-duplicates of training images among them would hide all copies. From the median and
    the lower quartile, which stay where they are while fewer than a quarter of them are such.
    """
    logs = np.log(unseen.clip(1e-6))
    quartile, median = np.quantile(logs, [0.25, 0.5])
    return float(np.exp(median - DEVIATIONS * (median - quartile) / 0.6745))


def planted(pixels: Pixels, kind: str, rng: np.random.Generator) -> Pixels:
    """Return `pixels` (N, H, W, C) as a generator that learned them by heart might make them.

    Each is off by noise but the `exact` ones. Shifted: by 1 or 2 pixels along both axes, what comes in is the edge
    again. Toned: contrast of 0.7 to 1.3 times and up to 40 grey levels lighter or darker. Cropped: any seven eighths.

    Raises:
        KeyError: there is no such kind.
    """
    changed = _CHANGES[kind](pixels.astype(np.float64), rng)
    noise = 0.0 if kind == "exact" else rng.normal(0, NOISE, changed.shape)
    return np.rint(changed + noise).clip(0, 255).astype(np.uint8)


def _shifted(pixels: Values, rng: np.random.Generator) -> Values:
    height, width = pixels.shape[1:3]
    padded = np.pad(pixels, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    offsets = 2 + rng.integers(1, 3, (len(pixels), 2)) * rng.choice([-1, 1], (len(pixels), 2))
    return np.stack([image[y : y + height, x : x + width] for image, (y, x) in zip(padded, offsets, strict=True)])


def _toned(pixels: Values, rng: np.random.Generator) -> Values:
    shape = (len(pixels), 1, 1, 1)
    mean = pixels.mean((1, 2, 3), keepdims=True)
    return (pixels - mean) * rng.uniform(0.7, 1.3, shape) + mean + rng.uniform(-40, 40, shape)


def _cropped(pixels: Values, rng: np.random.Generator) -> Values:
    height, width = pixels.shape[1:3]
    rows, columns = (max(1, round(side * 7 / 8)) for side in (height, width))
    cropped = []
    for image in pixels:
        y, x = rng.integers(0, height - rows + 1), rng.integers(0, width - columns + 1)
        cropped.append(torch.from_numpy(image[y : y + rows, x : x + columns]).permute(2, 0, 1))
    whole = F.interpolate(torch.stack(cropped), (height, width), mode="bilinear", align_corners=False)
    found: Values = whole.permute(0, 2, 3, 1).numpy()
    return found


_CHANGES = {
    "exact": lambda pixels, rng: pixels,
    "noisy": lambda pixels, rng: pixels,
    "shifted": _shifted,
    "mirrored": lambda pixels, rng: pixels[:, :, ::-1],
    "toned": _toned,
    "cropped": _cropped,
}
KINDS = tuple(_CHANGES)


def _grey(pixels: Pixels) -> Tensor:
    """Mean of the channels, (N, H, W, C) -> (N, 1, H, W), at most SIDE high and wide."""
    grey = torch.from_numpy(pixels.mean(3, dtype=np.float32))[:, None]
    size = tuple(min(SIDE, side) for side in grey.shape[2:])
    if size == grey.shape[2:]:
        return grey
    return F.interpolate(grey, size, mode="bilinear", align_corners=False, antialias=True)


def _margin(side: int) -> int:
    """Pixels by which an image may be shifted."""
    return 2 if side >= 16 else 1


def _middle(grey: Tensor) -> Tensor:
    height, width = grey.shape[2:]
    y, x = _margin(height), _margin(width)
    return grey[:, :, y : height - y, x : width - x]


def _whole(grey: Tensor) -> Tensor:
    """All of each image, in the size of its middle."""
    size = _middle(grey).shape[2:]
    return F.interpolate(grey, size, mode="bilinear", align_corners=False, antialias=True)


def _windows(grey: Tensor) -> Iterable[Tensor]:
    """Every part of the middle's size."""
    height, width = grey.shape[2:]
    y, x = 2 * _margin(height), 2 * _margin(width)
    for top in range(y + 1):
        for left in range(x + 1):
            yield grey[:, :, top : height - y + top, left : width - x + left]


def _normalised(view: Tensor) -> Tensor:
    """Views (N, 1, H, W) at half the size, less their means and in units of their contrast: (N, F)."""
    height, width = (side // 2 if side >= 16 else side for side in view.shape[2:])
    pixels = F.adaptive_avg_pool2d(view, (height, width)).flatten(1)
    pixels = pixels - pixels.mean(1, keepdim=True)
    return pixels / pixels.norm(dim=1, keepdim=True).clamp(min=1e-6)
