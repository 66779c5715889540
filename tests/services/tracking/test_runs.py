"""Which of MLflow's runs are marked killed where nothing works on them any more."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from components.services.tracking import runs
from components.services.tracking.connection import open_client
from components.workspace.workspace import Workspace


def made(folder: Path) -> Workspace:
    (folder / "mlruns").mkdir(parents=True)
    return Workspace(folder)


def test_on_a_shared_server_a_workspace_closes_what_it_was_the_last_to_work_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two machines train the same model, and so write to the same run; one of them is killed before."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/shared.db")
    killed, living = made(tmp_path / "killed"), made(tmp_path / "living")
    client = open_client(killed)
    run = runs.ensure_run(client, killed, "key", "dcgan")
    runs.claim(client, killed, run)
    assert runs.any_running(killed) and not runs.any_running(living)
    runs.claim(client, living, run)
    shutil.copytree(living.root, tmp_path / "copy")
    for other in (killed, Workspace(tmp_path / "copy")):
        assert not runs.any_running(other)
        assert not list(runs.end_dead_runs(other))
        assert client.get_run(run).info.status == "RUNNING"
    # A run of somebody who does not use ganflow.
    stranger = client.create_run(client.get_run(run).info.experiment_id).info.run_id
    # Its process ends too; the folder got another name meanwhile.
    living.root.rename(tmp_path / "moved")
    (said,) = runs.end_dead_runs(Workspace(tmp_path / "moved"))
    assert "dcgan is marked killed" in said
    assert client.get_run(run).info.status == "KILLED"
    assert client.get_run(stranger).info.status == "RUNNING"
    runs.claim(client, killed, run)
    runs.finish(client, killed, run)
    assert client.get_run(run).info.status == "FINISHED" and not any((killed.state / "claims").iterdir())
