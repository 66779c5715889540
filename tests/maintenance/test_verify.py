"""`ganflow verify`, and a workspace that was moved."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.conftest import ganflow, succeeded


@pytest.fixture
def workspace(finished: Path, tmp_path: Path) -> Path:
    """A finished workspace in another place, and the place where it was no longer there to help."""
    between = tmp_path / "between"
    shutil.copytree(finished, between)
    succeeded(ganflow(between, "register"))
    moved = tmp_path / "moved"
    between.rename(moved)
    return moved


def test_a_moved_workspace_verifies_runs_and_loads_its_models(workspace: Path) -> None:
    out = succeeded(ganflow(workspace, "verify"))
    assert {line.split()[0] for line in out.splitlines()} == {"ok"}
    assert [line.split(maxsplit=1)[1].rpartition("/")[2] for line in out.splitlines()] == [
        "data",
        "dataset",
        "model",
        "evaluation",
        "gallery",
        "registration",
        "checkpoints",
        "ledger.jsonl",
        "ganflow version 1",
    ]
    assert "Nothing to do" in succeeded(ganflow(workspace, "run"))
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{workspace}/mlruns/mlflow.db")
    images = mlflow.pyfunc.load_model("models:/ganflow@champion").predict([], params={"n": 2})
    assert images.shape == (2, 28, 28, 1)


def test_every_kind_of_damage_is_found_with_what_mends_it(workspace: Path) -> None:
    one_byte(next((workspace / "data").iterdir()))
    one_byte(workspace / "artifacts" / "model" / "generator.safetensors")
    one_byte(next((workspace / ".ganflow" / "training").glob("*/checkpoints/*/state.safetensors")))
    one_byte(next((workspace / "mlruns" / "artifacts").rglob("generator.safetensors")))
    result = ganflow(workspace, "verify")
    assert result.returncode == 1
    assert not result.stderr
    damaged = [line.split()[1].partition("/")[0] for line in result.stdout.splitlines() if line.startswith("damaged")]
    assert damaged == ["data", "artifacts", ".ganflow", "ganflow"]
    for remedy in ("dvc checkout", "`ganflow train`", "goes on from the one before", "`ganflow register`"):
        assert remedy in result.stdout


def one_byte(file: Path) -> None:
    """Flip one bit, as a disk does: size and times stay."""
    stat, content = file.stat(), bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
