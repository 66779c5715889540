"""Faults strike real trainings, which takes minutes: `pytest -m long`, or `python -m benchmarks.faults`."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import SMALL, ganflow, succeeded
from tests.harness.crash_points import loaded
from tests.harness.faults import FAULTS, workers_of
from tests.harness.trainings import undisturbed


@pytest.fixture(scope="session")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    known: dict[str, str] = {}

    def model(workers: str) -> str:
        if workers not in known:
            known[workers] = undisturbed(tmp_path_factory.mktemp("undisturbed"), workers)
        return known[workers]

    return model


@pytest.mark.long
@pytest.mark.parametrize("fault", FAULTS)
def test_a_training_survives(fault: str, tmp_path: Path, expected: Callable[[str], str]) -> None:
    if fault == "disk full" and os.geteuid() != 0:
        pytest.skip("a small disk can only be mounted by root")
    found = FAULTS[fault](tmp_path)
    assert found["images_again"] <= 4096 + 1024
    if "model" in found:
        assert found["model"] == expected(workers_of(fault))


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_a_diverging_training_is_given_up_after_four_attempts(
    make_workspace: Callable[..., Path], workers: int
) -> None:
    root = make_workspace()
    settings = f"train:\n  workers: {workers}\n  learning_rate_discriminator: 1.e+30"
    (root / "params.yaml").write_text(SMALL.replace("train:", settings).replace("log_every: 1024", "log_every: 512"))
    succeeded(ganflow(root, "preprocess"))
    result = ganflow(root, "train")
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert re.search(
        r"ganflow: training diverged before image .* for the last of 4 times, each with other noise: raise",
        result.stderr,
    )
    assert (result.stdout + result.stderr).count("not finite); going back to image 0, with other noise (") == 3
    # Nothing of it is kept.
    assert not list((root / ".ganflow" / "training").glob("*/checkpoints/*"))
    assert not (root / "artifacts" / "model").exists()


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.long
def test_no_crash_point_leaves_half_of_anything(finished: Path, tmp_path: Path) -> None:
    """Some of the points; all of them by `python -m benchmarks.crash_points`."""
    results = tmp_path / "results"
    arguments = ["--template", str(finished), "--every", "37"]
    with results.open("w") as out:
        code = loaded(arguments, tmp_path / "crash_points.so", out)
    found = [json.loads(line) for line in results.read_text().splitlines()]
    assert code == 0, found
    assert [row["step"] for row in found] == [
        "dataset",
        "dataset in place of another",
        "checkpoint",
        "model",
        "gallery",
        "registration",
    ]
    assert all(row["points"] > 10 and row["tried"] and not row["failed"] for row in found)
