"""What counts as unseen by a model, whatever options and files changed since it was trained."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.evaluate import evaluate
from components.evaluation.contenders import Evidence
from components.evaluation.seen import FINGERPRINTS, Seen, write_seen
from components.evaluation.unseen import unseen
from components.evaluation.vetoes import vetoes
from components.gan.dataset import Split, with_shares
from components.gan.options import ImageFormat
from components.ingest.identity import traits_of
from components.measures.distances import kernel_distance
from components.services.tracking import champions
from components.workspace.artifacts import Dataset, Model
from components.workspace.params import Params, Preprocess, Promote
from components.workspace.verdict import Check
from components.workspace.workspace import Workspace
from tests.conftest import Pixels, made_dataset
from tests.ingest.test_identity import photo

PICTURES = 150


def pictures(root: Path, ending: str = "png", **options: Any) -> Path:
    (root / "data").mkdir(parents=True)
    for i in range(PICTURES):
        photo(i).save(root / "data" / f"{i}.{ending}", **options)
    return root


def held_out(dataset: Dataset) -> list[int]:
    """Which of the pictures are held out, in the order of the split, by the signature of their source."""
    known = np.stack([traits_of(photo(i)).signature for i in range(PICTURES)]).astype(int)
    signatures = np.load(dataset.folder / "holdout-signatures.npy").astype(int)
    return [int(np.abs(known - signature).sum((1, 2)).argmin()) for signature in signatures]


@pytest.mark.parametrize(
    ("options", "saved"),
    [
        ({"fit": "stretch"}, {}),
        ({"fit": "pad"}, {}),
        ({"holdout": 0.4}, {}),
        ({"channels": 1}, {}),
        ({"background": "black", "fit": "pad", "holdout": 0.3}, {}),
        ({}, {"ending": "jpg", "quality": 90}),
        ({"fit": "stretch", "holdout": 0.4}, {"ending": "webp", "quality": 85}),
    ],
)
def test_nothing_that_was_seen_is_thought_unseen(tmp_path: Path, options: Any, saved: Any) -> None:
    """The named finding: 78 to 85 % of the new holdout had been trained on, of which nothing was noticed."""
    champion = made_dataset(pictures(tmp_path / "champion"), Preprocess(resolution=16))
    challenger = made_dataset(pictures(tmp_path / "challenger", **saved), Preprocess(**{"resolution": 16, **options}))
    write_seen(champion, tmp_path)
    rows = np.random.default_rng(0).permutation(challenger.splits["holdout"])
    found = unseen(challenger, rows, {"champion": Seen.load(tmp_path, "the champion")})
    innocent = set(held_out(champion))
    assert found.mask.tolist() == [i in innocent for i in np.array(held_out(challenger))[rows].tolist()]
    assert not found.unsure


def test_a_champion_of_before_is_known_by_its_pixels_and_that_is_said(tmp_path: Path) -> None:
    root = pictures(tmp_path / "workspace")
    champion = made_dataset(root, Preprocess(resolution=16))
    write_seen(champion, tmp_path)
    seen = Seen(np.load(tmp_path / FINGERPRINTS), None, None)
    before = set(held_out(champion))
    challenger = made_dataset(root, Preprocess(resolution=16, holdout=0.4))
    found = unseen(challenger, np.arange(challenger.splits["holdout"]), {"champion": seen})
    assert found.mask.tolist() == [i in before for i in held_out(challenger)]
    assert "what the champion saw is known by its processed pixels" in found.unsure


def test_a_champion_of_the_first_version_is_compared_on_what_it_has_not_seen(old_workspace: Path) -> None:
    """The named finding, by a model of 29edf2a: with another share held out none was ever compared with it."""
    workspace = Workspace(old_workspace)
    params, model = Params.load(workspace.params), Model.load(workspace.model)
    champion = champions.champion("ganflow", workspace)
    before = Dataset.load(workspace.dataset)
    assert before.splits == {"training": 392, "holdout": 108}
    # What it held out stays held out, and of the rest some are now.
    dataset = made_dataset(old_workspace, Preprocess(**params.preprocess.model_dump() | {"holdout": 0.4}))
    evaluation = evaluate(params.evaluate, model, dataset, model.key, workspace)
    evidence = Evidence.gather(params.promote, model, evaluation, dataset, champion, workspace)
    held = dataset.splits["holdout"]
    assert len(evidence.held) == len(evidence.unseen) == 108 < held

    def check(left: int) -> Check:
        mask = np.arange(held) < left
        changed = replace(evidence, unseen=replace(evidence.unseen, mask=mask))
        return next(found for found in vetoes(Promote(), changed) if found.name == "unseen")

    assert check(108).passed
    assert "what the champion saw is known by its processed pixels" in check(108).words
    assert not check(held // 2 - 1).passed


def test_of_many_images_the_signatures_of_some_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = made_dataset(pictures(tmp_path / "workspace"), Preprocess(resolution=16))
    monkeypatch.setattr("components.evaluation.seen.MAX_SIGNATURES", 50)
    write_seen(dataset, tmp_path)
    seen = Seen.load(tmp_path, "the model")
    assert seen.identities is not None and seen.signatures is not None
    assert len(seen.identities) == dataset.splits["training"] + dataset.splits["development"]
    assert len(seen.signatures) == 50
    found = unseen(dataset, np.arange(dataset.splits["holdout"]), {"challenger": seen})
    assert found.mask.all()
    assert "near-duplicates were looked for in" in found.unsure


def test_the_first_of_hardly_any_are_not_compared(tmp_path: Path) -> None:
    """Where all was seen the veto says so; figures are still computed."""
    root = pictures(tmp_path / "workspace")
    dataset = made_dataset(root, Preprocess(resolution=16))
    write_seen(dataset, tmp_path)
    held = np.load(dataset.folder / "holdout-identities.npy")[:, 0]
    seen = Seen.load(tmp_path, "the champion")._replace(identities=np.sort(held))
    found = unseen(dataset, np.arange(len(held)), {"champion": seen})
    assert len(found) == 0
    assert found.compared.all()
    shutil.rmtree(root)


def test_another_mix_of_classes_is_no_distance(digits: tuple[Pixels, Pixels]) -> None:
    """Classes 5 to 9 of the holdout thinned to a third: unseen images in the shares of training looked far from it."""
    rng = np.random.default_rng(0)
    pixels, labels = digits[0][:, :, :, None], digits[1].astype(np.int64)
    image = ImageFormat(height=28, width=28, channels=1, classes=tuple("0123456789"))
    side = rng.permutation(2000)
    thinned = np.array([i for i in side[1000:] if labels[i] < 5 or rng.random() < 1 / 3])
    unseen_real = side[:1000]
    holdout = Split.of(pixels[thinned], labels[thinned], image)
    shares = np.bincount(labels, minlength=10) / 2000

    # As a classifier's features, which tell classes apart before all.
    features = 3 * np.eye(10)[labels] + rng.normal(size=(2000, 10))

    def distance(chosen: np.ndarray) -> float:
        return kernel_distance(features[unseen_real], features[thinned[chosen]])

    matched = holdout.spread(10_000, shares)
    assert np.abs(np.bincount(labels[thinned[matched]]) / len(matched) - shares).max() < 0.01
    assert len(matched) > 0.45 * len(thinned)
    everything = np.arange(len(thinned))
    assert distance(everything) > 4 * abs(distance(matched))
    # By chance classes differ too, and then none is left out.
    assert len(Split.of(pixels[side[:500]], labels[side[:500]], image).spread(10_000, shares)) == 500


def test_shares_leave_out_no_more_than_is_needed() -> None:
    even = np.full(10, 0.1)
    assert with_shares(np.array([200] * 5 + [67] * 5), even).tolist() == [67] * 10
    assert with_shares(np.array([0] + [200] * 9), even).tolist() == [0] + [200] * 9
    assert with_shares(np.array([20, 200] * 5), even).tolist() == [20] * 10
    assert with_shares(np.array([30, 1]), np.array([1.0, 0.0])).tolist() == [30, 0]
