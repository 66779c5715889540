"""Classes of few images: each keeps one to train on, or is left out where that is asked for; nothing of it silent."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from components.gan.errors import UserError
from components.ingest.proposals.generating import propose
from components.ingest.proposals.survey import survey
from components.workspace.artifacts import Dataset
from components.workspace.params import Preprocess
from tests.conftest import made_dataset
from tests.ingest.test_identity import photo
from tests.ingest.test_splits import folder_of, known

SIZES = {"large": 60, **{f"small {i}": 1 + i % 3 for i in range(24)}}


def data_of(root: Path, sizes: dict[str, int], first: int = 0) -> Path:
    images = {}
    for name, count in sizes.items():
        for i in range(count):
            images[f"{name}/{i}.png"] = photo(first + len(images))
    return folder_of(root, images)


def test_each_class_has_an_image_to_train_on_and_keeps_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = data_of(tmp_path, SIZES)
    dataset = made_dataset(root, Preprocess(resolution=16))
    training = dataset.class_counts["training"]
    assert training.keys() == SIZES.keys() and min(training.values()) >= 1
    # By chance a third of classes of one to three images would have none.
    said = capsys.readouterr().out
    assert "classes are so small that chance left them none for training" in said
    assert "preprocess.min_class_images" in said
    before = known(dataset)
    assert before == known(made_dataset(root, Preprocess(resolution=16)))
    # What was trained on stays so, though its class has others by now.
    data_of(tmp_path, {f"new/{name}": 4 for name in SIZES}, first=1_000)
    for name in SIZES:
        for file in (root / "data" / "new" / name).iterdir():
            file.rename(root / "data" / name / f"new {file.name}")
        (root / "data" / "new" / name).rmdir()
    (root / "data" / "new").rmdir()
    assert before.items() <= known(made_dataset(root, Preprocess(resolution=16))).items()


def left_out(dataset: Dataset) -> list[dict[str, str]]:
    with (dataset.folder / "left_out.csv").open() as file:
        return [*csv.DictReader(file)]


def test_small_classes_are_left_out_where_that_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = data_of(tmp_path, {**SIZES, "other": 40})
    dataset = made_dataset(root, Preprocess(resolution=16, min_class_images=4))
    assert dataset.image.classes == ("large", "other") and sum(dataset.splits.values()) == 100
    for split, count in dataset.splits.items():
        labels = np.load(dataset.folder / f"{split}-labels.npy")
        assert len(labels) == count
        assert np.bincount(labels, minlength=2).tolist() == [*dataset.class_counts[split].values()]
    rows = left_out(dataset)
    assert len(rows) == sum(SIZES.values()) - 60 and {row["path"].split("/")[0] for row in rows} == {
        name for name in SIZES if name != "large"
    }
    assert dataset.rejected == 0
    assert "24 classes with fewer than 4 images (preprocess.min_class_images)" in capsys.readouterr().out
    with pytest.raises(UserError, match="strict refuses: 24 classes"):
        made_dataset(root, Preprocess(resolution=16, min_class_images=4, strict=True))
    with pytest.raises(UserError, match=r"no class has preprocess.min_class_images = 99 images \(the most, 60, has la"):
        made_dataset(root, Preprocess(resolution=16, min_class_images=99))


def test_a_class_without_a_picture_that_can_be_used_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = data_of(tmp_path, {"a": 40, "b": 40})
    (root / "data" / "broken").mkdir()
    (root / "data" / "broken" / "1.png").write_bytes(b"\x89PNG")
    dataset = made_dataset(root, Preprocess(resolution=16, max_rejected=0.5))
    assert dataset.image.classes == ("a", "b") and dataset.rejected == 1
    assert "1 classes with no image that can be used: broken 0" in capsys.readouterr().out


def test_all_classes_that_the_data_keep_from_training_are_named(tmp_path: Path) -> None:
    root = data_of(tmp_path, {"train/a": 40, "test/a": 9, "test/b": 3, "test/c": 1})
    with pytest.raises(UserError, match=r"classes b, c have no image in the training split.*preprocess\.splits: none"):
        made_dataset(root, Preprocess(resolution=16))
    assert made_dataset(root, Preprocess(resolution=16, splits="none")).image.classes


@pytest.mark.parametrize("held", [2, 3])
def test_a_held_out_split_that_nothing_can_be_measured_by_is_refused_before_training(tmp_path: Path, held: int) -> None:
    root = data_of(tmp_path, {"train/a": 40, "test/a": held})
    with pytest.raises(UserError, match=rf"and {held} held out: at least 32 and 4 .*preprocess\.splits: none"):
        made_dataset(root, Preprocess(resolution=16))


def test_a_class_that_is_all_development_gets_an_image_back_too(tmp_path: Path) -> None:
    root = data_of(tmp_path, {"train/a": 200, "train/b": 2, "test/a": 9})
    dataset = made_dataset(root, Preprocess(resolution=16, development=0.8))
    assert dataset.class_counts["training"]["b"] >= 1 and dataset.splits["holdout"] == 9


@pytest.mark.parametrize("count", [36, 40, 45, 60])
def test_what_is_proposed_for_few_images_can_be_run(tmp_path: Path, count: int) -> None:
    root = data_of(tmp_path, {"a": count})
    found = survey(root / "data", tmp_path)
    assert len(found.distinct) == count and not found.lacking
    proposed = propose(found, "few", 1, 0).params["preprocess"]
    dataset = made_dataset(root, Preprocess.model_validate(proposed))
    assert dataset.splits["holdout"] >= 4
    # As a share of all, the one that is nearest to a fifth.
    assert count < 60 or proposed["holdout"] == pytest.approx(0.2, abs=0.06)


def test_too_few_images_are_told_before_anything_is_run(tmp_path: Path) -> None:
    assert (
        "20 distinct images are too few: at least 36" in survey(data_of(tmp_path, {"a": 20}) / "data", tmp_path).lacking
    )
