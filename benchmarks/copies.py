"""How many memorised images the search for copies finds: `python -m benchmarks.copies [--workspace DIR] [--each N]`.

Plants copies of each kind of training images from all over the split of `artifacts/dataset`, and searches for them as
an evaluation does, beside held-out images, one half of which sets the threshold for the other. Prints a JSON line of
the share found of each kind and of the unseen images, and the processor's seconds.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from components.gan.dataset import Split
from components.measures import copies
from components.workspace.artifacts import Dataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=Path())
    parser.add_argument("--each", type=int, default=200, help="planted copies of each kind")
    given = parser.parse_args()
    dataset = Dataset.load(given.workspace / "artifacts" / "dataset")
    training, holdout = (Split(dataset.folder, name, dataset.image) for name in ("training", "holdout"))
    rng, held = np.random.default_rng(0), holdout.pixels(holdout.spread(2_000))
    sources = training.pixels(training.spread(given.each))
    shown = {"unseen": held, **{kind: copies.planted(sources, kind, rng) for kind in copies.KINDS}}
    started = time.process_time()
    batches = (pixels for pixels, _ in training.batches(1_000))
    ratios = copies.nearest_views(np.concatenate(list(shown.values())), batches).ratio
    seconds = time.process_time() - started
    ends = np.cumsum([len(pixels) for pixels in shown.values()])[:-1]
    found = dict(zip(shown, np.split(ratios, ends), strict=True))
    half = len(held) // 2
    bound = copies.threshold(found["unseen"][:half])
    shares = {kind: round(float((found[kind] < bound).mean()), 4) for kind in copies.KINDS}
    shares["unseen"] = round(float((found["unseen"][half:] < bound).mean()), 4)
    images = {"training": len(training), "searched": len(ratios)}
    print(json.dumps({"found": shares, "threshold": round(bound, 3), "images": images, "seconds": round(seconds, 1)}))


if __name__ == "__main__":
    main()
