"""Several moving averages in one training: each is scored, the best is published, and all scores are told."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from components.gan.options import Execution
from components.reports.gallery_report import curves
from components.training.checkpoints import Checkpoint, TrainingFolder
from components.training.publish import publish
from components.training.scoring import scored_training
from components.workspace.artifacts import Dataset, Key
from components.workspace.params import Preprocess, Train
from tests.conftest import Pixels, idx, made_dataset

EXECUTION = Execution(workers=1, threads=1, device="cpu", precision="fp32")
KEY = Key(options="a", inputs="b", code="c")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, digits: tuple[Pixels, Pixels]) -> Path:
    """A workspace of 300 digits, where the net that scores is kept too."""
    folder = tmp_path_factory.mktemp("workspace")
    (folder / "data").mkdir()
    for name, array in zip(("images", "labels"), digits, strict=True):
        (folder / "data" / f"{name}.idx").write_bytes(idx(array[:300]))
    return folder


@pytest.fixture(scope="module")
def dataset(root: Path) -> Dataset:
    return made_dataset(root, Preprocess(holdout=0.2))


def test_the_best_average_is_published_and_the_scores_of_all_are_told(
    dataset: Dataset, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # So long a half-life that its average is the network of the start, and one that is the network itself.
    options = Train.model_validate(
        {
            "network": {"name": "dcgan", "generator_width": 8, "discriminator_width": 8},
            **{"images": 2048, "batch": 32, "log_every": 1024, "checkpoint_every": 1024},
            **{"ema_half_life": 1e9, "ema_rampup": 1e6, "ema_half_lives": [1, 2e8]},
        }
    )
    run, history = TrainingFolder(tmp_path / "run"), []
    for progress, row, grid in scored_training(options.loop, dataset, EXECUTION, root / "state"):
        assert grid is not None
        scores = {name: row[f"score_{name}"] for name in ("ema", "ema_1", "ema_200000000")}
        assert row["score"] == min(scores.values())
        history.append(row)
        run.save(Checkpoint(progress.state(), history, EXECUTION))
    model = publish(run, options.loop, dataset, KEY, tmp_path / "model")
    best = min(history, key=lambda row: row["score"])
    assert model.averages == {name: best[f"score_{name}"] for name in model.averages}
    assert min(model.averages, key=lambda name: model.averages[name]) == "ema_1"
    assert "ema_1 is published" in capsys.readouterr().out
    weights, tensors = load_file(model.folder / "generator.safetensors"), run.best().state.tensors
    for name, weight in weights.items():
        assert torch.equal(weight, tensors[f"ema_1/{name}"])
    assert not torch.equal(weights["project.weight"], tensors["ema/project.weight"])
    drawings = curves(pd.read_csv(model.folder / "history.csv"), model.images)
    told = next(words for title, words, _ in drawings if title == "Score at checkpoints")
    assert "ema_1 of the averages (ema " in told


def test_one_average_is_told_as_ever(dataset: Dataset, root: Path, tmp_path: Path) -> None:
    network = {"name": "dcgan", "generator_width": 8, "discriminator_width": 8}
    options = Train.model_validate({"network": network, "images": 64, "batch": 32, "ema_half_lives": []})
    run = TrainingFolder(tmp_path / "run")
    for progress, row, _ in scored_training(options.loop, dataset, EXECUTION, root / "state"):
        run.save(Checkpoint(progress.state(), [row], EXECUTION))
    assert [name for name in row if name.startswith("score")] == ["score"]
    model = publish(run, options.loop, dataset, KEY, tmp_path / "model")
    assert "averages" not in (model.folder / model.manifest).read_text()
    assert "ema_half_lives" not in options.hashed


@pytest.mark.parametrize("half_lives", [[5, 5], [10_000], [0]])
def test_averages_that_are_the_same_or_none_are_refused(half_lives: list[float]) -> None:
    with pytest.raises(ValidationError, match="ema_half_lives"):
        Train.model_validate({"ema_half_lives": half_lives})
