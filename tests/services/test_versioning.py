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
def test_data_are_pulled_and_results_recorded_from_wherever_it_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started_in: Path
) -> None:
    home = Workspace(tmp_path / "home")
    home.data.mkdir(parents=True)
    (home.data / "image").write_bytes(b"12345")
    subprocess.run(["git", "init", "-q", str(home.root)], check=True)
    # The project's own data.dvc lies where it is started.
    monkeypatch.chdir(started_in)
    versioning.add(home, 10)
    with (home.root / ".dvc" / "config").open("a") as config:
        config.write(f"[core]\n    remote = kept\n['remote \"kept\"']\n    url = {tmp_path}/remote\n")
    from dvc.repo import Repo

    with Repo(str(home.root)) as repo:
        repo.push()
    shutil.rmtree(home.data)
    shutil.rmtree(home.root / ".dvc" / "cache")
    versioning.pull(home)
    assert (home.data / "image").read_bytes() == b"12345"

    (home.root / "dvc.yaml").write_text("stages: {made: {cmd: 'true', outs: [made]}}\n")
    (home.root / "made").write_text("made")
    assert versioning.record(home, ["made"]) == "recorded in dvc.lock"
    assert "made" in (home.root / "dvc.lock").read_text()
    (home.data / "image").write_bytes(b"changed")
    assert "differs from data.dvc" in versioning.record(home, ["made"])
