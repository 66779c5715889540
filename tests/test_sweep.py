"""A search over parameters: which trials, real ones under Ray, what is kept and logged, and the best in params.yaml."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from components.gan.errors import UserError
from components.gan.options import Ramp
from components.sweep import around, combinations, parse, scaled, words
from components.workspace.params import Train
from tests.conftest import SMALL, environment, ganflow, refused, succeeded

COMMENTED = SMALL.replace("images: 4096", "images: 2048  # short").replace(
    "checkpoint_every: 2048", "checkpoint_every: 1024"
)


def test_the_default_is_a_grid_around_the_present_values(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("train: {r2_gamma: 4, learning_rate_generator: 0.004}")
    trials = combinations(tmp_path / "params.yaml", ["train.images=640"], [], 320, None)
    assert len(trials) == 9
    assert trials[0].values == {
        "train.r1_gamma": 1.0,
        "train.r2_gamma": 4.0,
        "train.learning_rate_generator": 0.004,
        "train.learning_rate_discriminator": 0.002,
    }
    assert {(t.options.r1_gamma, t.options.r2_gamma) for t in trials} == {(1, 4), (0.5, 2), (2, 8)}
    assert {t.options.learning_rate_discriminator for t in trials} == {0.002, 0.001, 0.004}
    assert all(t.options.images == 320 for t in trials)
    some = combinations(tmp_path / "params.yaml", [], [], None, 4)
    assert len(some) == 4
    assert some[0].values == trials[0].values
    assert [t.values for t in some] == [t.values for t in combinations(tmp_path / "params.yaml", [], [], None, 4)]


def test_a_penalty_that_is_off_is_not_searched_over() -> None:
    (rates,) = around(Train(r1_gamma=0.0))
    assert [list(choice) for choice in rates] == [
        ["train.learning_rate_generator", "train.learning_rate_discriminator"]
    ] * 3


def test_both_ends_of_a_ramp_are_scaled() -> None:
    assert scaled(Ramp(start=2, end=0.2, shape="linear"), 0.5) == {"start": 1.0, "end": 0.1, "shape": "linear"}
    assert words({"train.r1_gamma": {"start": 1.0, "end": 0.1}}) == ["train.r1_gamma={start: 1.0, end: 0.1}"]


def test_equal_combinations_are_tried_once(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("")
    assert len(combinations(tmp_path / "params.yaml", [], ["train.r1_gamma=1,1.0,2"], None, None)) == 2
    assert parse("train.adam_betas=[0, 0.9],[0.5, 0.99]")[1] == {"train.adam_betas": [0.5, 0.99]}


@pytest.mark.parametrize(
    ("over", "message"),
    [
        (["train.r1_gama=1,2"], "did you mean r1_gamma"),
        (["train.r1_gamma=1,-2"], "train.r1_gamma.* = -2 is not allowed"),
        (["train.r1_gamma"], "--over train.r1_gamma: write it as"),
        (["train.r1_gamma=[1"], "write it as"),
        (["preprocess.resolution=28,32"], "only parameters of train"),
        (["train.storage=a,b"], "only parameters of train"),
        (["train.batch=32", "train.batch=64"], "--over train.batch is given twice"),
    ],
)
def test_what_cannot_be_searched_over_is_named(tmp_path: Path, over: list[str], message: str) -> None:
    (tmp_path / "params.yaml").write_text("")
    with pytest.raises(UserError, match=message):
        combinations(tmp_path / "params.yaml", [], over, None, None)


def test_bad_over_is_one_sentence(make_workspace: Callable[..., Path]) -> None:
    assert "did you mean r1_gamma" in refused(make_workspace(), "sweep", "--over", "train.r1_gama=1,2")


def test_the_best_trial_is_found_written_logged_and_not_run_again(make_workspace: Callable[..., Path]) -> None:
    root = make_workspace()
    (root / "params.yaml").write_text(COMMENTED)
    # At the first of these rates nothing is learnt.
    command = ["sweep", "--over", "train.learning_rate_generator=0.9,2e-3", "--over", "train.r1_gamma=1,0.5"]
    out = succeeded(ganflow(root, *command, "--trials", "3"))
    assert out.count("\ntrial ") == 3
    assert "Ray" not in out
    (said,) = [line for line in out.splitlines() if line.startswith("  ganflow run --set")]
    assert "--set train.learning_rate_generator=2e-3" in said

    results = [json.loads(file.read_text()) for file in (root / ".ganflow" / "sweeps").glob("*/result.json")]
    assert {result["state"] for result in results} <= {"finished", "stopped", "diverged"}
    assert len(results) == 3
    assert (root / "params.yaml").read_text() == COMMENTED
    assert not (root / "artifacts" / "model").exists()

    again = succeeded(ganflow(root, *command, "--trials", "3", "--write"))
    assert "\ntrial " not in again and "at once" not in again
    written = (root / "params.yaml").read_text()
    assert "  images: 2048  # short\n" in written
    assert written.splitlines()[-1] == COMMENTED.splitlines()[-1]
    assert float(yaml.safe_load(written)["train"]["learning_rate_generator"]) == 2e-3

    client = MlflowClient(f"sqlite:///{root}/mlruns/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "ganflow"]
    (parent,) = client.search_runs([experiment.experiment_id], "tags.kind = 'sweep'")
    assert parent.info.run_name == "sweep"
    assert [file.path for file in client.list_artifacts(parent.info.run_id, "report")] == ["report/results.csv"]
    assert "the best first" in parent.data.tags["mlflow.note.content"]
    children = client.search_runs([experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert len(children) == 3
    assert {child.data.params["train.r1_gamma"] for child in children} == {"1.0", "0.5"}
    learnt = [child for child in children if child.data.params["train.learning_rate_generator"] == "0.002"]
    assert all(client.get_metric_history(child.info.run_id, "score/score") for child in learnt)
    assert all(len(client.get_metric_history(child.info.run_id, "training/generator_loss")) <= 2 for child in children)
    assert len(client.search_runs([experiment.experiment_id])) == 4


@pytest.mark.long
def test_after_ctrl_c_the_same_command_runs_what_is_left(make_workspace: Callable[..., Path]) -> None:
    root = make_workspace()
    (root / "params.yaml").write_text(COMMENTED)
    command = ["sweep", "--over", "train.seed=1,2,3,4", "--images", "4096"]
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "ganflow"), *command],
        cwd=root,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where tests run in the background, Ctrl-C is ignored by all that they start.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while not list((root / ".ganflow" / "sweeps").glob("*/result.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert error.strip().splitlines()[-1] == "ganflow: stopped; the same command goes on with the trials that are left"
    assert "Traceback" not in error
    done = list((root / ".ganflow" / "sweeps").glob("*/result.json"))
    assert 1 <= len(done) < 4
    out = succeeded(ganflow(root, *command))
    assert out.count("\ntrial ") == 4 - len(done)
    assert not list((root / ".ganflow").glob("sweep-*"))
