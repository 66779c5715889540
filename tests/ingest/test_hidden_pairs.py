"""Pictures of equal names in several classes, of which training is not told that they belong together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from components.gan.dataset import Split
from components.gan.errors import UserError
from components.workspace.artifacts import Dataset
from components.workspace.params import Preprocess
from tests.conftest import SPLITS, made_dataset


def write(root: Path, names: dict[str, list[str]]) -> None:
    """Pictures of random dots: of a class its own, so that nothing but the name tells what belongs together."""
    rng = np.random.default_rng(0)
    for folder, files in names.items():
        (root / "data" / folder).mkdir(parents=True, exist_ok=True)
        for name in files:
            Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8)).save(root / "data" / folder / name)


def made(root: Path, **options: Any) -> Dataset:
    return made_dataset(root, Preprocess(resolution=16, hidden_pairs=True, **options))


def subjects(dataset: Dataset) -> dict[str, tuple[list[int], list[int]]]:
    """Of each split the subjects and the labels."""
    return {
        name: (
            np.load(dataset.folder / f"{name}-subjects.npy").tolist(),
            Split(dataset.folder, name, dataset.image).labels.tolist(),
        )
        for name in SPLITS
    }


def test_those_of_one_name_stand_on_one_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = range(60)
    # Names are compared as people read them: without endings, capitals and normal forms.
    write(tmp_path, {"day": [f"{n}-\u00e9.png" for n in numbers], "night": [f"{n}-E\u0301.bmp" for n in numbers]})
    found = subjects(made(tmp_path))
    assert "60 names that several classes have" in capsys.readouterr().out
    for numbers_of, labels in found.values():
        assert sorted(set(numbers_of)) == sorted(n for n, label in zip(numbers_of, labels, strict=True) if label == 0)
        assert all(numbers_of.count(n) == 2 for n in numbers_of)
    assert len(found["holdout"][0]) >= 4


def test_what_has_no_partner_or_several_tells_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"{n}.png" for n in range(40)]
    write(tmp_path, {"day": [*names, "alone.png"], "night": names, "night/again": ["7.png"]})
    found = subjects(made(tmp_path, labels="folders"))
    assert "39 names that several classes have" in capsys.readouterr().out
    told = [n for numbers_of, _ in found.values() for n in numbers_of]
    assert told.count(-1) == 4 and len({*told}) == 40


def test_no_partners_at_all_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {"day": [f"d{n}.png" for n in range(20)], "night": [f"n{n}.png" for n in range(20)]})
    with pytest.raises(UserError, match="no picture of a class has the name of one of another class"):
        made(tmp_path)


@pytest.mark.parametrize("other", [{"input": "left"}, {"fit": "patches"}, {"frames": "all"}])
def test_what_has_no_whole_pictures_of_classes_is_refused(other: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Preprocess(hidden_pairs=True, **other)


def test_without_them_nothing_is_written(tmp_path: Path) -> None:
    write(tmp_path, {"day": [f"{n}.png" for n in range(20)], "night": [f"{n}.png" for n in range(20)]})
    dataset = made_dataset(tmp_path, Preprocess(resolution=16))
    assert not [name for name in dataset.files if "subjects" in name]
