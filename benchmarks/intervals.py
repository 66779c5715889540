"""How often the 95 % intervals of an evaluation hold what they should, by drawing real features again and again.

`python -m benchmarks.intervals --data DIR`: a classifier of 3,000 of the digits in DIR sees the other 7,000 (the reals)
and 20,000 turned, scaled and shifted copies of them (the fakes). Fakes are drawn, and reals that stay the same or are
drawn too; what an interval should hold is the mean over all draws. Prints a row for each metric.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from components.gan.dataset import Pixels, Split
from components.gan.options import ImageFormat
from components.measures import extrapolation, manifolds, metrics
from components.measures.distances import Features
from components.measures.features import read, train_classifier
from components.measures.intervals import Estimate

LEARNED, FAKES = 3_000, 20_000
Labels = npt.NDArray[np.int64]
# Two sets of features, the reals' first, and whether the classifier is right about each fake -> estimates by name.
METRICS: Mapping[str, Callable[[Features, Features, npt.NDArray[np.bool_]], Estimate]] = {
    "fd": lambda real, fake, right: metrics.frechet_estimate(fake, real),
    "fd_infinity": lambda real, fake, right: extrapolation.frechet_infinity(fake, real),
    "kid": lambda real, fake, right: metrics.kernel_estimate(fake, real),
    "precision": lambda real, fake, right: metrics.share(manifolds.precision_recall(real, fake)[0]),
    "recall": lambda real, fake, right: manifolds.recall_estimate(real, fake),
    "density": lambda real, fake, right: metrics.mean(manifolds.density_coverage(real, fake)[0]),
    "coverage": lambda real, fake, right: manifolds.coverage_estimate(real, fake),
    "agreement": lambda real, fake, right: metrics.share(right),
    # Of the first feature that varies, as of a logit.
    "auc": lambda real, fake, right: metrics.auc_estimate(real.sum(1), fake.sum(1)),
}


def main() -> None:
    """Draw, estimate and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--fakes", type=int, default=1_000)
    parser.add_argument("--reals", type=int, default=4_000)
    parser.add_argument("--only", nargs="*", choices=METRICS, default=list(METRICS))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    real, fake, right = _features(*_digits(asked.data))
    rng, began = np.random.default_rng(0), time.process_time()
    found: dict[str, list[Estimate]] = {f"{name} {drawn}": [] for name in asked.only for drawn in ("fakes", "both")}
    same = real[rng.permutation(len(real))[: asked.reals]]
    for _ in range(asked.draws):
        chosen = rng.permutation(len(fake))[: asked.fakes]
        other = real[rng.permutation(len(real))[: asked.reals]]
        for name in asked.only:
            for drawn, reals in (("fakes", same), ("both", other)):
                found[f"{name} {drawn}"].append(METRICS[name](reals, fake[chosen], right[chosen]))
    for name in asked.only:
        print(json.dumps({"metric": name} | {drawn: _held(found[f"{name} {drawn}"]) for drawn in ("fakes", "both")}))
    print(json.dumps({"draws": asked.draws, "processor_seconds": round(time.process_time() - began)}))


def _held(found: list[Estimate]) -> dict[str, float]:
    values = np.array([each.value for each in found])
    typical = values.mean()
    held = np.mean([each.low <= typical <= each.high for each in found])
    width = np.mean([each.high - each.low for each in found])
    return {"mean": float(f"{typical:.4g}"), "held": float(held), "width_over_sd": float(f"{width / values.std():.3g}")}


def _digits(folder: Path) -> tuple[Pixels, Labels]:
    images, labels = (
        gzip.decompress((folder / f"{name}-ubyte.gz").read_bytes()) for name in ("images-idx3", "labels-idx1")
    )
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28, 1)
    return pixels.copy(), np.frombuffer(labels, np.uint8, offset=8).astype(np.int64)


def _features(pixels: Pixels, labels: Labels) -> tuple[Features, Features, npt.NDArray[np.bool_]]:
    image = ImageFormat(height=28, width=28, channels=1, classes=tuple("0123456789"))
    net = train_classifier(Split.of(pixels[:LEARNED], labels[:LEARNED], image))
    rng = np.random.default_rng(0)
    chosen = LEARNED + rng.integers(0, len(pixels) - LEARNED, FAKES)
    made = read(net, np.stack([_changed(each[:, :, 0], rng) for each in pixels[chosen]])[:, :, :, None])
    assert made.probabilities is not None
    return read(net, pixels[LEARNED:]).features, made.features, made.probabilities.argmax(1) == labels[chosen]


def _changed(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Turn an image by up to 12 degrees, scale and shift it."""
    angle, scale, centre = np.deg2rad(rng.uniform(-12, 12)), rng.uniform(0.9, 1.15), np.full(2, 13.5)
    matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    offset = centre - matrix @ centre + rng.uniform(-1.5, 1.5, 2)
    turned: Pixels = np.rint(ndimage.affine_transform(image.astype(float), matrix, offset, order=1)).astype(np.uint8)
    return turned


if __name__ == "__main__":
    main()
