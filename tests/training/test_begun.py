"""A training that waits is finished with what it was begun with, whatever was changed meanwhile."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from components.training import begun, cost
from components.training.begun import Begun
from components.training.checkpoints import TrainingFolder
from components.workspace.artifacts import Dataset, Key, Model
from components.workspace.graph import key_of, stage_named
from components.workspace.params import Params, Preprocess, Train
from components.workspace.workspace import Workspace
from flows.runner import Work
from tests.conftest import Pixels, ganflow, idx, made_dataset, succeeded
from tests.workspace.test_artifacts import checkpoint

PARAMS = Params(preprocess=Preprocess(resolution=16), train=Train(images=1024))
OTHER = Params(preprocess=Preprocess(resolution=16), train=Train(images=1024, seed=1))
# The training that 29edf2a left half-way.
LEFT = "6419651b4f3e8f9b"


@pytest.fixture
def workspace(make_workspace: Callable[..., Path]) -> Workspace:
    """A workspace with a data set of 16x16, where nothing was trained."""
    workspace = Workspace(make_workspace(images=200))
    made_dataset(workspace.root, PARAMS.preprocess)
    return workspace


def half_way(params: Params, workspace: Workspace, key: Key | None = None) -> Begun:
    """A training that was begun and has one checkpoint."""
    dataset = Dataset.load(workspace.dataset)
    key = key or key_of(stage_named("train"), params.train, dataset)
    run = TrainingFolder(workspace.state / "training" / key.id)
    run.path.mkdir(parents=True)
    begun.begin(params.train, dataset, key, workspace)
    assert not [one for one in begun.open_trainings(params, workspace) if one.key == key]
    run.save(checkpoint(64, 2.0, []))
    return next(one for one in begun.open_trainings(params, workspace) if one.key == key)


def test_with_the_same_data_and_parameters_nothing_waits(workspace: Workspace) -> None:
    half_way(PARAMS, workspace)
    assert begun.unfinished(PARAMS, workspace) is None


def test_other_parameters_or_data_wait_until_it_is_finished(workspace: Workspace) -> None:
    half = half_way(PARAMS, workspace)
    assert half.reached(workspace) == 64
    assert begun.unfinished(OTHER, workspace) == half
    assert half.resumed(OTHER).train == PARAMS.train
    larger = Params(preprocess=Preprocess(resolution=28), train=PARAMS.train)
    assert begun.unfinished(larger, workspace) == half
    (workspace.data / "more.idx").write_bytes(b"more")
    assert begun.unfinished(PARAMS, workspace) == half
    begun.end(half.key, workspace)
    assert begun.unfinished(OTHER, workspace) is None
    assert not (half.folder(workspace) / begun.DATASET).exists()


def test_its_data_set_outlives_the_next_one_and_is_put_back(workspace: Workspace) -> None:
    first = Dataset.load(workspace.dataset)
    files = {name: (first.folder / name).read_bytes() for name in first.files}
    half = half_way(PARAMS, workspace)
    # It takes no room.
    kept = half.dataset(workspace)
    assert all((kept.folder / name).samefile(first.folder / name) for name in files)
    second = made_dataset(workspace.root, Preprocess(resolution=16, holdout=0.3))
    assert second.content != first.content
    assert begun.restore_dataset(half, workspace).verified().content == first.content
    assert {name: (workspace.dataset / name).read_bytes() for name in files} == files


def test_a_change_of_code_alone_goes_on_with_it(workspace: Workspace) -> None:
    dataset = Dataset.load(workspace.dataset)
    present = key_of(stage_named("train"), PARAMS.train, dataset)
    half = half_way(PARAMS, workspace, present.model_copy(update={"code": "of another day"}))
    assert begun.unfinished(PARAMS, workspace) is None
    assert Work.of("train", PARAMS, workspace).key == half.key
    assert Work.of("train", OTHER, workspace).key != half.key
    begun.end(half.key, workspace)
    assert Work.of("train", PARAMS, workspace).key == present


def test_of_two_the_one_that_was_begun_first_is_finished_first(workspace: Workspace) -> None:
    second = half_way(OTHER, workspace)
    first = half_way(PARAMS, workspace)
    early = first.model_copy(update={"since": "2025-01-01 00:00+00:00"})
    begun._write(early, workspace)
    third = Params(preprocess=PARAMS.preprocess, train=Train(images=1024, seed=2))
    assert begun.unfinished(third, workspace) == early
    begun.end(first.key, workspace)
    assert begun.unfinished(third, workspace) == second


def test_a_damaged_record_is_none(workspace: Workspace) -> None:
    half = half_way(PARAMS, workspace)
    record = half.folder(workspace) / begun.RECORD
    record.write_text(record.read_text().replace('"seed": 0', '"seed": 7'))
    assert not begun.open_trainings(OTHER, workspace)


# --- what 29edf2a left, which kept no record ---


def params_of(root: Path, text: str, other: str) -> Params:
    path = root / "params.yaml"
    path.write_text(path.read_text().replace(text, other))
    return Params.load(path)


def test_what_was_left_goes_on_with_its_own_splits_where_nothing_changed(old_workspace: Path) -> None:
    workspace = Workspace(old_workspace)
    params = Params.load(workspace.params)
    (half,) = begun.open_trainings(params, workspace)
    assert (half.key.id, half.reached(workspace)) == (LEFT, 4608)
    # The present code splits otherwise, so that it comes first.
    assert begun.unfinished(params, workspace) == half
    assert Work.of("train", params, workspace).key.id == LEFT


@pytest.mark.parametrize(
    ("text", "other"), [("seed: 2", "seed: 3"), ("precision: fp32", "precision: bf16\n  r1_gamma: {start: 2, end: 1}")]
)
def test_what_was_left_is_known_by_what_mlflow_was_told(old_workspace: Path, text: str, other: str) -> None:
    before = Params.load(old_workspace / "params.yaml")
    workspace, params = Workspace(old_workspace), params_of(old_workspace, text, other)
    half = begun.unfinished(params, workspace)
    assert half is not None
    assert half.key.id == LEFT
    assert half.options == before.train
    # From here on it does not depend on MLflow, nor on the data set that lies here.
    (workspace.mlruns / "mlflow.db").unlink()
    shutil.rmtree(workspace.dataset)
    assert begun.unfinished(params, workspace) == half


def test_what_was_left_and_given_up_does_not_come_back(old_workspace: Path) -> None:
    workspace, params = Workspace(old_workspace), params_of(old_workspace, "seed: 2", "seed: 3")
    (half,) = begun.open_trainings(params, workspace)
    begun.end(half.key, workspace)
    assert begun.unfinished(params, workspace) is None


def test_a_plan_says_what_is_finished_first(old_workspace: Path) -> None:
    params_of(old_workspace, "seed: 2", "seed: 3")
    planned = succeeded(ganflow(old_workspace, "run", "--dry-run"))
    assert "Before that, it would be finishing the training begun on" in planned
    assert "at image 4,608 of 12,288" in planned
    assert "finishing" not in succeeded(ganflow(old_workspace, "run", "--dry-run", "--discard-training"))
    # A plan gives up nothing.
    assert succeeded(ganflow(old_workspace, "run", "--dry-run")) == planned


# Three minutes; tests/test_old_workspace.py has the first half of it in two.
@pytest.mark.long
def test_the_first_run_finishes_what_was_left_and_the_next_uses_the_new_data_and_parameters(
    old_workspace: Path, digits: tuple[Pixels, Pixels]
) -> None:
    workspace = Workspace(old_workspace)
    before = Dataset.load(workspace.dataset)
    params_of(old_workspace, "seed: 2", "seed: 3")
    for name, values in zip(("images.idx", "labels.idx"), digits, strict=True):
        (workspace.data / name).write_bytes(idx(values[:600]))

    told = succeeded(ganflow(old_workspace, "run"))
    assert "ganflow is finishing the training begun on" in told
    assert "at image 4,608 of 12,288, with its own data and parameters; the next run uses the present ones" in told
    assert "training goes on at image 4,608 of 12,288" in told
    assert "ganflow version 3" in told
    model = Model.load(workspace.model).verified()
    assert (model.key.id, model.training.seed, model.dataset) == (LEFT, 2, before.content)
    assert Dataset.load(workspace.dataset).content == before.content
    registered = [json.loads(line)["entry"] for line in workspace.ledger.read_text().splitlines()][-2]
    assert (registered["kind"], registered["facts"]["model_key"]) == ("registration", LEFT)

    told = succeeded(ganflow(old_workspace, "run"))
    assert "finishing" not in told
    assert "ganflow runs preprocess -> train" in told
    model, dataset = Model.load(workspace.model), Dataset.load(workspace.dataset)
    assert (model.training.seed, model.dataset) == (3, dataset.content)
    assert sum(dataset.splits.values()) > sum(before.splits.values())
    assert "Nothing to do" in succeeded(ganflow(old_workspace, "run"))


@pytest.mark.parametrize(
    "line", ["5", "[]", '{"score": 1}', '{"score": 1, "images": null}', '{"score": 1, "images": 1e999}']
)
def test_strange_curves_have_reached_nothing(tmp_path: Path, line: str) -> None:
    options = Train.model_validate({"storage": "s3://bucket/x"})
    key = Key(options="0" * 64, inputs="1" * 64, code="2" * 64)
    training = Begun(options=options, key=key, since="never")
    folder = training.folder(Workspace(tmp_path))
    (folder / "checkpoints" / "1²").mkdir(parents=True)
    (folder / "progress.jsonl").write_text(line + "\n")
    assert training.reached(Workspace(tmp_path)) == 0
    local = training.model_copy(update={"options": Train()})
    assert local.reached(Workspace(tmp_path)) == 0


@pytest.mark.parametrize("text", ["{[]: 1}", "(" * 10_000, "-" * 10_000 + "1", "9" * 5_000, "a\0b"])
def test_what_mlflow_was_told_by_a_stranger_is_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    told = {"train": text, "train.": text, "train.network": text, "train.network.name.x": text, "": text}
    monkeypatch.setattr(begun.runs, "params_of", lambda *_: told)
    assert list(begun._logged("0" * 16, 1, Workspace(tmp_path))) == []


@pytest.mark.parametrize(
    "text", ["", "5", "{}", '{"cpu_seconds": "x", "gpu_seconds": 0}', '{"cpu_seconds": 1e999, "gpu_seconds": NaN}']
)
def test_a_strange_cost_is_not_counted(tmp_path: Path, text: str) -> None:
    (tmp_path / cost.FOLDER).mkdir()
    (tmp_path / cost.FOLDER / "a.json").write_text(text)
    assert cost.spent(tmp_path) is None
    (tmp_path / cost.FOLDER / "b.json").write_text('{"cpu_seconds": 2, "gpu_seconds": 3}')
    found = cost.spent(tmp_path)
    assert found and (found.cpu_seconds, found.gpu_seconds) == (2, 3)


def test_trainings_that_ended_are_not_read_again(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    half = half_way(PARAMS, workspace)
    other = half.key.model_copy(update={"code": "0" * 16})
    begun.begin(PARAMS.train, Dataset.load(workspace.dataset), other, workspace)
    begun.end(half.key, workspace)
    read, reads = begun._read, list[str]()
    monkeypatch.setattr(begun, "_read", lambda folder: reads.append(folder.name) or read(folder))
    assert not begun.open_trainings(PARAMS, workspace)
    assert reads == [other.id]
    # A training that is begun again waits again, and a list that is lost is made again.
    begun.begin(PARAMS.train, Dataset.load(workspace.dataset), half.key, workspace)
    assert [one.key for one in begun.open_trainings(PARAMS, workspace)] == [half.key]
    begun.end(other, workspace)
    (workspace.state / begun.ENDED).write_bytes(b"\xff")
    assert [one.key for one in begun.open_trainings(PARAMS, workspace)] == [half.key]
    begun.end(half.key, workspace)
    assert (workspace.state / begun.ENDED).read_text().split() == sorted((half.key.id, other.id))
