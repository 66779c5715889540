"""`ganflow train --profile`: what a training spends its time on, with the same bits."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest

from components.gan.errors import UserError
from components.gan.network_options import DCGAN
from components.gan.options import TrainingOptions
from components.services.tracking import runs
from components.training.profiling import Steps, read
from components.workspace.artifacts import Model
from components.workspace.workspace import Workspace
from tests.conftest import ganflow, refused, succeeded

PARTS = ("discriminator", "generator", "feeding", "EMA", "scores", "checkpoints")


@pytest.mark.long
def test_a_profiled_training_has_the_same_bits_and_tells_where_its_time_went(finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "workspace"
    root.mkdir()
    for name in ("params.yaml", "data", "artifacts/dataset"):
        whole = finished / name
        (root / name).parent.mkdir(exist_ok=True)
        (shutil.copytree if whole.is_dir() else shutil.copy)(whole, root / name)
    out = succeeded(ganflow(root, "train", "--profile", "3..5"))
    model = finished / "artifacts" / "model"
    for file in model.iterdir():
        # Its key stands in it, too.
        assert (root / "artifacts" / "model" / file.name).read_bytes() == file.read_bytes(), file
    key = Model.load(Workspace(root).model).key.id
    folder = root / ".ganflow" / "profiles" / f"{key}-3-5"
    found = read(folder)
    assert found.step_seconds > 0
    assert {*PARTS} <= found.parts.keys()
    assert all(seconds > 0 for seconds in found.parts.values())
    for name in PARTS:
        assert name in out
    # A trace of three steps and no more, with the parts by name.
    events = json.loads(gzip.decompress((folder / "trace.json.gz").read_bytes()))["traceEvents"]
    for name in ("discriminator", "generator"):
        assert len([event for event in events if event.get("name") == name and event.get("ph") == "X"]) == 3
    table = (folder / "operators.txt").read_text()
    assert "convolution" in table
    assert "CPU Mem" in table
    run = runs.run_of(key, Workspace(root))
    assert sorted(file.name for file in (root / "mlruns" / "artifacts").glob(f"{run}/artifacts/profiles/3-5/*")) == [
        "operators.txt",
        "profile.json",
        "trace.json.gz",
    ]
    assert "nothing is left to train" in refused(root, "train", "--profile", "3..5")
    assert "steps are left to train" in refused(root, "train", "--profile", "3..90", "--set", "train.seed=3")


@pytest.mark.parametrize("wrong", ["", "20", "30..20", "0..5", "20-30", "1..101", "a..b"])
def test_other_ranges_are_refused(wrong: str) -> None:
    with pytest.raises(UserError):
        Steps.read(wrong)


def test_the_last_steps_can_be_profiled_and_none_beyond_them() -> None:
    options = TrainingOptions(network=DCGAN(), images=1000, batch=64)
    # The last batch reaches beyond the 1,000 images.
    Steps(15, 16).check(options, 0)
    with pytest.raises(UserError, match="only 16 steps"):
        Steps(15, 17).check(options, 0)
    with pytest.raises(UserError, match="only 8 steps"):
        Steps(1, 9).check(options, 512)
    with pytest.raises(UserError, match="nothing is left"):
        Steps(1, 1).check(options, 1024)
