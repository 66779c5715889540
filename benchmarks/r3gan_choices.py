"""What R3GAN's start of class embeddings and its augmentation do to digits: one seed a row, trained and judged alike.

python -m benchmarks.r3gan_choices                    # all rows; about 20 minutes of one core
python -m benchmarks.r3gan_choices --only embedding --images 12000

Width 32, one block, batch 32, gamma 20. Embeddings are compared on 8,000 digits without augmentation, augmentation on
2,000 of them, its probability rising to 0.3. Judged by 2,000 samples against the 8,000: the Frechet distance in the
features of the data set's own classifier, and the share of samples that it takes for the class they were made as.
"""

from __future__ import annotations

import argparse
import gzip
import sys
import time
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from components.gan.dataset import Split
from components.gan.models.layers import Generator, standing_statistics
from components.gan.options import TRANSFORMS, Execution, ImageFormat, TrainingOptions, Transform
from components.gan.sampling import labels_like, sample, seeded
from components.gan.training_loop import bf16, training_loop
from components.measures.distances import frechet_distance
from components.measures.features import Classifier, read, train_classifier

DATA = Path(__file__).resolve().parents[1] / "data"
DIGITS = ImageFormat(height=28, width=28, channels=1, classes=tuple("0123456789"))
ALL, FEW, SAMPLES = 8_000, 2_000, 2_000
NETWORK: dict[str, Any] = {"name": "r3gan", "width": 32, "blocks": 1}
# Name: how many digits, options of the network, options of ADA.
ROWS: dict[str, tuple[int, dict[str, Any], dict[str, Any] | None]] = {
    "embedding_start: unit": (ALL, {}, None),
    "embedding_start: released": (ALL, {"embedding_start": "released"}, None),
    "augmentation: none": (FEW, {}, None),
    "augmentation: as before": (FEW, {}, {"transforms": TRANSFORMS}),
    "augmentation: as released": (FEW, {}, {"transforms": get_args(Transform), "color_share": 0.5}),
}


def digits(count: int) -> Split:
    """Return the first digits of the repository."""
    try:
        images, labels = (
            gzip.decompress((DATA / f"{name}-ubyte.gz").read_bytes()) for name in ("images-idx3", "labels-idx1")
        )
    except FileNotFoundError as error:
        sys.exit(f"{error.filename} is missing: run `dvc pull data.dvc`")
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, *DIGITS.shape)
    return Split.of(pixels[:count], np.frombuffer(labels, np.uint8, offset=8)[:count].astype(np.int64), DIGITS)


def trained(row: str, images: int, seed: int) -> Generator:
    """Train as the row says; its moving average."""
    count, network, ada = ROWS[row]
    if ada is not None:
        ada = {**ada, "probability": {"start": 0, "end": 0.3, "images": images}}
    rates = {"learning_rate_generator": 1e-3, "learning_rate_discriminator": 1e-3, "r1_gamma": 20.0, "r2_gamma": 20.0}
    values = {"network": {**NETWORK, **network}, "images": images, "batch": 32, "ada": ada, "seed": seed, **rates}
    options = TrainingOptions.model_validate({**values, "log_every": images})
    execution = Execution(workers=1, threads=1, device="cpu", precision="bf16" if bf16(gpu=False) else "fp32")
    *_, last = training_loop(options, digits(count), execution)
    return last.ema


def judged(generator: Generator, net: Classifier, data: Split) -> tuple[float, float]:
    """Return the Frechet distance of samples to `data`, and how often the classifier agrees with their class."""
    labels = labels_like(data.class_shares, SAMPLES)
    latent = 64
    standing_statistics(generator, seeded(range(1_000), labels[:1_000], latent))
    pixels = sample(generator, seeded(range(1_000_000, 1_000_000 + SAMPLES), labels, latent))
    seen, real = read(net, pixels), read(net, data.pixels(np.arange(len(data))))
    assert seen.probabilities is not None
    return frechet_distance(seen.features, real.features), float((seen.probabilities.argmax(1) == labels).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--images", type=int, default=24_000, help="length of each training")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = digits(ALL)
    net = train_classifier(data)
    print(f"{'row':<28}{'FD':>8}{'agreement':>11}{'processor s':>13}")
    for row in ROWS:
        if given.only in row:
            began = time.process_time()
            distance, agreement = judged(trained(row, given.images, given.seed), net, data)
            print(f"{row:<28}{distance:>8.1f}{agreement:>11.3f}{time.process_time() - began:>13.0f}", flush=True)


if __name__ == "__main__":
    main()
