"""`ganflow runs` and `compare`, and MLflow's pages as somebody reads them who does not know ganflow."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from components.provenance.entries import ModelEntry
from components.provenance.ledger import Ledger
from components.services import password
from components.workspace.artifacts import Evaluation, Model
from components.workspace.scores import Scores
from components.workspace.workspace import Workspace
from tests.conftest import ganflow, refused, succeeded
from tests.harness.clusters import end, free_port, start_server

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


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


@pytest.fixture(scope="module")
def pages(root: Path) -> Iterator[tuple[str, str]]:
    """Address and password of MLflow's pages."""
    port = free_port()
    command = [str(Path(sys.executable).parent / "ganflow"), "ui", "--port", str(port)]
    server: subprocess.Popen[bytes] = start_server(command, port, root)
    yield f"http://127.0.0.1:{port}", password.known(Workspace(root)) or ""
    end(server)


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
def test_the_pages_answer_what_a_newcomer_asks(root: Path, pages: tuple[str, str], tmp_path: Path) -> None:
    from playwright.sync_api import HttpCredentials, expect, sync_playwright

    # GANFLOW_SCREENSHOTS=docs makes those that docs show.
    shots = Path(os.environ.get("GANFLOW_SCREENSHOTS") or tmp_path)
    server, known = pages
    view = "workflowType=machine_learning"
    with closing(sqlite3.connect(root / "mlruns" / "mlflow.db")) as database:
        ((run, name),) = database.execute("SELECT run_uuid, name FROM runs").fetchall()
    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        credentials = HttpCredentials(username="ganflow", password=known, origin=server)
        page = browser.new_page(viewport={"width": 1400, "height": 1300}, http_credentials=credentials)
        page.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        page.on("pageerror", lambda error: errors.append(str(error)))

        page.goto(f"{server}/#/models/ganflow/versions/1?{view}")
        for answer in (
            # Is the new model better, and why?
            "Promoted: version 1 became champion. It is the first that passes the checks.",
            "Kernel distance (KID) (lower is better)",
            # What data and code is it of, and what did it cost?
            "Made from",
            "s of processors",
            # How do I use it?
            'model = mlflow.pyfunc.load_model("models:/ganflow/1")',
        ):
            expect(page.get_by_text(answer).first).to_be_visible()
        # What does it make?
        picture = page.locator("img[src^='get-artifact']")
        expect(picture).to_be_visible()
        assert picture.evaluate("image => image.naturalWidth") > 500
        page.screenshot(path=shots / "mlflow_version.png")
        # The links lead to the things themselves, in the same view.
        found = page.locator("a", has_text="why it was promoted or not").get_attribute("href")
        assert found and found.endswith(f"/report/verdict.html?{view}")

        page.goto("about:blank")
        page.goto(f"{server}/{found}")
        expect(page.frame_locator("iframe").get_by_text("Version 1 became champion").first).to_be_visible()
        page.goto("about:blank")
        page.goto(f"{server}/#/experiments/1/runs/{run}/artifacts/report/model_card.md?{view}")
        expect(page.get_by_text("Intended use").first).to_be_visible()

        page.goto("about:blank")
        page.goto(f"{server}/#/experiments/1/runs/{run}?{view}")
        for answer in (name, "Promoted: version 1 became champion", "ganflow train"):
            expect(page.get_by_text(answer).first).to_be_visible()
        page.screenshot(path=shots / "mlflow_run.png")
        page.goto("about:blank")
        page.goto(f"{server}/#/experiments/1/runs/{run}/model-metrics?{view}")
        for group in ("final", "floor"):
            expect(page.locator("main")).to_contain_text(re.compile(rf"{group}\s*\(\d+\)"))
        page.screenshot(path=shots / "mlflow_metrics.png")
        page.goto("about:blank")
        page.goto(f"{server}/#/models/ganflow?{view}")
        expect(page.get_by_text("Each version is a trained model").first).to_be_visible()
        browser.close()
    assert not errors
