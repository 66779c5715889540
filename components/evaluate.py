"""Stage: Model + Dataset -> Evaluation."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import safetensors.torch
import torch
from tqdm import tqdm

from .evaluation.samples import Networks, opinions, sampled
from .gan import metrics
from .gan.dataset import Pixels, Split, fingerprints
from .gan.distances import Features, Moments, frechet
from .gan.features import MAX_REAL, FeatureNet, classifier_accuracy, feature_net
from .gan.metrics import Estimate, Values
from .gan.models import restored
from .gan.sampling import labels_like
from .workspace.artifacts import Dataset, Evaluation, Model
from .workspace.files import staging
from .workspace.graph import key_of
from .workspace.params import Evaluate
from .workspace.workspace import Workspace

# More real images say little more, and memory stays bounded.
MAX_HOLDOUT = 10_000
MAX_PAIRS = 2_000
CANARIES = 32
# As much as a generator that learned an image by heart is off, in grey levels.
CANARY_NOISE = 8.0


class Scores:
    """Metrics by name, with an interval where there is one."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        self.intervals: dict[str, tuple[float, float]] = {}

    def add(self, name: str, found: Estimate | float) -> None:
        if isinstance(found, Estimate):
            self.values[name] = found.value
            self.intervals[name] = (found.low, found.high)
        else:
            self.values[name] = found


def evaluate(options: Evaluate, model: Model, dataset: Dataset, out: Path) -> Evaluation:
    """Measure the model on samples of its moving average against the training split; floors by the holdout.

    Names in `metrics.json` state the protocol: `fd_classifier_8k` is the Frechet distance of 8,000 samples to the
    training split in the features of the data set's own classifier (`efficientnet_lite0` for images without labels).
    What depends on the number of images is measured with as many samples as there are holdout images, and `..._floor`
    is the same for these: real against real.

    Raises:
        UserError: the model or the data set is damaged, or the net that judges is not installed.
    """
    key = key_of("evaluate", options, model.content, dataset.content)
    if found := Evaluation.find(out, key):
        return found
    model.verified()
    dataset.verified()
    torch.set_num_threads(min(model.execution.workers * model.execution.threads, len(os.sched_getaffinity(0))))
    training, holdout = (Split(dataset.folder, name, dataset.image) for name in ("training", "holdout"))
    judge = feature_net(training, dataset.content, Workspace.around(out).state / "features")
    labels = labels_like(training.class_shares, options.samples)
    seeds = range(options.seed, options.seed + options.samples)
    scores = Scores()
    with staging(out) as folder, tqdm(total=5, desc="evaluate", disable=None, leave=False) as bar:
        samples = np.lib.format.open_memmap(
            folder / "samples.npy", mode="w+", dtype=np.uint8, shape=(options.samples, *dataset.image.shape)
        )
        features, probabilities, logits = _sampled(model, judge, seeds, labels, samples)
        bar.update()
        chosen = holdout.spread(MAX_HOLDOUT)
        held_pixels, held_labels = holdout.pixels(chosen), holdout.labels[chosen]
        held, held_probabilities = judge.read(held_pixels)
        bar.update()
        _crowds(scores, judge, features, held)
        table: dict[str, npt.ArrayLike] = {"seed": list(seeds), "label": labels}
        if probabilities is not None and held_probabilities is not None:
            table["predicted"] = probabilities.argmax(1)
            table["confidence"] = probabilities[np.arange(len(labels)), labels]
            _classes(scores, judge, probabilities, labels, held_probabilities, held_labels)
        bar.update()
        table["discriminator"] = logits
        _discriminator(scores, model, dataset, logits, training, held_pixels, held_labels)
        _variety(scores, samples, labels, held_pixels, held_labels)
        bar.update()
        _copying(scores, judge, options, samples, features, training, held_pixels, held)
        if options.full and judge.name == "classifier":
            generated = Split.of(np.asarray(samples), labels, dataset.image)
            name = f"classification_accuracy_{_count(len(holdout))}"
            scores.add(name, metrics.mean(classifier_accuracy(generated, holdout)))
            scores.add(f"{name}_floor", metrics.mean(classifier_accuracy(training, holdout)))
        bar.update()
        samples.flush()
        # What the gate compares with the champion's.
        np.save(folder / "features.npy", features.astype(np.float32))
        np.save(folder / "holdout.npy", held.astype(np.float32))
        np.save(folder / "training_images.npy", fingerprints(training))
        values = dict(sorted(scores.values.items()))
        pd.DataFrame(table).to_csv(folder / "samples.csv", index=False)
        (folder / "metrics.json").write_text(json.dumps(values, indent=2) + "\n")
        Evaluation.describe(
            folder,
            key,
            metrics=values,
            intervals=dict(sorted(scores.intervals.items())),
            samples=options.samples,
            training_images=len(training),
            holdout_images=len(holdout),
            feature_net=judge.sha256,
            holdout=hashlib.sha256(held_pixels.tobytes() + held_labels.tobytes()).hexdigest(),
            model=model.content,
        )
    return Evaluation.load(out)


