"""MLflow's pages as somebody reads them who knows MLflow and not ganflow: each question is answered where he looks."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from components.services import password
from components.services.tracking import pages
from components.services.tracking.live import SweepLog
from components.workspace.artifacts import Model
from components.workspace.workspace import Workspace
from tests.harness.clusters import end, free_port, start_server

if TYPE_CHECKING:
    from playwright.sync_api import Page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
# As the addresses that ganflow prints have it.
VIEW = "?workflowType=machine_learning"


class Run(NamedTuple):
    """The run of the workspace's model."""

    id: str
    name: str

    @property
    def page(self) -> str:
        return f"experiments/1/runs/{self.id}"


@pytest.fixture(scope="module")
def root(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("pages") / "digits"
    shutil.copytree(finished, copy)
    # And a sweep of two trials, without the trainings.
    workspace = Workspace(copy)
    training = Model.load(workspace.model).training.model_dump(mode="json")
    facts = {"resolution": "28x28"}
    log = SweepLog(workspace, "0123456789abcdef", training, facts)
    for gamma in (0.5, 2.0):
        history = [{"images": 1024, "generator_loss": gamma, "score": gamma}]
        log.add(f"trial-{gamma}", f"r1_gamma={gamma}", {**training, "r1_gamma": gamma}, history)
    log.close("r1_gamma,score", "Two trials.")
    return copy


@pytest.fixture(scope="module")
def run(root: Path) -> Run:
    with closing(sqlite3.connect(root / "mlruns" / "mlflow.db")) as database:
        ((run_id, name),) = database.execute("SELECT run_uuid, name FROM runs WHERE name LIKE 'dcgan%'").fetchall()
    return Run(run_id, name)


@pytest.fixture(scope="module")
def _page(root: Path) -> Iterator[tuple[Page, str]]:
    from playwright.sync_api import HttpCredentials, expect, sync_playwright

    port = free_port()
    command = [str(Path(sys.executable).parent / "ganflow"), "ui", "--port", str(port)]
    server: subprocess.Popen[bytes] = start_server(command, port, root)
    address, errors = f"http://127.0.0.1:{port}", []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        known = password.known(Workspace(root)) or ""
        credentials = HttpCredentials(username="ganflow", password=known, origin=address)
        page = browser.new_page(viewport={"width": 1400, "height": 1300}, http_credentials=credentials)
        page.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page, address
        browser.close()
    end(server)
    assert not errors


@pytest.fixture
def opened(_page: tuple[Page, str]) -> Callable[[str], Page]:
    """Opens a page of MLflow, in a browser that has seen others before."""
    page, server = _page

    def open_page(path: str) -> Page:
        # Else only what stands behind the # would change, and nothing be loaded.
        page.goto("about:blank")
        page.set_viewport_size({"width": 1400, "height": 1300})
        page.goto(f"{server}/{path}")
        return page

    return open_page


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """Where screenshots go; GANFLOW_SCREENSHOTS=docs makes those that docs show."""
    return Path(os.environ.get("GANFLOW_SCREENSHOTS") or tmp_path)


def seen(page: Page, *answers: str) -> None:
    from playwright.sync_api import expect

    for answer in answers:
        expect(page.get_by_text(answer).first).to_be_visible()


def test_whatever_is_clicked_the_view_is_that_for_training(opened: Callable[[str], Page], run: Run) -> None:
    from playwright.sync_api import expect

    # Without a view in the address, as MLflow's own links.
    page = opened("#/experiments/1/runs")
    page.get_by_role("link", name=run.name).click()
    seen(page, "Model metrics", "Model training", "Promoted: version 1 became champion")
    assert run.id in page.url
    # No view was asked for, and nothing of language models is offered beside the run.
    assert "workflowType" not in page.url
    assert page.evaluate("localStorage['mlflow.workflowType_v1']") == '"machine_learning"'
    for name in ("Judges", "Prompts"):
        expect(page.get_by_role("link", name=name)).to_have_count(0)
    expect(page.get_by_placeholder("Ask a question")).to_have_count(0)


def test_who_chooses_the_other_view_keeps_it(opened: Callable[[str], Page], run: Run) -> None:
    page = opened("#/experiments/1/runs")
    page.get_by_text("GenAI", exact=True).click()
    try:
        page = opened(f"#/{run.page}")
        seen(page, "Judges")
    finally:
        page.evaluate("localStorage.removeItem('mlflow.workflowType_v1')")


def test_did_the_run_work_and_what_did_it_do(opened: Callable[[str], Page], run: Run, shots: Path) -> None:
    page = opened(f"#/{run.page}{VIEW}")
    seen(page, run.name, "Finished", "Promoted: version 1 became champion", "ganflow train")
    page.screenshot(path=shots / "mlflow_run.png")


def test_is_the_new_model_better_and_why(opened: Callable[[str], Page], shots: Path) -> None:
    from playwright.sync_api import expect

    page = opened(f"#/models/ganflow/versions/1{VIEW}")
    seen(
        page,
        "Promoted: version 1 became champion. It is the first that passes the checks.",
        "Kernel distance (KID) (lower is better)",
        "what real images get",
    )
    page.screenshot(path=shots / "mlflow_version.png")
    # The link leads to the verdict itself, in the same view.
    found = page.locator("a", has_text="why it was promoted or not").get_attribute("href")
    assert found
    assert found.endswith(f"/report/verdict.html{VIEW}")
    page = opened(found)
    expect(page.frame_locator("iframe").get_by_text("Version 1 became champion").first).to_be_visible()


def test_what_does_it_make(opened: Callable[[str], Page]) -> None:
    from playwright.sync_api import expect

    picture = opened(f"#/models/ganflow/versions/1{VIEW}").locator("img[src^='get-artifact']")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") > 500


def test_what_data_and_code_is_it_of_and_what_did_it_cost(opened: Callable[[str], Page]) -> None:
    page = opened(f"#/models/ganflow/versions/1{VIEW}")
    seen(page, "Made from", "data", "s of processors", "Wh")


def test_how_is_it_used(opened: Callable[[str], Page], run: Run) -> None:
    page = opened(f"#/models/ganflow/versions/1{VIEW}")
    seen(page, 'model = mlflow.pyfunc.load_model("models:/ganflow/1")', "ganflow generate")
    page = opened(f"#/{run.page}/artifacts/report/model_card.md{VIEW}")
    seen(page, "Intended use")
    page = opened(f"#/models/ganflow{VIEW}")
    seen(page, "Each version is a trained model")


def test_metrics_stand_in_groups(opened: Callable[[str], Page], run: Run, shots: Path) -> None:
    from playwright.sync_api import expect

    page = opened(f"#/{run.page}/model-metrics{VIEW}")
    for group in ("final", "floor"):
        expect(page.locator("main")).to_contain_text(re.compile(rf"{group}\s*\(\d+\)"))
    page.screenshot(path=shots / "mlflow_metrics.png")


@pytest.mark.long
def test_samples_are_scrubbed_by_images_seen(opened: Callable[[str], Page], run: Run, shots: Path) -> None:
    from playwright.sync_api import expect

    page = opened(f"#/{run.page}/model-metrics{VIEW}")
    # Charts are drawn once they are on the screen.
    page.set_viewport_size({"width": 1400, "height": 2600})
    expect(page.locator("main")).to_contain_text(re.compile(r"samples\s*\(1\)"))
    slider = page.get_by_role("slider").first
    slider.focus()
    page.keyboard.press("ArrowRight")
    picture = page.locator("img[src*='samples']")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") > 100
    page.screenshot(path=shots / "mlflow_samples.png", clip={"x": 190, "y": 900, "width": 600, "height": 700})
    # Beside the parameters there is room for it: most of it lies within the chart, above the slider.
    box, below = picture.bounding_box(), slider.bounding_box()
    assert box
    assert below
    assert box["y"] + 0.75 * box["height"] < below["y"]


def test_trials_fold_under_their_sweep(opened: Callable[[str], Page], run: Run) -> None:
    from playwright.sync_api import expect

    page = opened("#/experiments/1/runs")
    seen(page, "sweep", run.name)
    expect(page.get_by_text("r1_gamma=2.0")).to_have_count(0)
    page.get_by_role("row").filter(has_text="sweep").get_by_role("button").first.click()
    seen(page, "r1_gamma=0.5", "r1_gamma=2.0")


def test_two_runs_are_compared_by_the_parameters_that_differ(root: Path, opened: Callable[[str], Page]) -> None:
    from playwright.sync_api import expect

    with closing(sqlite3.connect(root / "mlruns" / "mlflow.db")) as database:
        found = database.execute("SELECT run_uuid FROM runs WHERE name LIKE 'r1_gamma%' ORDER BY name").fetchall()
    page = opened(pages.comparison("", "1", [run_id for (run_id,) in found]))
    seen(page, "Comparing 2 Runs", "train.r1_gamma", "train.batch")
    page.get_by_role("switch").first.click()
    expect(page.get_by_text("train.batch", exact=True)).to_have_count(0)
    seen(page, "train.r1_gamma")
