"""DVC in a workspace that is not the folder where the command was started."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from components.services import versioning
from components.workspace.workspace import Workspace
from tests.conftest import PROJECT


@pytest.mark.parametrize("started_in", [PROJECT, Path("/")])
def test_data_are_pulled_and_results_recorded_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started_in: Path
) -> None:
    workspace = Workspace(tmp_path / "home")
    workspace.data.mkdir(parents=True)
    (workspace.data / "image").write_bytes(b"12345")
    subprocess.run(["git", "init", "-q", str(workspace.root)], check=True)
    # The project's own data.dvc lies where it is started.
    monkeypatch.chdir(started_in)
    versioning.add(workspace, 10)
    with (workspace.root / ".dvc" / "config").open("a") as config:
        config.write(f"[core]\n    remote = kept\n['remote \"kept\"']\n    url = {tmp_path}/remote\n")
    from dvc.repo import Repo

    with Repo(str(workspace.root)) as repo:
        repo.push()
    shutil.rmtree(workspace.data)
    shutil.rmtree(workspace.root / ".dvc" / "cache")
    versioning.pull(workspace)
    assert (workspace.data / "image").read_bytes() == b"12345"

    (workspace.root / "dvc.yaml").write_text("stages: {made: {cmd: 'true', outs: [made]}}\n")
    (workspace.root / "made").write_text("made")
    assert versioning.record(workspace, ["made"]) == "recorded in dvc.lock"
    assert "made" in (workspace.root / "dvc.lock").read_text()
    (workspace.data / "image").write_bytes(b"changed")
    assert "differs from data.dvc" in versioning.record(workspace, ["made"])
