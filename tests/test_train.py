"""Training under Ray, in processes that are killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from components.artifacts import Model
from tests.conftest import SMALL, environment, ganflow, succeeded

LONGER = SMALL.replace("images: 4096", "images: 16384")


def kill_after_a_checkpoint(root: Path) -> None:
    """Start a training and kill -9 the command while it goes on after its second checkpoint."""
    command = [str(Path(sys.executable).parent / "ganflow"), "train"]
    process = subprocess.Popen(command, cwd=root, env=environment(), stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list((root / ".ganflow" / "training").glob("*/checkpoints/000000004*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("workers", ["auto", "2"])
def test_after_kill_9_the_same_command_goes_on_and_ends_in_the_same_bytes(
    make_workspace: Callable[..., Path], workers: str
) -> None:
    models = []
    for name in ("killed", "undisturbed"):
        root = make_workspace(name)
        (root / "params.yaml").write_text(LONGER.replace("train:", f"train:\n  workers: {workers}"))
        succeeded(ganflow(root, "preprocess"))
        if name == "killed":
            kill_after_a_checkpoint(root)
            time.sleep(5)
        out = succeeded(ganflow(root, "train"))
        if name == "killed":
            (image,) = re.findall(r"training goes on at image ([\d,]+) of 16,384", out)
            assert 4096 <= int(image.replace(",", "")) < 16384
        models.append(Model.load(root / "artifacts" / "model").verified())
    killed, undisturbed = models
    assert killed.files == undisturbed.files
    assert killed.content == undisturbed.content
    assert killed.execution.workers == (1 if workers == "auto" else 2)


def test_the_model_is_the_best_checkpoint_and_a_finished_training_is_published_again(
    make_workspace: Callable[..., Path],
) -> None:
    root = make_workspace()
    succeeded(ganflow(root, "preprocess"))
    succeeded(ganflow(root, "train"))
    model = Model.load(root / "artifacts" / "model")
    history = pd.read_csv(model.folder / "history.csv")
    assert history["images"].tolist() == [1024, 2048, 3072, 4096]
    scored = history.dropna(subset=["score"])
    assert scored["images"].tolist() == [2048, 4096]
    assert model.score == scored["score"].min()
    assert model.images == scored.loc[scored["score"].idxmin(), "images"]
    assert set(history) == {
        "images", "discriminator_accuracy", "discriminator_loss", "generator_loss", "r1", "score"
    }  # fmt: skip
    # Other parameters and back: the finished training is still there, so Ray is not even started.
    files = {name: (model.folder / name).read_bytes() for name in model.files}
    succeeded(ganflow(root, "train", "--set", "train.images=1024"))
    began = time.monotonic()
    succeeded(ganflow(root, "train"))
    assert time.monotonic() - began < 15
    assert {name: (model.folder / name).read_bytes() for name in model.files} == files
    assert json.loads((model.folder / "model.json").read_text())["execution"]["device"] in ("cpu", "cuda")
