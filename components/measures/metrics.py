"""Metrics as pure functions of features or images; a mean over images comes as its values, one for each.

Names in `metrics.json` state features, samples and split. `intervals.py` says what their intervals hold for.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import add
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from ..gan.dataset import Pixels
from .distances import Features, Moments, frechet, kernel_distance
from .intervals import Estimate as Estimate
from .intervals import Values as Values
from .intervals import around, left_out
from .intervals import auc as auc
from .intervals import auc_estimate as auc_estimate
from .intervals import mean as mean
from .intervals import share as share
from .manifolds import density_coverage as density_coverage
from .manifolds import precision_recall as precision_recall

# Fakes that are compared with each other.
_PART = 4_000
# Weights of the scales of MS-SSIM, the finest first (Wang et al. 2003, section 3.2), and its Gaussian window.
_SCALES, _WINDOW, _SIGMA = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333), 11, 1.5


def frechet_estimate(fake: Features, real: Features) -> Estimate:
    """Frechet distance, its interval by leaving out groups of both (jackknife): moments add up, nothing is read twice.

    A bootstrap repeats images, and how many it leaves out moves the bias of the distance more than chance moves the
    distance. Shapes: (N, F), (M, F).
    """
    # An eigenvalue problem each, of F cubed.
    count = 20 if fake.shape[1] <= 256 else 5
    groups = [
        (Moments.of(x), Moments.of(y)) for x, y in zip(*(dealt(each, count) for each in (fake, real)), strict=True)
    ]
    fakes, reals = (reduce(add, moments) for moments in zip(*groups, strict=True))
    return left_out(frechet(reals, fakes), [frechet(reals - y, fakes - x) for x, y in groups], least=0)


def dealt(features: Features, count: int) -> list[Features]:
    """Features (N, F) in `count` groups by chance, as even as it divides: neighbours in order may be alike."""
    order = np.random.default_rng(0).permutation(len(features))
    return [features[part] for part in np.array_split(order, count)]


def kernel_estimate(fake: Features, real: Features, resamples: int = 200) -> Estimate:
    """Kernel distance (KID), by resampling fakes and reals. Shapes: (N, F), (M, F)."""
    own, (x, y) = _own_pull(fake), _cross_pull(fake, real)
    spread = _resampled(own - x, 0, resamples) + _resampled(_own_pull(real) - y, 1, resamples)
    return around(kernel_distance(fake, real), float(spread.std()))


class Resampled(NamedTuple):
    """A kernel distance, and what it would have more had other fakes, or other reals, been drawn: (resamples,)."""

    value: float
    by_fakes: Tensor
    by_reals: Tensor


def kernel_resampled(
    fake: Features,
    real: Features,
    labels: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    stream: int,
    resamples: int = 400,
) -> Resampled:
    """KID of fakes to reals with resamples of both; less what the reals have among themselves.

    Both are drawn again within their classes, `labels` (N,) and (M,): where the fakes were made with the classes of the
    reals, how many there are of each is no accident.

    The reals are drawn alike whatever the `stream`, so that in the difference of two such distances what both owe to
    the choice of reals drops out, and it can be had without a comparison of the fakes. Shapes: (N, F), (M, F).
    """
    value, by_fake, by_real = kernel_pulls(fake, real)
    for pull, classes in zip((by_fake, by_real), labels, strict=True):
        for label in np.unique(classes):
            pull[classes == label] -= pull[classes == label].mean()
    return Resampled(value, _resampled(by_fake, 1 + stream, resamples), _resampled(by_real, 0, resamples))


class Pulls(NamedTuple):
    """A kernel distance, and what it changes by for each fake (N,) and each real (M,), to first order."""

    value: float
    by_fake: Tensor
    by_real: Tensor


def kernel_pulls(fake: Features, real: Features) -> Pulls:
    """KID of fakes to reals, less what the reals pull on each other, which is the same for all fakes.

    Of many fakes only those in one part are compared with each other: as many pairs say hardly less, and the distance
    is as unbiased. Shapes: (N, F), (M, F).
    """
    parts = np.array_split(fake, max(1, round(len(fake) / _PART)))
    own = torch.cat([_own_pull(part) for part in parts])
    x, r = _cross_pull(fake, real)
    # Each pull counts every pair twice, as both of its images have one.
    value = float(own.mean() / 2 + _own_pull(real).mean() / 2 - x.mean())
    return Pulls(value, own - x, -r)


def _resampled(pull: Tensor, stream: int, resamples: int) -> Tensor:
    """Resample what a distance would differ by if images, each with its `pull` (N,), were drawn again: (resamples,).

    To first order (Hoeffding 1948): resamples of the distance itself repeat images, and what a repeated image adds to a
    mean over pairs is several times of what chance does.
    """
    rng, count = np.random.default_rng((0, stream)), len(pull)
    pull = pull - pull.mean()
    return torch.stack([pull[torch.from_numpy(rng.integers(0, count, count))].mean() for _ in range(resamples)])


def _own_pull(features: Features) -> Tensor:
    """Pull of each image on the mean kernel of pairs of one set: (N,)."""
    x = torch.from_numpy(np.asarray(features, np.float64))
    pairs = torch.cat([_kernel(part, x).sum(1) for part in x.split(1000)])
    return 2 * (pairs - ((x * x).sum(1) / x.shape[1] + 1) ** 3) / (len(x) - 1)


def _cross_pull(fake: Features, real: Features) -> tuple[Tensor, Tensor]:
    """Pull of each image of both sets on twice the mean kernel between them: (N,), (M,)."""
    x, y = (torch.from_numpy(np.asarray(features, np.float64)) for features in (fake, real))
    by_fake, by_real = [], torch.zeros(len(y), dtype=torch.float64)
    for part in x.split(1000):
        kernel = _kernel(part, y)
        by_fake.append(kernel.mean(1))
        by_real += kernel.sum(0)
    return 2 * torch.cat(by_fake), 2 * by_real / len(x)


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return ((x @ y.T) / x.shape[1] + 1) ** 3


def _numpy(values: Tensor) -> Values:
    found: Values = values.double().numpy()
    return found


def class_score(probabilities: Values) -> Estimate:
    """exp(E KL(p(y|x) || p(y))), as the Inception Score (Salimans et al. 2016) of the classifier at hand.

    Between 1 and the number of classes. Shapes: (N, classes).
    """

    def score(p: Values) -> float:
        marginal = p.mean(0)
        log = np.log(p.clip(1e-12)) - np.log(marginal.clip(1e-12))
        return float(np.exp((p * log).sum(1).mean()))

    rng = np.random.default_rng(0)
    values = [score(probabilities[rng.integers(0, len(probabilities), len(probabilities))]) for _ in range(100)]
    return around(score(probabilities), float(np.std(values)))


def calibration_error(probability: Values, truth: npt.NDArray[np.bool_], bins: int = 10) -> float:
    """Return expected calibration error: mean |share that is true - mean probability| over equal bins.

    Guo et al. 2017 (arXiv 1706.04599), eq. 3.

    Shapes: (N,), (N,).
    """
    index = np.minimum((probability * bins).astype(int), bins - 1)
    gaps = [
        abs(truth[index == b].mean() - probability[index == b].mean()) * (index == b).sum()
        for b in range(bins)
        if (index == b).any()
    ]
    return float(sum(gaps) / len(truth))


def ms_ssim(a: Pixels, b: Pixels) -> Values:
    """Multi-scale structural similarity (Wang et al. 2003) of pairs (N, H, W, C) uint8 -> (N,).

    With as many of the five scales as the smaller side allows windows of 11 in, their weights summing to 1.
    """
    scales = max(1, min(len(_SCALES), int(np.log2(max(1, min(a.shape[1:3]) // _WINDOW))) + 1))
    weights = torch.tensor(_SCALES[:scales]) / sum(_SCALES[:scales])
    x, y = (torch.from_numpy(np.moveaxis(p, 3, 1).astype(np.float32) / 255) for p in (a, b))
    side = min(_WINDOW, *a.shape[1:3])
    grid = torch.arange(side) - (side - 1) / 2
    line = torch.exp(-grid.square() / (2 * _SIGMA**2))
    line = line / line.sum()
    window = (line[:, None] * line).expand(x.shape[1], 1, side, side)

    def blurred(image: Tensor) -> Tensor:
        return F.conv2d(image, window, groups=image.shape[1])

    result = torch.ones(len(x))
    for scale in range(scales):
        last = scale == scales - 1
        if last:
            # Mirrored at its border, which is much of so small an image.
            x, y = (F.pad(image, [side // 2] * 4, mode="reflect") for image in (x, y))
        mx, my = blurred(x), blurred(y)
        vx, vy, vxy = blurred(x * x) - mx * mx, blurred(y * y) - my * my, blurred(x * y) - mx * my
        alike = (2 * vxy + 0.03**2) / (vx.clamp(min=0) + vy.clamp(min=0) + 0.03**2)
        if last:
            alike = alike * (2 * mx * my + 0.01**2) / (mx * mx + my * my + 0.01**2)
        result *= alike.mean((1, 2, 3)).clamp(min=0) ** weights[scale]
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return _numpy(result)


def pairs_within(labels: npt.NDArray[np.int64], count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Up to `count` pairs of different images of one class: two arrays of indices, classes in turn."""
    rng, first, second = np.random.default_rng(0), [], []
    groups = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    for turn in range(max((len(group) for group in groups), default=0) // 2):
        for group in groups:
            if 2 * turn + 1 < len(group):
                first.append(group[2 * turn])
                second.append(group[2 * turn + 1])
    return np.array(first[:count], np.int64), np.array(second[:count], np.int64)


class Neighbours(NamedTuple):
    """Of each of N images: the index of the nearest reference, and its distance."""

    nearest: npt.NDArray[np.int64]
    distance: Values


def neighbours(images: npt.NDArray, references: Iterable[npt.NDArray]) -> Neighbours:
    """Nearest of the references, which come in batches, so that any number of them fits; Euclidean.

    Shapes: (N, ...), batches (M, ...) of features, or of pixels as uint8.
    """
    a = torch.from_numpy(images.reshape(len(images), -1)).float()
    best = torch.full((len(a),), torch.inf)
    index, start = torch.zeros(len(a), dtype=torch.long), 0
    for batch in references:
        b = torch.from_numpy(batch.reshape(len(batch), -1)).float()
        squared = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T
        least, position = squared.min(1)
        closer = least < best
        index[closer] = position[closer] + start
        best = torch.minimum(best, least)
        start += len(b)
    found: npt.NDArray[np.int64] = index.numpy()
    return Neighbours(found, best.clamp(min=0).sqrt().double().numpy())


def psnr_ssim(images: Pixels, references: Pixels) -> tuple[Values, Values]:
    """Peak signal-to-noise ratio (dB) and structural similarity of pairs (N, H, W, C) uint8 -> (N,), (N,).

    Identical pairs count as 100 dB, so that a copy raises the mean instead of making it infinite.
    """
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    psnr, ssim = [], []
    for image, reference in zip(images, references, strict=True):
        same = np.array_equal(image, reference)
        psnr.append(100.0 if same else peak_signal_noise_ratio(reference, image, data_range=255))
        ssim.append(structural_similarity(reference, image, channel_axis=2, data_range=255))
    return np.array(psnr), np.array(ssim)