def _sampled(
    model: Model, judge: FeatureNet, seeds: range, labels: npt.NDArray[np.int64], samples: Pixels
) -> tuple[Features, Values | None, Values]:
    """Fill `samples` (N, H, W, C); features (N, F), class probabilities (N, classes) and logits (N,) of them."""
    generator, discriminator = (
        (model.folder / f"{name}.safetensors").read_bytes() for name in ("generator", "discriminator")
    )
    networks = Networks(model.training.network, model.image, model.execution.precision, generator, discriminator)
    features, probabilities, logits, start = [], [], [], 0
    for part in sampled(networks, judge, seeds, labels):
        samples[start : start + len(part.pixels)] = part.pixels
        start += len(part.pixels)
        features.append(part.features)
        if part.probabilities is not None:
            probabilities.append(part.probabilities)
        if part.logits is not None:
            logits.append(part.logits)
    return np.concatenate(features), np.concatenate(probabilities) if probabilities else None, np.concatenate(logits)


def _crowds(scores: Scores, judge: FeatureNet, fake: Features, held: Features) -> None:
    """How near the crowd of samples is to the real ones, and how much of it is covered."""
    real, n = judge.real, min(len(fake), len(held))
    net, size = judge.name, _count(n)
    if n < len(fake):
        everything = _count(len(fake))
        scores.add(f"fd_{net}_{everything}", metrics.frechet_estimate(fake, real))
        scores.add(f"kid_{net}_{everything}", metrics.kernel_estimate(fake, real))
    # To images that nothing was trained on: near the distance to the training split unless that was memorised.
    scores.add(f"fd_holdout_{net}_{size}", metrics.frechet_estimate(fake[:n], held))
    scores.add(f"fd_holdout_{net}_{size}_floor", frechet(Moments.of(real), Moments.of(held)))
    for suffix, features in (("", fake[:n]), ("_floor", held[:n])):
        scores.add(f"fd_{net}_{size}{suffix}", metrics.frechet_estimate(features, real))
        scores.add(f"kid_{net}_{size}{suffix}", metrics.kernel_estimate(features, real))
        shares = (*metrics.precision_recall(real, features), *metrics.density_coverage(real, features))
        for name, values in zip(("precision", "recall", "density", "coverage"), shares, strict=True):
            scores.add(f"{name}_{net}_{size}{suffix}", metrics.mean(values))


def _classes(
    scores: Scores,
    judge: FeatureNet,
    probabilities: Values,
    labels: npt.NDArray[np.int64],
    held_probabilities: Values,
    held_labels: npt.NDArray[np.int64],
) -> None:
    """What the classifier makes of the samples, and of the holdout."""
    for suffix, p, label in (("", probabilities, labels), ("_floor", held_probabilities, held_labels)):
        size = _count(len(labels))
        scores.add(f"agreement_{judge.name}_{size}{suffix}", metrics.mean(p.argmax(1) == label))
        scores.add(f"class_score_{judge.name}_{size}{suffix}", metrics.class_score(p))


