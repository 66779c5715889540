"""MLflow at odd places: one sentence where its database does not do what was asked."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy

from components.gan.errors import RefusedError, UnreachableError
from components.gan.options import GENERATE
from components.services.tracking import database, packing
from components.services.tracking.connection import ensure_experiment, open_client, server_errors
from components.workspace.workspace import Workspace


def test_a_driver_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "mysql+oursql://me:hush@127.0.0.1/mlflow")
    with pytest.raises((RefusedError, UnreachableError)) as told:
        open_client(Workspace(tmp_path))
    assert "hush" not in str(told.value) and "MLflow" in str(told.value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql+psycopg2://me:hush@127.0.0.1/mlflow")
    with pytest.raises(RefusedError, match="psycopg2, which is not installed"):
        open_client(Workspace(tmp_path))


def test_a_database_that_is_locked(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "d.db")) as holder:
        holder.execute("CREATE TABLE t (a)")
        holder.execute("BEGIN EXCLUSIVE")
        engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/d.db", connect_args={"timeout": 0})
        with pytest.raises(UnreachableError, match=r"database is locked.*end what holds it") as told, server_errors():
            engine.connect().execute(sqlalchemy.text("INSERT INTO t VALUES ('a secret value')"))
        assert "secret" not in str(told.value)


def test_a_locked_database_is_not_taken_for_an_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(tmp_path)
    workspace.mlruns.mkdir()
    monkeypatch.setattr(database, "_LOCK_SECONDS", 0.1)
    with closing(sqlite3.connect(workspace.mlruns / "mlflow.db", isolation_level=None)) as holder:
        holder.execute("CREATE TABLE t (a)")
        holder.execute("INSERT INTO t VALUES ('x')")
        assert database.read_rows(workspace, "SELECT a FROM t") == [("x",)]
        assert database.read_rows(workspace, "SELECT a FROM no_such_table") == []
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UnreachableError, match=r"mlflow\.db has been locked by another process"):
            database.read_rows(workspace, "SELECT a FROM t")


def test_signs_in_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the command is given in such a folder: MLflow's own default lies in the current one."""
    workspace = Workspace(tmp_path / "a'b\"c;d=e%20f#g é")
    workspace.root.mkdir()
    monkeypatch.chdir(workspace.root)
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", "")
    client = open_client(workspace)
    run = client.create_run(ensure_experiment(client, workspace)).info.run_id
    client.log_text(run, "kept", "a.txt")
    assert [file.read_text() for file in workspace.mlruns.rglob("a.txt")] == ["kept"]
    assert [path.name for path in tmp_path.iterdir()] == [workspace.root.name]
    assert [path.name for path in workspace.root.iterdir()] == ["mlruns"]


def test_a_registered_model_needs_versions_that_everybody_can_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda package: "2.13.0+cpu")
    assert "torch==2.13.0" in packing.requirements(GENERATE)
    assert not [line for line in packing.requirements(GENERATE) if "+" in line]
