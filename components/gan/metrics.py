"""Metrics as pure functions of features or images. Names in `metrics.json` state features, samples and split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from .dataset import Pixels

Features = npt.NDArray[np.float64]


def frechet_distance(a: Features, b: Features) -> float:
    """|mu_a - mu_b|^2 + Tr(C_a + C_b - 2 (C_a C_b)^(1/2)) (Heusel et al. 2017, eq. 6), in squared feature units.

    Biased upwards for few samples: read it beside its floor, the distance of as many real images.
    Shapes: (N, F), (M, F).
    """
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # Tr((C_a C_b)^(1/2)) by the symmetric product root_a C_b root_a, whose eigenvalues are real and not negative.
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    shift = a.mean(0) - b.mean(0)
    return float(shift @ shift + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


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


def precision_recall(real: Features, fake: Features, k: int = 3) -> tuple[float, float]:
    """Share of fakes within the reals' manifold and of reals within the fakes' (Kynkaanniemi et al. 2019, eq. 1-2).

    A manifold is the union of balls that reach each point's k-th neighbour. Shapes: (N, F), (M, F).
    """
    r, f = torch.from_numpy(real).float(), torch.from_numpy(fake).float()

    def radii(x: torch.Tensor) -> torch.Tensor:
        blocks = [torch.cdist(x[i : i + 1000], x).kthvalue(k + 1, dim=1).values for i in range(0, len(x), 1000)]
        return torch.cat(blocks)

    def covered(points: torch.Tensor, centres: torch.Tensor, radius: torch.Tensor) -> float:
        blocks = [(torch.cdist(points[i : i + 1000], centres) <= radius).any(1) for i in range(0, len(points), 1000)]
        return float(torch.cat(blocks).float().mean())

    return covered(f, r, radii(r)), covered(r, f, radii(f))


def nearest(images: Pixels, references: Iterable[tuple[Pixels, object]]) -> npt.NDArray[np.int64]:
    """Index of the reference image with the least squared pixel distance to each image.

    `references` come in batches, each with its labels, so that any number of them fits.
    Shapes: (N, H, W, C), batches (M, H, W, C) uint8 -> (N,).
    """
    a = torch.from_numpy(images).flatten(1).float()
    best, index = torch.full((len(a),), torch.inf), torch.zeros(len(a), dtype=torch.long)
    start = 0
    for pixels, _ in references:
        b = torch.from_numpy(pixels).flatten(1).float()
        distance, position = (b.square().sum(1) - 2 * a @ b.T).min(1)
        closer = distance < best
        best[closer], index[closer] = distance[closer], position[closer] + start
        start += len(pixels)
    found: npt.NDArray[np.int64] = index.numpy()
    return found


def psnr_ssim(images: Pixels, references: Pixels) -> tuple[float, float]:
    """Mean peak signal-to-noise ratio (dB) and mean structural similarity of pairs (N, H, W, C) uint8.

    Identical pairs count as 100 dB, so that a copy raises the mean instead of making it infinite.
    """
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    psnr, ssim = [], []
    for image, reference in zip(images, references, strict=True):
        same = np.array_equal(image, reference)
        psnr.append(100.0 if same else peak_signal_noise_ratio(reference, image, data_range=255))
        ssim.append(structural_similarity(reference, image, channel_axis=2, data_range=255))
    return float(np.mean(psnr)), float(np.mean(ssim))


# For so many points of the curves on end, and not before as many have been.
_POINTS = 8


def symptom(history: Sequence[Mapping[str, float]]) -> str | None:
    """What is wrong with a training by the latest points of its curves, and what to change."""
    last = history[-_POINTS:]
    if len(history) < 2 * _POINTS:
        return None
    if all(row["diversity"] < 0.1 for row in last):
        return (
            f"collapse: generated images of a class are alike (they differ {last[-1]['diversity']:.0%} as much as real "
            "ones); raise train.r1_gamma, or lower train.learning_rate_generator"
        )
    if all(row["discriminator_accuracy"] > 0.995 for row in last):
        return (
            f"saturated: the discriminator is right about {last[-1]['discriminator_accuracy']:.1%} of the images, "
            "which teaches little; raise train.r1_gamma, lower train.learning_rate_discriminator, or with few "
            "images set train.ada to {}"
        )
    return None


def symptoms(history: Sequence[Mapping[str, float]]) -> list[str]:
    """Each kind of `symptom` that a training had, as it was told last, with the images after which it was."""
    found: dict[str, str] = {}
    for end in range(1, len(history) + 1):
        if text := symptom(history[:end]):
            found[text.partition(":")[0]] = f"at image {int(history[end - 1]['images']):,}, {text}"
    return list(found.values())
