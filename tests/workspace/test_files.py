"""Files are whole or not there, and as open to others as the user's umask says."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.provenance.ledger import Ledger
from components.services.destination import Destination
from components.services.picture_folder import PictureFolder
from components.services.tracking import champions, registry
from components.workspace.artifacts import Evaluation, Gallery, Model
from components.workspace.data_hashes import data_content
from components.workspace.files import staging, write_whole
from components.workspace.workspace import Workspace
from tests.conftest import unpack_old_workspace
from tests.services.test_destination import BATCH, NAMES


@pytest.fixture(params=[0o077, 0o027, 0o022], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_a_staged_folder_is_as_open_as_one_that_is_made(tmp_path: Path, umask: int) -> None:
    for _ in range(2):
        with staging(tmp_path / "out") as folder:
            (folder / "below").mkdir()
            (folder / "file").write_text("")
        assert (tmp_path / "out").stat().st_mode & 0o777 == 0o777 & ~umask
    assert (tmp_path / "out" / "file").stat().st_mode & 0o777 == 0o666 & ~umask


def test_what_is_recorded_registered_and_rendered_is_as_open_as_the_user_says(tmp_path: Path, umask: int) -> None:
    workspace = Workspace(unpack_old_workspace(tmp_path))
    shutil.rmtree(workspace.state)
    for path in workspace.root.rglob("*"):
        path.chmod(path.stat().st_mode & ~umask)
    before = {path for path in tmp_path.rglob("*")}
    (workspace.mlruns / "mlflow.db").unlink()
    data_content(workspace.data, workspace.state)
    model, evaluation, gallery = (
        kind.load(folder)
        for kind, folder in (
            (Model, workspace.model),
            (Evaluation, workspace.evaluation),
            (Gallery, workspace.gallery),
        )
    )
    version = registry.register("ganflow", model, evaluation, gallery, None, workspace)
    assert champions.set_champion("ganflow", version, None, workspace)
    ledger = Ledger(workspace)
    ledger.journal.append({"entry": {}})
    ledger.named(["x"])
    with PictureFolder.open(BATCH, NAMES, Destination.of("renders/new", workspace)) as folder:
        folder.put(dict.fromkeys(NAMES, b"picture"))
    made = {path for path in tmp_path.rglob("*")} - before | {workspace.mlruns / "mlflow.db"}
    names = {path.relative_to(workspace.root).parts[0] for path in made}
    assert {"mlruns", ".ganflow", "renders"} <= names
    assert {path.name for path in made} >= {"ledger.jsonl", "ledger.sqlite", "champions.json", "mlflow.db", "a-0.png"}
    for path in made:
        assert not path.stat().st_mode & 0o777 & umask, path


def test_a_small_file_is_written_whole_through_no_link(tmp_path: Path) -> None:
    elsewhere, file = tmp_path / "elsewhere", tmp_path / "new" / "record.json"
    elsewhere.write_text("as it was")
    write_whole(file, "first")
    file.unlink()
    file.symlink_to(elsewhere)
    before = os.umask(0o027)
    try:
        write_whole(file, b"second")
    finally:
        os.umask(before)
    assert file.read_text() == "second" and not file.is_symlink() and elsewhere.read_text() == "as it was"
    assert file.stat().st_mode & 0o777 == 0o640 and [found.name for found in file.parent.iterdir()] == ["record.json"]
    write_whole(file, "third", mode=0o600)
    assert file.stat().st_mode & 0o777 == 0o600
    file.unlink()
    file.mkdir()
    with pytest.raises(OSError):
        write_whole(file, "a folder is in its place")
    assert [found.name for found in file.parent.iterdir()] == ["record.json"]
