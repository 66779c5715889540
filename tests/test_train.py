"""Training under Ray, in processes that are killed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pandas as pd
import psutil
import pytest

from components.workspace.artifacts import Dataset, Model
from tests.conftest import SMALL, environment, ganflow, succeeded

LONGER = SMALL.replace("images: 4096", "images: 8192")


def kill_after_a_checkpoint(root: Path) -> None:
    """Start a training and end it after its first checkpoint as a power cut does: every process at once."""
    command = [str(Path(sys.executable).parent / "ganflow"), "train"]
    process = subprocess.Popen(command, cwd=root, env=environment(), stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list((root / ".ganflow" / "training").glob("*/checkpoints/000000002048")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    command_and_ray = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for each in command_and_ray:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait()


@pytest.mark.long
@pytest.mark.parametrize("workers", ["auto", "2"])
def test_after_kill_9_the_same_command_ends_in_the_same_bytes(
    make_workspace: Callable[..., Path], workers: str
) -> None:
    models = []
    for name in ("killed", "undisturbed"):
        root = make_workspace(name)
        (root / "params.yaml").write_text(LONGER.replace("train:", f"train:\n  workers: {workers}"))
        succeeded(ganflow(root, "preprocess"))
        if name == "killed":
            kill_after_a_checkpoint(root)
        out = succeeded(ganflow(root, "train"))
        if name == "killed":
            (image,) = re.findall(r"training goes on at image ([\d,]+) of 8,192", out)
            assert 2048 <= int(image.replace(",", "")) < 8192
        models.append(Model.load(root / "artifacts" / "model").verified())
    killed, undisturbed = models
    assert killed.files == undisturbed.files
    assert killed.content == undisturbed.content
    assert killed.execution.workers == (1 if workers == "auto" else 2)

    history = pd.read_csv(undisturbed.folder / "history.csv")
    assert history["images"].tolist() == list(range(1024, 8193, 1024))
    scored = history.dropna(subset=["score"])
    assert scored["images"].tolist() == [2048, 4096, 6144, 8192]
    # What is published is the best checkpoint.
    assert undisturbed.score == scored["score"].min()
    assert undisturbed.images == scored.loc[scored["score"].idxmin(), "images"]


@pytest.mark.long
def test_a_finished_training_is_published_again_without_training(make_workspace: Callable[..., Path]) -> None:
    root = make_workspace()

    def trained() -> dict[Path, int]:
        files = (root / ".ganflow" / "training").rglob("*")
        # What a training is begun with is written down whenever it is asked for.
        return {file: file.stat().st_mtime_ns for file in files if file.is_file() and file.name != "begun.json"}

    succeeded(ganflow(root, "preprocess"))
    succeeded(ganflow(root, "train", "--set", "train.images=1024"))
    model = Model.load(root / "artifacts" / "model")
    files = {name: (model.folder / name).read_bytes() for name in model.files}
    shutil.rmtree(model.folder)
    before = trained()
    assert any(file.name == "progress.jsonl" for file in before)
    succeeded(ganflow(root, "train", "--set", "train.images=1024"))
    assert trained() == before
    assert {name: (model.folder / name).read_bytes() for name in model.files} == files


@pytest.mark.long
def test_a_training_that_waits_is_finished_by_the_next_command_but_not_by_dvc(
    make_workspace: Callable[..., Path],
) -> None:
    root = make_workspace()
    (root / "params.yaml").write_text(LONGER)
    succeeded(ganflow(root, "preprocess"))
    kill_after_a_checkpoint(root)
    begun_with = Dataset.load(root / "artifacts" / "dataset")
    (root / "params.yaml").write_text(
        LONGER.replace("resolution: 28", "resolution: 28, holdout: 0.3").replace("images: 8192", "images: 2048")
    )
    succeeded(ganflow(root, "preprocess"))

    # What DVC writes down is that the present parameters and data set were trained with.
    told = succeeded(ganflow(root, "train", DVC_STAGE="train"))
    assert "the training begun on" in told and "waits: `ganflow run` finishes it" in told
    model = Model.load(root / "artifacts" / "model")
    assert (model.training.images, model.dataset) == (2048, Dataset.load(root / "artifacts" / "dataset").content)

    told = succeeded(ganflow(root, "train"))
    assert "ganflow is finishing the training begun on" in told and "training goes on at image" in told
    model = Model.load(root / "artifacts" / "model").verified()
    assert (model.training.images, model.dataset) == (8192, begun_with.content)
    assert Dataset.load(root / "artifacts" / "dataset").verified().content == begun_with.content

    succeeded(ganflow(root, "preprocess"))
    told = succeeded(ganflow(root, "train"))
    assert "finishing" not in told
    assert Model.load(root / "artifacts" / "model").training.images == 2048
