"""How often the gate is right, with real models: `python -m benchmarks.gate [--workspace DIR] [--models N]`.

Runs the pipeline for models that must be vetoed: one trained on 32 images, one that never saw a class, one that
collapsed. Trains `--models` of one recipe with other seeds, and one that saw a third of the images, and lets the gate
decide pairs of them at disjoint sample seeds. Prints one JSON line for each question. The workspace holds the digits
that the clone comes with, and its `artifacts/dataset`; with `--keep` models that are there already are taken.
"""

from __future__ import annotations

import argparse
import gzip
import json
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from components.evaluation.gate import decided
from components.evaluation.samples import sampled
from components.gan.dataset import Split
from components.gan.distances import Features
from components.gan.features import FeatureNet
from components.gan.metrics import Resampled, kernel_resampled
from components.gan.sampling import labels_like
from components.workspace.artifacts import Dataset, Model
from components.workspace.feature_nets import load_feature_net
from components.workspace.params import Promote
from components.workspace.published import load_published
from components.workspace.verdict import Verdict
from components.workspace.workspace import Workspace

SAMPLES, SETS, TRIALS = 8_000, 5, 400
GANFLOW = Path(sys.executable).parent / "ganflow"


def trained(dataset: Path, root: Path, **options: object) -> Model:
    """The model of `root`, trained there on the data set if there is none yet."""
    if not (root / "artifacts" / "model").exists():
        (root / "artifacts").mkdir(parents=True, exist_ok=True)
        (root / "params.yaml").write_text("")
        if not (root / "artifacts" / "dataset").exists():
            (root / "artifacts" / "dataset").symlink_to(dataset.absolute())
        values = [f"--set=train.{name}={value}" for name, value in options.items()]
        subprocess.run([GANFLOW, "train", *values], cwd=root, check=True, stdout=subprocess.DEVNULL)
    return Model.load(root / "artifacts" / "model")


def features(model: Model, judge: FeatureNet, labels: npt.NDArray[np.int64], index: int) -> Features:
    """Features of the model's sample set `index`; no two sets of any models share a seed with equal `index`."""
    published = load_published(model.folder, str(model.folder))
    seeds = range(2_000_000 + index * SAMPLES, 2_000_000 + (index + 1) * SAMPLES)
    parts = sampled(published, judge, seeds, labels)
    return np.concatenate([part.features for part in parts])


def answers(pairs: Iterator[tuple[Resampled, Resampled]], margin: float, alpha: float) -> Counter[str]:
    """What the gate says of pairs of challenger and champion."""
    return Counter(decided(new, old, margin, alpha, SAMPLES).answer for new, old in pairs)


def pairs_of(
    challengers: Sequence[Sequence[Resampled]], champions: Sequence[Sequence[Resampled]], rng: np.random.Generator
) -> Iterator[tuple[Resampled, Resampled]]:
    """Trials: another model each, at sample sets with other seeds."""
    for _ in range(TRIALS):
        while True:
            new, old = rng.integers(len(challengers)), rng.integers(len(champions))
            if challengers[new] is not champions[old]:
                break
        one, other = rng.choice(SETS, 2, replace=False)
        yield challengers[new][one], champions[old][other]


def digits(folder: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """The clone's digits (N, 28, 28) and their labels."""
    names = "images-idx3", "labels-idx1"
    images, labels = (gzip.decompress((folder / f"{name}-ubyte.gz").read_bytes()) for name in names)
    return np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28), np.frombuffer(labels, np.uint8, offset=8)


def write_idx(folder: Path, prefix: str, pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in (("images-idx3", pixels), ("labels-idx1", labels)):
        header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        (folder / f"{prefix}{name}-ubyte").write_bytes(header + array.tobytes())


def vetoed(data: Path, root: Path) -> Iterator[tuple[str, Verdict]]:
    """What the gate says of models that no score may save, each made by a run of its own."""
    pixels, labels = digits(data)
    sevens = np.flatnonzero(labels[:8_000] == 7)
    cases = {
        "32 images": (np.arange(32), ["train.images=64000"]),
        # A class without any image is refused before the training.
        "a class seen twice": (np.r_[sevens[:2], np.flatnonzero(labels[:8_000] != 7)], ["train.images=48000"]),
        "collapsed": (np.arange(8_000), ["train.images=16000", "train.network={name: dcgan, latent: 1}"]),
        "nothing wrong": (np.arange(8_000), ["train.images=48000"]),
    }
    for name, (chosen, options) in cases.items():
        workspace = Workspace(root / name.replace(" ", "-"))
        if not workspace.registration.exists():
            write_idx(workspace.data, "train-", pixels[chosen], labels[chosen])
            write_idx(workspace.data, "t10k-", pixels[8_000:], labels[8_000:])
            workspace.params.write_text("")
            for stage in ("preprocess", "train", "evaluate", "postprocess", "register", "promote"):
                values = [f"--set={option}" for option in options]
                subprocess.run([GANFLOW, stage, *values], cwd=workspace.root, check=True, stdout=subprocess.DEVNULL)
        yield name, Verdict.model_validate_json((workspace.verdict / "verdict.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=Path())
    parser.add_argument("--models", type=int, default=8)
    parser.add_argument("--images", type=int, default=48_000)
    parser.add_argument("--keep", type=Path, help="folder for the models, to go on from")
    given = parser.parse_args()
    dataset = Dataset.load(given.workspace / "artifacts" / "dataset")
    training, holdout = (Split(dataset.folder, name, dataset.image) for name in ("training", "holdout"))
    with tempfile.TemporaryDirectory() as temporary:
        keep = given.keep or Path(temporary)
        for name, verdict in vetoed(given.workspace / "data", keep.absolute()):
            failed = {check.name: round(check.value, 3) for check in verdict.checks if not check.passed}
            print(json.dumps({"trained on": name, "answer": verdict.answer, "vetoes": failed}), flush=True)
        bar = tqdm(range(given.models), desc="train", disable=None)
        equal = [trained(dataset.folder, keep / f"seed{seed}", images=given.images, seed=seed) for seed in bar]
        less = [
            trained(dataset.folder, keep / f"less{part}", images=given.images // part, seed=given.models)
            for part in (2, 3)
        ]
        judge = load_feature_net(training, dataset.content, keep / "features")
        labels = labels_like(training.class_shares, SAMPLES)
        held = judge.read(holdout.pixels(np.arange(len(holdout)))).features
        resampled = [
            [kernel_resampled(features(model, judge, labels, i), held, labels, SETS * at + i) for i in range(SETS)]
            for at, model in enumerate(tqdm([*equal, *less], desc="sample", disable=None))
        ]
    options, rng = Promote(), np.random.default_rng(0)
    values = {f"model {at}": [round(r.value, 3) for r in sets] for at, sets in enumerate(resampled)}
    print(json.dumps({"kid_to_holdout": values}))
    for margin in sorted({0.0, 0.1, options.margin, 0.5}):
        champions = {"one recipe": resampled[:-2], "half the images": resampled[-2:-1], "a third": resampled[-1:]}
        found = {
            name: answers(pairs_of(resampled[:-2], sets, rng), margin, options.alpha)
            for name, sets in champions.items()
        }
        print(json.dumps({"margin": margin, "trials": TRIALS, "champion of": found}))


if __name__ == "__main__":
    main()
