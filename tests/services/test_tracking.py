"""What MLflow answers: not there, refused, or nothing at all, which is not taken for "there is none"."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from components.gan.errors import NotThereError, RefusedError, UnreachableError
from components.provenance.ledger import record
from components.services.tracking import champions, connection, registry, runs
from components.workspace.workspace import Workspace

AWAY = "http://127.0.0.1:9"


@pytest.fixture
def workspace(finished: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(finished, tmp_path / "workspace")
    return Workspace(tmp_path / "workspace")


def test_a_server_that_is_away_is_not_no_champion(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UnreachableError, match=AWAY):
        champions.champion("ganflow", workspace)
    with pytest.raises(UnreachableError, match=AWAY):
        registry.recorded_version("ganflow", 1, workspace)
    # A run's id is asked for by what goes on without it.
    assert runs.run_of("key", workspace) is None


def test_the_ledger_keeps_what_it_knows_while_the_server_is_away(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = workspace.ledger.read_bytes()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    record(workspace)
    assert workspace.ledger.read_bytes() == before


def test_what_a_server_answers_tells_which_error_it_is(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    # The same database, as a server's.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workspace.mlruns}/mlflow.db")
    assert champions.champion("another", workspace) is None
    assert registry.recorded_version("ganflow", 7, workspace) is None
    with pytest.raises(NotThereError, match="another"):
        registry.aliases("another", 1, workspace)
    client = connection.open_client(workspace)
    with pytest.raises(RefusedError, match="ganflow"), connection.server_errors():
        client.create_registered_model("ganflow")
