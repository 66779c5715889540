"""`ganflow runs` and `ganflow compare`."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from components.provenance.entries import ModelEntry
from components.provenance.ledger import Ledger
from components.workspace.artifacts import Evaluation, Model
from components.workspace.scores import Scores
from components.workspace.workspace import Workspace
from tests.conftest import ganflow, refused, succeeded


@pytest.fixture(scope="module")
def root(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("history") / "digits"
    shutil.copytree(finished, copy)
    return copy


@pytest.fixture(scope="module")
def other(root: Path) -> Path:
    """A copy whose ledger says that its model was trained otherwise."""
    copy = root.with_name("other")
    shutil.copytree(root, copy)
    workspace = Workspace(copy)
    (entry,) = Ledger(workspace).find_prefix(ModelEntry, ("key",), "")
    training = {**entry.facts.training, "r1_gamma": 7.5}
    Ledger(workspace).append(
        entry.model_copy(
            update={"content": "0123456789abcdef", "facts": entry.facts.model_copy(update={"training": training})}
        )
    )
    return copy


def test_runs_are_listed_with_score_and_verdict(root: Path) -> None:
    model = Model.load(Workspace(root).model)
    (line,) = succeeded(ganflow(root, "runs")).splitlines()
    scores = Scores.of(Evaluation.load(Workspace(root).evaluation))
    kid, floor, _ = next(found for found in scores.of_metric("kid") if found.floor)
    assert floor and f"{kid.name} {kid.value:.4g} (real {floor.value:.4g})" in line
    assert line.endswith("version 1 (challenger, champion), promote")
    (run,) = json.loads(succeeded(ganflow(root, "runs", "--json")))
    assert run["key"] == model.key.id and run["versions"][0]["verdict"]["answer"] == "promote"
    (root / "empty").mkdir(exist_ok=True)
    assert "`ganflow run` makes the first" in succeeded(ganflow(root / "empty", "runs"))
    assert json.loads(succeeded(ganflow(root / "empty", "runs", "--json"))) == []


def test_two_models_are_compared_on_a_page_and_in_the_terminal(root: Path, other: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    out = succeeded(ganflow(root, "compare", "1", str(other), "--html", str(page)))
    assert re.search(r"train\.r1_gamma +\S+ +7\.5", out), out
    # Only what differs.
    assert "train.batch" not in out and f"Page     {page}" in out
    written = page.read_text()
    assert written.count("data:image/png") == 2 * 10 * 5 and "train.r1_gamma" in written


def test_a_model_is_itself_whatever_it_is_called(root: Path) -> None:
    key = Model.load(Workspace(root).model).key.id
    (run,) = json.loads(succeeded(ganflow(root, "runs", "--json")))
    for name in ("champion", "workspace", key[:8], run["name"]):
        found: dict[str, Any] = json.loads(succeeded(ganflow(root, "compare", "1", name, "--json")))
        assert found["a"]["key"] == found["b"]["key"] == key and found["differences"] == []
        assert found["remarks"][0] == "both are the same model"
        assert {score["difference"] for score in found["scores"]} <= {"none", ""}
    assert "no version, run or workspace" in refused(root, "compare", "1", "nobody")
    assert "has no version 7" in refused(root, "compare", "1", "7")


def test_commands_that_work_can_be_quiet_and_those_that_list_print_json(root: Path) -> None:
    assert succeeded(ganflow(root, "evaluate", "--quiet")) == ""
    # What is wrong is told all the same.
    assert "is not a parameter" in refused(root, "evaluate", "--quiet", "--set", "evaluate.sample=1")
    for command in (("presets",), ("params",), ("data", "list")):
        assert json.loads(succeeded(ganflow(root, *command, "--json")))
