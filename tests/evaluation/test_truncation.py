"""Truncation: measured at several values by a full evaluation, and the best of them used where it is asked for."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.evaluation import truncation
from components.gan.errors import UserError
from components.generate import GenerateRequest, generate
from components.services.tracking import registry
from components.workspace.artifacts import Evaluation, Model
from components.workspace.params import Params
from components.workspace.workspace import Workspace
from flows.runner import run_stage
from tests.conftest import refused


@pytest.fixture(scope="module")
def workspace(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A finished workspace with a champion; to be evaluated in full."""
    root = tmp_path_factory.mktemp("truncation") / "home"
    shutil.copytree(finished, root)
    return Workspace(root)


@pytest.fixture(scope="module")
def full(workspace: Workspace) -> Evaluation:
    """Its full evaluation, registered; `untouched` has to come first."""
    params = Params.load(workspace.params, ["evaluate.full=true"])
    found = run_stage("evaluate", params, workspace)
    for stage in ("postprocess", "register"):
        run_stage(stage, params, workspace)
    assert isinstance(found, Evaluation)
    return found


def asked(workspace: Workspace, truncation: object, model: str) -> float:
    request = GenerateRequest.model_validate({"images": 2, "truncation": truncation, "model": model, "steps": ()})
    return generate(request, Params.load(workspace.params), workspace).batch.truncation


def test_without_a_choice_a_sentence_says_what_makes_one(finished: Path) -> None:
    for command in (("generate",), ("render",), ("sample", "--out", "made")):
        sentence = refused(finished, *command, "--n", "2", "--truncation", "chosen")
        assert "no truncation was chosen for" in sentence and "ganflow evaluate --full" in sentence
    for wrong in ("0", "1.1", "nan", "best"):
        assert "--truncation" in refused(finished, "generate", "--n", "2", "--truncation", wrong)


def test_the_curve_is_measured_at_equal_numbers_beside_real_images(full: Evaluation) -> None:
    table = pd.read_csv(full.folder / "truncation.csv")
    assert table["truncation"].dropna().tolist() == list(truncation.VALUES)
    assert table["truncation"].isna().sum() == 1
    (images,) = set(table["images"])
    assert 100 < images <= full.holdout_images
    last, real = table.iloc[len(truncation.VALUES) - 1], table.iloc[-1]
    # At 1 it is what the evaluation found, and real images have their floors.
    for metric in ("fd", "kid", "precision", "recall", "density", "coverage"):
        name = f"{metric}_classifier_{images}"
        assert last[metric] == pytest.approx(full.metrics[name])
        assert real[metric] == pytest.approx(full.metrics[f"{name}_floor"])
        assert (table[f"{metric}_low"] <= table[metric]).all() and (table[metric] <= table[f"{metric}_high"]).all()
    best = table.dropna(subset=["truncation"])["fd"].idxmin()
    assert full.truncation == table.loc[best, "truncation"]


def test_a_full_evaluation_looks_for_what_was_memorised(full: Evaluation) -> None:
    assert full.metrics["classification_accuracy_500_floor"] > 0.5
    low, high = full.intervals["reconstruction_auc_32"]
    # Of 561 training images each was seen seven times.
    assert low < 0.6 < high or low < 0.5


def test_the_choice_is_kept_with_the_version_and_used_where_it_is_asked_for(
    workspace: Workspace, full: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    tags = registry.tags("ganflow", 1, workspace)
    assert tags["truncation"] == repr(full.truncation)
    for model in ("workspace", "champion", "1"):
        assert asked(workspace, "chosen", model) == full.truncation
        assert asked(workspace, 1.0, model) == 1.0
    page = (workspace.gallery / "report.html").read_text()
    assert "<h2>Truncation</h2>" in page and "<svg" in page.partition("<h2>Truncation</h2>")[2].partition("<h2>")[0]
    # An evaluation that chose nothing takes nothing back.
    run_stage("evaluate", Params.load(workspace.params), workspace)
    with pytest.raises(UserError, match="no truncation was chosen for the workspace's model"):
        asked(workspace, "chosen", "workspace")
    assert asked(workspace, "chosen", "champion") == full.truncation


def test_another_models_evaluation_chooses_nothing(workspace: Workspace, tmp_path: Path, full: Evaluation) -> None:
    other = Workspace(tmp_path)
    shutil.copytree(workspace.model, other.model)
    shutil.copyfile(workspace.params, other.params)
    Evaluation.describe(
        _emptied(other.evaluation),
        full.key,
        **full.model_dump(exclude={"key", "folder", "files", "model"}),
        model="0" * 64,
    )
    assert Model.load(other.model).content != "0" * 64
    with pytest.raises(UserError, match="no truncation was chosen"):
        asked(other, "chosen", "workspace")


def _emptied(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def test_the_least_distance_is_chosen_and_of_equal_ones_the_least_change() -> None:
    values = [*truncation.VALUES, np.nan]
    curve = pd.DataFrame({"truncation": values, "fd": [9.0, 4.0, 3.0, 3.0, 5.0, 6.0, 0.1]})
    assert truncation.chosen_truncation(curve) == 0.8
