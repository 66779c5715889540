"""Names of metrics in MLflow: grouped, read back, and in older runs as they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.services.tracking import names, pages, runs
from components.services.tracking.connection import ensure_experiment, open_client
from components.workspace.artifacts import Evaluation, Model
from components.workspace.workspace import Workspace

METRICS = {
    "kid_classifier_368": 475.2,
    "kid_classifier_368_floor": 33.6,
    "kid_classifier_500": 488.2,
    "fd_holdout_classifier_368": 97.5,
    "fd_holdout_classifier_368_floor": 41.1,
    "copied_pixels_50": 0.0,
    "copied_pixels_50_canaries": 1.0,
    "copied_pixels_50_floor": 0.02,
    "copied_exact_pixels_32_canaries": 1.0,
}
CURVES = {"images": 1024, "generator_loss": 0.5, "score": 800.0, "score_fast": 900.0, "generalisation_gap": None}


def test_the_few_that_decide_stand_first_each_with_its_floor() -> None:
    logged = {metric.key: metric for metric in names.Names().scores(METRICS, 4096)}
    assert sorted(logged) == [
        "final/copied_pixels_50",
        "final/kid_classifier_368",
        "floor/copied_pixels_50",
        "floor/kid_classifier_368",
        "values/copied_exact_pixels_32_canaries",
        "values/copied_pixels_50_canaries",
        "values/fd_holdout_classifier_368",
        "values/fd_holdout_classifier_368_floor",
        "values/kid_classifier_500",
    ]
    # Of what has one value at step 0 MLflow draws bars.
    assert {metric.step for metric in logged.values()} == {0}
    curves = {metric.key: metric.step for metric in names.Names().curves([CURVES])}
    assert curves == {"training/generator_loss": 1024, "score/score": 1024, "score/score_fast": 1024}
    assert {name.partition("/")[0] for name in [*logged, *curves]} < {*names.GROUPS}


@pytest.mark.parametrize("grouped", [True, False])
def test_scores_are_read_back_whichever_names_a_run_has(grouped: bool) -> None:
    of_run = names.Names(grouped)
    everything = [*of_run.scores(METRICS, 4096), *of_run.curves([CURVES]), *of_run.cost({"cpu_seconds": 3.0})]
    assert names.scores_of({metric.key: metric.value for metric in everything}) == METRICS


def test_a_run_from_before_keeps_its_names(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    client = open_client(workspace)
    experiment = ensure_experiment(client, workspace)
    run_id = client.create_run(experiment).info.run_id
    client.log_metric(run_id, "generator_loss", 1.0, step=512)
    of_run = names.Names.of_run(client, run_id)
    assert of_run.last_step(client, run_id) == 512
    runs.log_metrics(client, run_id, of_run.curves([CURVES]))
    assert of_run.last_step(client, run_id) == 1024
    assert set(client.get_run(run_id).data.metrics) == {"generator_loss", "score", "score_fast"}


def test_metrics_of_the_champion_of_an_old_workspace_are_read(old_workspace: Path) -> None:
    """Its run was logged by names without groups, and says what its evaluation says."""
    workspace = Workspace(old_workspace)
    key = Model.load(workspace.model).key.id
    logged = names.scores_of(runs.metrics_of(key, workspace))
    assert logged.items() >= Evaluation.load(workspace.evaluation).metrics.items()


def test_every_address_opens_the_view_for_training() -> None:
    run = pages.run("http://h:1/", "1", "ab", "artifacts", "report/a b.html")
    assert run == "http://h:1/#/experiments/1/runs/ab/artifacts/report/a%20b.html?workflowType=machine_learning"
    assert pages.version("", "a (b)", 3) == "#/models/a%20%28b%29/versions/3?workflowType=machine_learning"
    both = pages.comparison("http://h:1", "1", ["ab", "cd"])
    # Directly behind the question mark, where that page looks for them.
    assert both.startswith("http://h:1/#/compare-runs?runs=%5B%22ab%22%2C%20%22cd%22%5D&")
