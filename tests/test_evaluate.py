"""An evaluation of a real model: what its numbers are called, and what stands beside them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from components.evaluate import _classes, _classification, _discriminator, _distributions, evaluate
from components.evaluation.samples import sampled, sampled_part
from components.gan.dataset import Split, fingerprints
from components.gan.losses import LOSSES
from components.gan.published import Published
from components.gan.sampling import labels_like
from components.measures.copies import KINDS
from components.measures.distances import frechet_distance
from components.measures.features import Classifier, FeatureNet
from components.workspace.artifacts import Dataset, Evaluation, Key, Model
from components.workspace.feature_nets import load_feature_net
from components.workspace.params import Evaluate, Preprocess
from components.workspace.published import load_published
from components.workspace.workspace import Workspace
from tests.conftest import Pixels, idx, made_dataset


@pytest.fixture(scope="module")
def artifacts(finished: Path) -> tuple[Dataset, Model, Evaluation]:
    folder = finished / "artifacts"
    return Dataset.load(folder / "dataset"), Model.load(folder / "model"), Evaluation.load(folder / "evaluation")


def test_scores_state_their_protocol_beside_floor_and_interval(
    artifacts: tuple[Dataset, Model, Evaluation],
) -> None:
    dataset, _, evaluation = artifacts
    assert all(re.search(r"_[0-9]+k?(_floor|_canaries)?$", name) for name in evaluation.metrics)
    asked = ("fd", "fd_holdout", "kid", "precision", "recall", "density", "coverage", "agreement", "class_score")
    asked += ("msssim_class", "copied", "psnr_nearest", "ssim_nearest")
    for metric in asked:
        matching = [name for name in evaluation.metrics if re.match(rf"{metric}_[a-z]*_?[0-9]+_floor", name)]
        assert matching, metric
        assert matching[0].removesuffix("_floor") in evaluation.metrics
    # Real against real with as many images.
    assert f"fd_classifier_{dataset.splits['holdout']}_floor" in evaluation.metrics
    assert "fd_classifier_500" in evaluation.metrics
    for name, (low, high) in evaluation.intervals.items():
        assert low <= evaluation.metrics[name] <= high, name
    assert {"fd_classifier_500", "kid_classifier_500", "copied_pixels_50"} <= evaluation.intervals.keys()


def test_floors_do_not_depend_on_the_order_of_the_holdout(
    artifacts: tuple[Dataset, Model, Evaluation], digits: tuple[Pixels, Pixels], tmp_path: Path
) -> None:
    """Folders of classes come sorted by class."""
    _, model, _ = artifacts
    floors = []
    for name, order in (("mixed", np.arange(1500)), ("sorted", np.argsort(digits[1][:1500], kind="stable"))):
        root = tmp_path / name
        (root / "data").mkdir(parents=True)
        for kind, values in zip(("images", "labels"), digits, strict=True):
            (root / "data" / f"{kind}.idx").write_bytes(idx(values[:1500][order]))
        dataset = made_dataset(root, Preprocess())
        options = Evaluate(samples=100, copy_checks=100)
        found = evaluate(options, model, dataset, Key(options="", inputs="", code=""), Workspace(root)).metrics
        floors.append({name: value for name, value in found.items() if name.endswith("_100_floor")})
    mixed, ordered = floors
    assert {"fd_classifier_100_floor", "recall_classifier_100_floor", "psnr_nearest_100_floor"} <= mixed.keys()
    # Of the first classes alone the distance is eighteen times as large.
    assert ordered["fd_classifier_100_floor"] == pytest.approx(mixed["fd_classifier_100_floor"], rel=0.5)
    assert ordered["psnr_nearest_100_floor"] == pytest.approx(mixed["psnr_nearest_100_floor"], abs=1.0)


class Judge:
    """A discriminator whose logit is the mean of the image, from `start` on."""

    def __init__(self, start: float) -> None:
        self.start = start

    def logits_of(self, pixels: Pixels, labels: np.ndarray) -> np.ndarray:
        return self.start + pixels.mean((1, 2, 3)) / 10


@pytest.mark.parametrize("loss", LOSSES)
def test_figures_of_the_discriminator_are_those_that_its_loss_defines(loss: str, split: Split) -> None:
    """What another offset of all logits would change is told only where the loss fixes it."""
    held, labels = split.pixels(np.arange(100)), split.labels[:100]
    found = []
    for start in (0.0, 7.0):
        judge = cast(Published, Judge(start))
        fakes = judge.logits_of(held // 2, labels)
        found.append({s.name: s.value for s in _discriminator(judge, fakes, split, held, labels, loss)})
    same = {name for name, value in found[0].items() if found[1][name] == pytest.approx(value, abs=1e-9)}
    assert {"discriminator_auc_holdout_100", "membership_discriminator_100"} <= same
    defined = {name for name in found[0] if name.startswith(("discriminator_accuracy", "discriminator_calibration"))}
    assert bool(defined) == (LOSSES[loss].boundary is not None)
    assert ("discriminator_calibration_error_100" in defined) == LOSSES[loss].logistic
    if loss in ("relativistic", "wasserstein"):
        assert found[0].keys() == same


def test_floors_are_of_as_many_images_as_their_value(split: Split) -> None:
    """More held-out images, or more training images, would have another distance, class score and chance."""
    rng = np.random.default_rng(0)
    real, held, fake = (rng.normal(size=(count, 4)) for count in (900, 200, 500))
    net = FeatureNet("classifier", cast(Classifier, None), "", real)
    scores = {score.name: score for score in _distributions(net, fake, held)}
    learned, labels = rng.dirichlet(np.full(3, 0.1), 500), rng.integers(0, 3, 500)
    scores |= {s.name: s for s in _classes(net, learned, labels, learned[:200], labels[:200])}
    pixels = split.pixels(np.arange(200))
    judged = _discriminator(
        cast(Published, Judge(0.0)), rng.normal(size=150), split, pixels, split.labels[:200], "non_saturating"
    )
    scores |= {score.name: score for score in judged}
    floors = [score for score in scores.values() if score.images == "floor"]
    assert len(floors) == 13
    assert {score.n for score in floors} == {200, 150}
    for floor in floors:
        assert floor.interval, floor.name
        assert floor.name.removesuffix("_floor") in scores
    # The distances between as many images, and no more of either side.
    assert scores["fd_holdout_classifier_200_floor"].value == pytest.approx(
        frechet_distance(real[np.random.default_rng(0).permutation(900)[:200]], held)
    )
    assert scores["fd_classifier_200_floor"].value == pytest.approx(frechet_distance(held, real))
    assert scores["agreement_classifier_200_floor"].value == (learned[:200].argmax(1) == labels[:200]).mean()
    assert scores["discriminator_auc_holdout_150"].n == 150
    # What real images among the others are taken for.
    refused, accepted = (scores[f"discriminator_accuracy_{split}"] for split in ("generated_150_floor", "holdout_150"))
    assert refused.value == pytest.approx(1 - accepted.value)
    assert {name for name, score in scores.items() if score.n == 500} == {
        "fd_classifier_500",
        "kid_classifier_500",
        "agreement_classifier_500",
        "class_score_classifier_500",
    }


def test_samples_teach_as_many_images_as_real_ones(split: Split) -> None:
    """A classifier of more images is right more often, whoever made them."""
    generated = Split.of(split.pixels(np.arange(300)), split.labels[:300], split.image)
    few = Split.of(split.pixels(np.arange(300, 420)), split.labels[300:420], split.image)
    unseen = Split.of(split.pixels(np.arange(420, 500)), split.labels[420:], split.image)
    names = [score.name for score in _classification(generated, few, unseen)]
    stem = "classification_accuracy"
    assert names == [f"{stem}_300", f"{stem}_120", f"{stem}_120_floor"]


def test_planted_copies_are_found_and_samples_are_none(
    artifacts: tuple[Dataset, Model, Evaluation],
) -> None:
    copied = {name: value for name, value in artifacts[2].metrics.items() if name.startswith("copied_")}
    assert {"copied_pixels_50", "copied_pixels_50_floor", "copied_pixels_50_canaries"} <= copied.keys()
    assert {f"copied_{kind}_pixels_32_canaries" for kind in KINDS} <= copied.keys()
    assert all(value > 0.9 for name, value in copied.items() if name.endswith("_canaries"))
    assert all(value < 0.05 for name, value in copied.items() if not name.endswith("_canaries"))


def test_parts_are_the_same_alone_as_in_a_row(artifacts: tuple[Dataset, Model, Evaluation], tmp_path: Path) -> None:
    """So a cluster that spreads them gives the same result."""
    dataset, model, evaluation = artifacts
    training = Split(dataset.folder, "training", dataset.image)
    judge = load_feature_net(training, dataset.content, tmp_path)
    published = load_published(model.folder, "the model")
    seeds, labels = range(7, 7 + 700), labels_like(training.class_shares, 700)
    parts = list(sampled(published, (judge,), seeds, labels, logits=True))
    assert [len(part.pixels) for part in parts] == [500, 200]
    alone = sampled_part(
        slice(500, 700), (), model=published, feature_nets=(judge,), seeds=seeds, labels=labels, logits=True
    )
    for one, other in zip(
        (alone.pixels, *alone.readings[0], alone.logits),
        (parts[1].pixels, *parts[1].readings[0], parts[1].logits),
        strict=True,
    ):
        assert np.array_equal(one, other)
    features = np.load(evaluation.folder / "features.npy")
    assert features.shape == (500, 128)
    # Development chose the checkpoint, so that it is no more unseen than what was trained on.
    development = Split(dataset.folder, "development", dataset.image)
    seen = np.sort(np.concatenate([fingerprints(training), fingerprints(development)]))
    assert np.array_equal(np.load(evaluation.folder / "training_images.npy"), seen)
    assert set(Evaluation.seen) <= evaluation.files.keys()