def _discriminator(
    scores: Scores,
    model: Model,
    dataset: Dataset,
    logits: Values,
    training: Split,
    held_pixels: Pixels,
    held_labels: npt.NDArray[np.int64],
) -> None:
    """What the discriminator knows, and whether it knows the training images by heart."""
    weights = safetensors.torch.load_file(model.folder / "discriminator.safetensors")
    discriminator = restored(model.training.network, dataset.image, weights, "discriminator").eval()
    n = len(held_labels)
    seen = training.spread(n)
    held, learned = (
        opinions(discriminator, pixels, labels)
        for pixels, labels in ((held_pixels, held_labels), (training.pixels(seen), training.labels[seen]))
    )
    size = _count(n)
    scores.add(f"discriminator_accuracy_generated_{_count(len(logits))}", metrics.mean(logits < 0))
    scores.add(f"discriminator_accuracy_holdout_{size}", metrics.mean(held > 0))
    fakes = logits[:n]
    probability = 1 / (1 + np.exp(-np.concatenate([held, fakes])))
    truth = np.arange(len(probability)) < n
    scores.add(f"discriminator_calibration_error_{size}", metrics.calibration_error(probability, truth))
    # Membership inference (Chen et al. 2020, GAN-Leaks): 0.5 where training images look no more real than unseen ones.
    scores.add(f"membership_discriminator_{size}", metrics.auc_estimate(learned, held))


def _variety(
    scores: Scores,
    samples: Pixels,
    labels: npt.NDArray[np.int64],
    held_pixels: Pixels,
    held_labels: npt.NDArray[np.int64],
) -> None:
    """How alike two images of a class are."""
    pairs = [metrics.pairs_within(of, MAX_PAIRS) for of in (labels, held_labels)]
    count = min(len(first) for first, _ in pairs)
    if count:
        for suffix, images, (first, second) in zip(("", "_floor"), (samples, held_pixels), pairs, strict=True):
            alike = metrics.ms_ssim(np.asarray(images[first[:count]]), np.asarray(images[second[:count]]))
            scores.add(f"msssim_class_{_count(count)}{suffix}", metrics.mean(alike))


def _copying(
    scores: Scores,
    judge: FeatureNet,
    options: Evaluate,
    samples: Pixels,
    features: Features,
    training: Split,
    held_pixels: Pixels,
    held: Features,
) -> None:
    """Whether samples repeat training images; and, as a control, whether copies that were planted are found."""
    checked = min(options.copy_checks, len(samples))
    # Of those whose features are known too.
    known = training.spread(MAX_REAL[judge.name])
    canaries = known[np.linspace(0, len(known) - 1, CANARIES).astype(int)]
    noise = np.random.default_rng(0).normal(0, CANARY_NOISE, (len(canaries), *training.image.shape))
    planted = np.rint(training.pixels(canaries) + noise).clip(0, 255).astype(np.uint8)

    shown = {"": np.asarray(samples[:checked]), "_floor": held_pixels[:checked], "_canaries": planted}
    found = {
        suffix: metrics.neighbours(images, (pixels for pixels, _ in training.batches(4096)))
        for suffix, images in shown.items()
    }
    size = _count(checked)
    for suffix in shown:
        shares = metrics.copies(found[suffix].ratio, found["_floor"].ratio)
        scores.add(f"copied_pixels_{size}{suffix}", metrics.mean(shares))
    for suffix in ("", "_floor"):
        psnr, ssim = metrics.psnr_ssim(shown[suffix], training.pixels(found[suffix].nearest))
        scores.add(f"psnr_nearest_{size}{suffix}", metrics.mean(psnr))
        scores.add(f"ssim_nearest_{size}{suffix}", metrics.mean(ssim))

    n = min(len(features), len(held))
    # In units of how far two real images are apart.
    apart = float(np.sqrt(2 * np.trace(Moments.of(judge.real).covariance)))
    seen = {"": features[:n], "_floor": held[:n], "_canaries": judge.read(planted).features}
    near = {suffix: metrics.neighbours(these, [judge.real]) for suffix, these in seen.items()}
    for suffix in seen:
        shares = metrics.copies(near[suffix].ratio, near["_floor"].ratio)
        scores.add(f"copied_{judge.name}_{_count(n)}{suffix}", metrics.mean(shares))
        if suffix != "_canaries":
            scores.add(
                f"perceptual_nearest_{judge.name}_{_count(n)}{suffix}", metrics.mean(near[suffix].distance / apart)
            )


def _count(number: int) -> str:
    """8000 -> 8k, as the field writes it in names of metrics."""
    return f"{number // 1000}k" if number % 1000 == 0 else str(number)
