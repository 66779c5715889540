"""How often drift is seen, with real digits: `python -m benchmarks.drift [--ticks N]`.

A classifier learns 5,000 digits, 1,000 others are the reference, and each tick draws 100 of the other 4,000, as they
are or changed. Prints a JSON line for each change: alarms without one against the budget, and with one at which tick
the first alarm came.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.stats import binom
from tqdm import tqdm

from components.gan.dataset import Split
from components.gan.options import ImageFormat
from components.measures.two_sample import two_sample
from components.workspace.feature_nets import load_feature_net

LEARNED, REFERENCE, ARRIVING = 5_000, 1_000, 100
# Who has not been seen by then is not counted as seen.
MAX_TICKS = 20
ALPHAS = (1 / 365, 0.05)
Pixels = npt.NDArray[np.uint8]


def rotated(pixels: Pixels, degrees: float) -> Pixels:
    turned = [np.asarray(Image.fromarray(image).rotate(degrees, Image.Resampling.BILINEAR)) for image in pixels[..., 0]]
    return np.stack(turned)[..., None]


def noisy(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return (pixels + rng.normal(0, 16, pixels.shape)).clip(0, 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--ticks", type=int, default=1_000)
    parser.add_argument("--repeats", type=int, default=20, help="of each change")
    given = parser.parse_args()
    images, labels = (
        gzip.decompress((given.data / f"{n}-ubyte.gz").read_bytes()) for n in ("images-idx3", "labels-idx1")
    )
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28, 1).copy()
    classes = np.frombuffer(labels, np.uint8, offset=8).astype(np.int64)
    image = ImageFormat(height=28, width=28, channels=1, classes=tuple("0123456789"))
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        np.save(folder / "training-00000.npy", pixels[:LEARNED])
        np.save(folder / "training-labels.npy", classes[:LEARNED])
        net = load_feature_net(Split(folder, "training", image), "digits", folder / "features")
    held = net.read(pixels[LEARNED : LEARNED + REFERENCE]).features
    rest = np.arange(LEARNED + REFERENCE, len(pixels))
    as_they_are = net.read(pixels[rest]).features

    def p_value(features: npt.NDArray[np.float64], alpha: float) -> float:
        return two_sample(features, held, max(1000, round(10 / alpha)), rng).p_value

    ticks = tqdm(range(given.ticks), desc="no drift", disable=None)
    none = np.array([p_value(as_they_are[rng.choice(len(rest), ARRIVING, replace=False)], ALPHAS[0]) for _ in ticks])
    for alpha in ALPHAS:
        bound = int(binom.ppf(0.99, given.ticks, alpha))
        alarms = int((none <= alpha).sum())
        print(
            json.dumps(
                {"drift": "none", "alpha": round(alpha, 5), "ticks": given.ticks, "alarms": alarms, "bound": bound}
            )
        )
    sevens = np.where(classes[rest] == 7, 5.0, 1.0)
    changes: dict[str, Callable[[Pixels], Pixels] | None] = {
        "20 % inverted": lambda x: np.concatenate([255 - x[:20], x[20:]]),
        "rotated by 15 degrees": lambda x: rotated(x, 15),
        "noise of 16 grey levels": lambda x: noisy(x, rng),
        "sevens five times as often": None,
    }
    for name, change in changes.items():
        first = []
        for _ in tqdm(range(given.repeats), desc=name, disable=None):
            for tick in range(1, MAX_TICKS + 1):  # noqa: B007
                weights = sevens / sevens.sum() if change is None else None
                drawn = pixels[rest[rng.choice(len(rest), ARRIVING, replace=False, p=weights)]]
                if p_value(net.read(change(drawn) if change else drawn).features, ALPHAS[0]) <= ALPHAS[0]:
                    break
            first.append(tick)
        median, late = np.percentile(first, [50, 99])
        print(
            json.dumps({"drift": name, "alpha": round(ALPHAS[0], 5), "tick of alarm, median": median, "99 %": late}),
            flush=True,
        )


if __name__ == "__main__":
    main()
