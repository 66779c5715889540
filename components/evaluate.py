"""Stage: Model + Dataset -> Evaluation."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from tqdm import tqdm

from .evaluation.restyle_evaluation import evaluate_restyle
from .evaluation.result import Judged, write_result
from .evaluation.samples import sampled
from .evaluation.task_evaluation import evaluate_task
from .evaluation.truncation import chosen_truncation, truncation_curve
from .gan.dataset import Pixels, Split
from .gan.losses import LOSSES
from .gan.published import Published
from .gan.sampling import labels_like
from .measures import copies, metrics
from .measures.distances import Features
from .measures.extrapolation import frechet_infinity, reaches
from .measures.features import FeatureNet, classifier_accuracy
from .measures.intervals import Estimate, Values
from .measures.manifolds import manifolds
from .measures.reconstruction import evenly, reconstruction_errors
from .workspace.artifacts import TRUNCATION, Dataset, Evaluation, Key, Model
from .workspace.chosen_nets import ChosenNets, load_nets
from .workspace.files import staging
from .workspace.params import Evaluate
from .workspace.published import load_published
from .workspace.scores import Images, Score
from .workspace.workspace import Workspace

# More real images say little more, and memory stays bounded.
MAX_HOLDOUT = 10_000
MAX_PAIRS = 2_000
# Copies of each kind that are planted as a control.
PLANTED = 32
# Training images, and as many unseen ones, that are looked for among all that the generator can make.
RECONSTRUCTED = 32
T = TypeVar("T")


def evaluate(options: Evaluate, model: Model, dataset: Dataset, key: Key, workspace: Workspace) -> Evaluation:
    """Measure the model on samples of its moving average against the training split; floors by the holdout.

    Names in `metrics.json` state the protocol: `fd_classifier_8k` is the Frechet distance of 8,000 samples to the
    training split in the features of the data set's own classifier (`efficientnet_lite0` for images without labels).
    `..._floor` is the same score of exactly as many unseen real images. So where there are more samples than those, the
    score of as many samples as there are held-out images is told too, and that of all of them has no floor.

    Raises:
        UserError: the model or the data set is damaged, or the net that judges is not installed.
    """
    model.verified()
    dataset.verified()
    torch.set_num_threads(min(model.execution.workers * model.execution.threads, len(os.sched_getaffinity(0))))
    if model.training.task.name == "restyle":
        return evaluate_restyle(options, model, dataset, key, workspace)
    if model.training.task.name != "generate":
        return evaluate_task(options, model, dataset, key, workspace)
    training, holdout = (Split(dataset.folder, name, dataset.image) for name in ("training", "holdout"))
    nets = load_nets(options.feature_net, training, dataset.content, workspace)
    feature_net = nets.main
    labels = labels_like(training.class_shares, options.samples)
    seeds = range(options.seed, options.seed + options.samples)
    scores: list[Score] = []
    published = load_published(model.folder, "the model")
    with staging(workspace.evaluation) as folder, tqdm(total=5, desc="evaluate", disable=None, leave=False) as bar:
        samples = np.lib.format.open_memmap(
            folder / "samples.npy", mode="w+", dtype=np.uint8, shape=(options.samples, *dataset.image.shape)
        )
        features, probabilities, logits = _sampled(published, nets, seeds, labels, samples)
        bar.update()
        # In the shares of the training split, as the samples are: another mix of classes is no distance.
        chosen = holdout.spread(MAX_HOLDOUT, training.class_shares)
        held_pixels, held_labels = holdout.pixels(chosen), holdout.labels[chosen]
        readings = [net.read(held_pixels) for net in nets.all]
        held, held_probabilities = readings[0].features, readings[-1].probabilities
        bar.update()
        scores += _distributions(feature_net, features, held)
        table: dict[str, npt.ArrayLike] = {"seed": list(seeds), "label": labels}
        if nets.classifier and probabilities is not None and held_probabilities is not None:
            table["predicted"] = probabilities.argmax(1)
            table["confidence"] = probabilities[np.arange(len(labels)), labels]
            scores += _classes(nets.classifier, probabilities, labels, held_probabilities, held_labels)
        bar.update()
        table["discriminator"] = logits
        scores += _discriminator(published, logits, training, held_pixels, held_labels, model.training.loss)
        scores += _variety(samples, labels, held_pixels, held_labels)
        bar.update()
        scores += _copying(options, samples, training, held_pixels)
        if options.full and nets.classifier:
            scores += _classification(Split.of(np.asarray(samples), labels, dataset.image), training, holdout)
        if options.full:
            scores += _reconstruction(published, training, holdout)
            curve = truncation_curve(published, feature_net, seeds, labels, features, held)
            curve.to_csv(folder / TRUNCATION, index=False)
        bar.update()
        samples.flush()
        # What the gate compares with the champion's.
        np.save(folder / "features.npy", features.astype(np.float32))
        np.save(folder / "holdout.npy", held.astype(np.float32))
        pd.DataFrame(table).to_csv(folder / "samples.csv", index=False)
        images = Judged(options.samples, chosen, held_pixels, held_labels)
        truncation = chosen_truncation(curve) if options.full else None
        write_result(folder, key, scores, images, feature_net, model, dataset, truncation)
    return Evaluation.load(workspace.evaluation)


def _sampled(
    model: Published, nets: ChosenNets, seeds: range, labels: npt.NDArray[np.int64], samples: Pixels
) -> tuple[Features, Values | None, Values]:
    """Fill `samples` (N, H, W, C); features (N, F), class probabilities (N, classes) and logits (N,) of them."""
    features, probabilities, logits, start = [], [], [], 0
    for part in sampled(model, nets.all, seeds, labels, logits=True):
        samples[start : start + len(part.pixels)] = part.pixels
        start += len(part.pixels)
        features.append(part.readings[0].features)
        if (seen := part.readings[-1].probabilities) is not None:
            probabilities.append(seen)
        if part.logits is not None:
            logits.append(part.logits)
    return np.concatenate(features), np.concatenate(probabilities) if probabilities else None, np.concatenate(logits)


def _distributions(feature_net: FeatureNet, fake: Features, held: Features) -> Iterator[Score]:
    """Measure how near the crowd of samples is to the real ones, and how much of it is covered."""
    real, net = feature_net.real, feature_net.name
    n = min(len(fake), len(held), len(real))
    if n < len(fake):
        yield _score("fd", metrics.frechet_estimate(fake, real), len(fake), net)
        yield _score("kid", metrics.kernel_estimate(fake, real), len(fake), net)
    # To images that nothing was trained on: near the distance to the training split unless that was memorised.
    learned = real[np.random.default_rng(0).permutation(len(real))[:n]]
    for images, features in _with_floor(fake[:n], learned):
        yield _score("fd", metrics.frechet_estimate(features, held), n, net, split="holdout", images=images)
    for images, features in _with_floor(fake[:n], held[:n]):
        yield _score("fd", metrics.frechet_estimate(features, real), n, net, images=images)
        yield _score("kid", metrics.kernel_estimate(features, real), n, net, images=images)
        for metric, found in manifolds(real, features)._asdict().items():
            yield _score(metric, found, n, net, images=images)
        if reaches(fake[:n], real):
            yield _score("fd_infinity", frechet_infinity(features, real), n, net, images=images)


def _classes(
    feature_net: FeatureNet,
    probabilities: Values,
    labels: npt.NDArray[np.int64],
    held_probabilities: Values,
    held_labels: npt.NDArray[np.int64],
) -> Iterator[Score]:
    """Measure what the classifier makes of the samples, and of the holdout."""
    n = min(len(labels), len(held_labels))
    pairs = _with_floor((probabilities[:n], labels[:n]), (held_probabilities[:n], held_labels[:n]))
    alone = _with_floor((probabilities, labels), (held_probabilities, held_labels))[:1]
    for images, (p, label) in pairs if n == len(labels) else (*alone, *pairs):
        agreement = metrics.share(p.argmax(1) == label)
        yield _score("agreement", agreement, len(label), feature_net.name, images=images)
        yield _score("class_score", metrics.class_score(p), len(label), feature_net.name, images=images)


def _discriminator(
    model: Published,
    logits: Values,
    training: Split,
    held_pixels: Pixels,
    held_labels: npt.NDArray[np.int64],
    training_loss: str,
) -> Iterator[Score]:
    """Measure what the discriminator knows, and whether it knows the training images by heart."""
    n = min(len(held_labels), len(training), len(logits))
    seen = training.spread(n)
    held, learned = (
        model.logits_of(pixels, labels)
        for pixels, labels in ((held_pixels[:n], held_labels[:n]), (training.pixels(seen), training.labels[seen]))
    )
    loss, fakes = LOSSES[training_loss], logits[:n]
    # Whatever a logit's zero and scale mean: 0.5 where it can only guess.
    for images, others in _with_floor(fakes, learned):
        yield _score("discriminator_auc", metrics.auc_estimate(held, others), n, split="holdout", images=images)
    if (boundary := loss.boundary) is not None:
        for images, made in _with_floor(fakes, held):
            refused = metrics.share(made < boundary)
            yield _score("discriminator_accuracy", refused, n, split="generated", images=images)
        for images, real in _with_floor(held, learned):
            accepted = metrics.share(real > boundary)
            yield _score("discriminator_accuracy", accepted, n, split="holdout", images=images)
    if loss.logistic:
        probability = 1 / (1 + np.exp(-np.concatenate([held, fakes])))
        truth = np.arange(len(probability)) < n
        yield _score("discriminator_calibration_error", metrics.calibration_error(probability, truth), n)
    # Membership inference (Chen et al. 2020, GAN-Leaks): 0.5 where training images look no more real than unseen ones.
    yield _score("membership", metrics.auc_estimate(learned, held), n, "discriminator")


def _classification(generated: Split, training: Split, holdout: Split) -> Iterator[Score]:
    """Measure what a classifier learns from samples alone, beside what it learns from as many training images."""
    n = min(len(generated), len(training))
    if n < len(generated):
        yield _score("classification_accuracy", metrics.share(classifier_accuracy(generated, holdout)), len(generated))
    chosen = np.arange(n), np.sort(training.spread(n))
    for images, (of, index) in _with_floor((generated, chosen[0]), (training, chosen[1])):
        learned = Split.of(of.pixels(index), of.labels[index], of.image)
        accuracy = metrics.share(classifier_accuracy(learned, holdout))
        yield _score("classification_accuracy", accuracy, n, images=images)


def _reconstruction(model: Published, training: Split, holdout: Split) -> Iterator[Score]:
    """Measure whether training images can be made from some latent better than as many unseen ones."""
    splits = (training, holdout)
    seen, unseen = (
        reconstruction_errors(model, split.pixels(index), split.labels[index])
        for split, index in zip(splits, evenly([split.labels for split in splits], RECONSTRUCTED), strict=True)
    )
    yield _score("reconstruction_auc", metrics.auc_estimate(unseen, seen), len(seen))


def _variety(
    samples: Pixels,
    labels: npt.NDArray[np.int64],
    held_pixels: Pixels,
    held_labels: npt.NDArray[np.int64],
) -> Iterator[Score]:
    """Measure how alike two images of a class are."""
    pairs = [metrics.pairs_within(of, MAX_PAIRS) for of in (labels, held_labels)]
    count = min(len(first) for first, _ in pairs)
    if count:
        for images, (pixels, (first, second)) in _with_floor((samples, pairs[0]), (held_pixels, pairs[1])):
            alike = metrics.ms_ssim(np.asarray(pixels[first[:count]]), np.asarray(pixels[second[:count]]))
            yield _score("msssim", metrics.mean(alike), count, split="class", images=images)


def _copying(options: Evaluate, samples: Pixels, training: Split, held_pixels: Pixels) -> Iterator[Score]:
    """Measure whether samples repeat training images; and, as a control, whether planted copies of each kind do."""
    checked = min(options.copy_checks, len(samples))
    # From all over the training split, and other images for each kind.
    sources = np.resize(training.spread(PLANTED * len(copies.KINDS)), PLANTED * len(copies.KINDS))
    rng = np.random.default_rng(0)
    shown: dict[str, Pixels] = {"samples": np.asarray(samples[:checked]), "floor": held_pixels[:checked]}
    for kind, index in zip(copies.KINDS, np.split(sources, len(copies.KINDS)), strict=True):
        shown[kind] = copies.planted(training.pixels(index), kind, rng)
    # Some 64 million values at a time, whatever the size of an image.
    size = max(1, min(1_000, 2**26 // int(np.prod(training.image.shape))))
    nearest = copies.nearest_views(np.concatenate(list(shown.values())), (batch for batch, _ in training.batches(size)))
    ends = np.cumsum([len(pixels) for pixels in shown.values()])[:-1]
    ratios = dict(zip(shown, np.split(nearest.ratio, ends), strict=True))
    bound = copies.threshold(ratios["floor"])
    found = {name: ratio < bound for name, ratio in ratios.items()}

    n = min(checked, len(held_pixels))
    for count in sorted({checked, n}):
        yield _score("copied", metrics.share(found["samples"][:count]), count, "pixels")
    yield _score("copied", metrics.share(found["floor"]), n, "pixels", images="floor")
    together = metrics.share(np.concatenate([found[kind] for kind in copies.KINDS]))
    yield _score("copied", together, checked, "pixels", images="control")
    for kind in copies.KINDS:
        yield _score("copied", metrics.share(found[kind]), PLANTED, "pixels", split=kind, images="control")

    for images, pixels in _with_floor(shown["samples"][:n], shown["floor"]):
        likest = metrics.neighbours(pixels, (batch for batch, _ in training.batches(4096))).nearest
        psnr, ssim = metrics.psnr_ssim(pixels, training.pixels(likest))
        yield _score("psnr_nearest", metrics.mean(psnr), n, images=images)
        yield _score("ssim_nearest", metrics.mean(ssim), n, images=images)


def _with_floor(samples: T, real: T) -> tuple[tuple[Images, T], tuple[Images, T]]:
    """Return what is measured of samples, and what takes its place for the floor."""
    return ("samples", samples), ("floor", real)


def _score(
    metric: str, found: Estimate | float, n: int, features: str = "", split: str = "", images: Images = "samples"
) -> Score:
    """Return the record of what a metric found, with its interval where there is one."""
    ends = (found.low, found.high) if isinstance(found, Estimate) and np.isfinite(found.high) else ()
    return Score(metric, found.value if isinstance(found, Estimate) else found, n, features, split, images, *ends)
