"""MLflow's own tables are written in the schema that was tried, and in no other."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from components.gan.errors import UserError
from components.services.tracking import database, rebuild
from components.services.tracking.connection import ensure_experiment, open_client
from components.workspace.workspace import Workspace


@pytest.fixture
def client(workspace: Workspace) -> MlflowClient:
    client = open_client(workspace)
    client.create_run(ensure_experiment(client, workspace), tags={"key": "first"})
    return client


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace_1%")


def places(workspace: Workspace) -> set[str]:
    with closing(sqlite3.connect(workspace.mlruns / "mlflow.db")) as connection:
        return {
            place
            for query in ("SELECT artifact_location FROM experiments", "SELECT artifact_uri FROM runs")
            for (place,) in connection.execute(query)
        }


def revised(workspace: Workspace, query: str) -> bytes:
    """The database's bytes after its revision was changed."""
    with closing(sqlite3.connect(workspace.mlruns / "mlflow.db")) as connection, connection:
        connection.execute(query)
    return (workspace.mlruns / "mlflow.db").read_bytes()


ANOTHER = "UPDATE alembic_version SET version_num = '0123456789ab'"
NONE = "DELETE FROM alembic_version"


def test_a_workspace_that_moved_finds_its_files_and_leaves_those_of_others(
    workspace: Workspace, client: MlflowClient, tmp_path: Path
) -> None:
    # The characters that SQL's LIKE takes for any other.
    other = (tmp_path / "workspaceX1%" / "mlruns" / "artifacts").as_uri()
    client.create_experiment("the user's own", artifact_location=other)
    moved = Workspace(tmp_path / "elsewhere")
    workspace.root.rename(moved.root)
    database.relocate(moved)
    found = {place for place in places(moved) if "mlflow-artifacts" not in place}
    here = (moved.mlruns / "artifacts").as_uri()
    assert other in found
    assert {place.startswith(here) for place in found if "elsewhere" in place} == {True}
    assert not [place for place in found if workspace.root.as_uri() in place]
    before = (moved.mlruns / "mlflow.db").read_bytes()
    database.relocate(moved)
    assert (moved.mlruns / "mlflow.db").read_bytes() == before


@pytest.mark.parametrize("revision", [ANOTHER, NONE])
def test_in_another_schema_nothing_is_written(
    workspace: Workspace, client: MlflowClient, tmp_path: Path, revision: str
) -> None:
    experiment = ensure_experiment(client, workspace)
    run = client.search_runs([experiment])[0].info.run_id
    client.delete_run(run)
    before = revised(workspace, revision)
    writes: tuple[Callable[[], object], ...] = (
        lambda: database.rename_run(workspace, run, "0" * 32),
        lambda: database.rename_model(workspace, "m-1", "m-2"),
        lambda: database.renumber_version(workspace, "ganflow", 1, 2),
        lambda: database.remove_deleted(client, workspace, [run], []),
        lambda: list(rebuild.restore(workspace, [], {})),
    )
    for write in writes:
        with pytest.raises(UserError, match=r"not tried with.* left as it is: pip install -c constraints\.txt mlflow"):
            write()
    moved = Workspace(tmp_path / "elsewhere")
    shutil.copytree(workspace.root, moved.root)
    with pytest.raises(UserError, match="not tried with"):
        open_client(moved)
    for place in (workspace, moved):
        assert (place.mlruns / "mlflow.db").read_bytes() == before


def test_a_registry_is_not_rebuilt_by_another_mlflow(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "KNOWN_REVISIONS", frozenset({"0123456789ab"}))
    with pytest.raises(UserError, match="not tried with"):
        list(rebuild.restore(workspace, [], {}))
    assert not (workspace.mlruns / "mlflow.db").exists()
