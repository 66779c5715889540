"""`ganflow verify`, and a workspace that was moved."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from components.maintenance.verify import unchecked
from components.maintenance.verify import verify as findings
from components.provenance.ledger import Ledger
from components.workspace.data_hashes import data_content
from components.workspace.workspace import Workspace
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
    *lines, unchecked = succeeded(ganflow(workspace, "verify")).splitlines()
    assert unchecked.startswith("-        not checked: feature nets")
    assert {line.split()[0] for line in lines} == {"ok"}
    assert [line.split(maxsplit=1)[1].rpartition("/")[2] for line in lines] == [
        "data",
        "dataset",
        "model",
        "evaluation",
        "gallery",
        "registration",
        "checkpoints",
        "ledger.jsonl",
        "champions.jsonl",
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


# --- each kind of damage, in a workspace that an earlier version left ---


@pytest.fixture
def old(old_workspace: Path) -> Workspace:
    return Workspace(old_workspace)


def wrong(workspace: Workspace) -> dict[str, str]:
    return {finding.part: finding.wrong for finding in findings(workspace) if finding.wrong}


def replaced(file: Path) -> None:
    """Other bytes of equal size, at another time."""
    file.write_bytes(file.read_bytes()[::-1])


@pytest.mark.parametrize("forgotten", [False, True])
@pytest.mark.parametrize(
    "spoil", [Path.unlink, lambda file: file.write_bytes(b""), replaced, lambda file: file.rename(f"{file}.bak")]
)
def test_a_raw_file_that_is_not_what_it_was_is_found(
    old: Workspace, spoil: Callable[[Path], object], forgotten: bool
) -> None:
    """Also when a look at the data since has remembered what lies there now."""
    data_content(old.data, old.state)
    assert not wrong(old)
    spoil(old.data / "images.idx")
    if forgotten:
        data_content(old.data, old.state)
    renamed = (old.data / "images.idx.bak").exists()
    # One under another name is still all there, once it is known that the other name is gone.
    assert list(wrong(old)) == ([] if renamed and forgotten else ["data"])
    if not forgotten:
        assert "images.idx" in wrong(old)["data"]


def test_new_raw_files_are_no_damage(old: Workspace) -> None:
    data_content(old.data, old.state)
    (old.data / "more.txt").write_text("new")
    assert not wrong(old)


def test_a_database_of_hashes_forgets_what_was_deleted(old: Workspace) -> None:
    for number in range(50):
        (old.data / f"{number}.txt").write_text("text")
    data_content(old.data, old.state)
    for number in range(50):
        (old.data / f"{number}.txt").unlink()
    data_content(old.data, old.state)
    with closing(sqlite3.connect(old.state / "data-hashes.sqlite")) as database:
        names = {os.fsdecode(path) for (path,) in database.execute("SELECT path FROM files")}
    assert names == {file.name for file in old.data.iterdir()}


@pytest.mark.parametrize("name", ["dataset", "model", "evaluation", "gallery"])
def test_an_artifact_that_is_missing_is_found(old: Workspace, name: str) -> None:
    Ledger(old).append(Ledger(old).entries()[0].model_copy(update={"content": "f" * 64}))
    shutil.rmtree(old.root / "artifacts" / name)
    assert wrong(old) == {f"artifacts/{name}": "it is missing"}
    (old.root / "artifacts" / name).mkdir()
    assert wrong(old) == {f"artifacts/{name}": "it is missing"}


@pytest.mark.parametrize("name", ["mlruns/mlflow.db", ".ganflow/ledger.jsonl"])
def test_a_record_that_is_missing_is_found(old: Workspace, name: str) -> None:
    Ledger(old).append(Ledger(old).entries()[0].model_copy(update={"content": "f" * 64}))
    (old.root / name).unlink()
    assert wrong(old) == {name: "it is gone"}


def test_versions_without_a_hash_are_counted(old: Workspace) -> None:
    with closing(sqlite3.connect(old.mlruns / "mlflow.db")) as database, database:
        database.execute("DELETE FROM model_version_tags WHERE key = 'files'")
        (versions,) = database.execute("SELECT count(*) FROM model_versions").fetchone()
    (found,) = (finding for finding in findings(old) if not finding.checked)
    assert found.wrong is None and found.part.startswith("ganflow version 1")
    assert found.note == f"{versions} registered without a hash of the files"
    line = f"-        not checked: {found.part} ({found.note})"
    assert line in ganflow(old.root, "verify").stdout.splitlines()


def test_what_is_not_checked_is_said(old: Workspace) -> None:
    assert "pictures in renders/" in unchecked(old)
    assert unchecked(Workspace(old.root / "empty")) == ""
