"""MLflow's own SQLite database: read where importing MLflow would take seconds, written where nothing else can.

Three promises have no public way in MLflow: a workspace that was moved finds its files, a rebuilt registry has the
numbers and ids that it had, and `ganflow clean` removes what was deleted and nothing else (`mlflow gc` removes all
deleted experiments, and where it is given only runs all deleted models, with them). For these alone this file writes
what is MLflow's, after it has made sure that the tables are those that it was tried with.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from ...gan.errors import UnreachableError, UserError
from ...workspace.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

EXPERIMENT = "ganflow"
# How long a lock of another process is waited for.
_LOCK_SECONDS = 60.0
# Revisions of the schema, by Alembic, in which the writes below were tried: that of MLflow 3.17.
KNOWN_REVISIONS = frozenset({"dc11669786a5"})
# Where the embedded database holds absolute places.
_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def read_rows(workspace: Workspace, query: str, *values: str | int) -> list[tuple[str, ...]]:
    """Rows of the embedded database, read directly: importing MLflow would make "nothing to do" take seconds.

    Raises:
        UnreachableError: another process keeps it locked, so that nothing can be told.
    """
    database = workspace.mlruns / "mlflow.db"
    address = f"{database.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=_LOCK_SECONDS)) as connection:
            return connection.execute(query, values).fetchall()
    except sqlite3.OperationalError as error:
        # The first byte tells the kind.
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            raise UnreachableError(
                f"{database} has been locked by another process for {_LOCK_SECONDS:.0f} seconds: end that, and run the "
                "same command again"
            ) from None
        return []
    except sqlite3.Error:
        return []


def check_schema(workspace: Workspace) -> None:
    """Make sure that the tables are those that this file may write.

    Raises:
        UserError: they are of another version of MLflow.
    """
    found = {revision for (revision,) in read_rows(workspace, "SELECT version_num FROM alembic_version")}
    if not found or found - KNOWN_REVISIONS:
        schema = ", ".join(sorted(found)) or "unknown"
        raise UserError(
            f"{workspace.mlruns / 'mlflow.db'} (schema {schema}) is of an MLflow that ganflow was not tried with, and "
            "is left as it is: pip install -c constraints.txt mlflow, or name an MLflow server by MLFLOW_TRACKING_URI"
        )


@contextmanager
def _writable(workspace: Workspace) -> Iterator[sqlite3.Connection]:
    """Provide the database, for one transaction."""
    check_schema(workspace)
    with closing(sqlite3.connect(workspace.mlruns / "mlflow.db", timeout=60)) as connection, connection:
        yield connection


def relocate(workspace: Workspace) -> None:
    """Let the database find its files where the workspace lies now, after it was moved or copied.

    Raises:
        UserError: the tables are of another version of MLflow.
    """
    place = (workspace.mlruns.absolute() / "artifacts").as_uri()
    query = "SELECT artifact_location FROM experiments WHERE name = ?"
    for (before,) in read_rows(workspace, query, EXPERIMENT):
        if before == place:
            continue
        with _writable(workspace) as connection:
            for table, column in _PLACES:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                    (place, len(before) + 1, len(before), before),
                )


def rename_run(workspace: Workspace, made: str, run_id: str) -> None:
    """Give a run that MLflow has just made the id that it had once."""
    _rename_id(workspace, made, run_id, ("runs", "run_uuid"), ("runs", "artifact_uri"), ("tags", "run_uuid"))


def rename_model(workspace: Workspace, made: str, model_id: str) -> None:
    """Give a logged model that MLflow has just made the id that it had once."""
    places = [("logged_models", "model_id"), ("logged_models", "artifact_location")]
    places += [(f"logged_model_{kind}", "model_id") for kind in ("tags", "params")]
    _rename_id(workspace, made, model_id, *places)


def _rename_id(workspace: Workspace, made: str, wanted: str, *places: tuple[str, str]) -> None:
    with _writable(workspace) as connection:
        for table, column in places:
            connection.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (made, wanted))


def renumber_version(workspace: Workspace, name: str, made: int, number: int) -> None:
    """Give a version of a model that MLflow has just made the number that it had once."""
    with _writable(workspace) as connection:
        for table in ("model_versions", "model_version_tags"):
            connection.execute(f"UPDATE {table} SET version = ? WHERE name = ? AND version = ?", (number, name, made))


def remove_deleted(client: MlflowClient, workspace: Workspace, runs: Iterable[str], models: Iterable[str]) -> None:
    """Take runs and logged models that were deleted out of the database for good, by what `mlflow gc` calls itself."""
    check_schema(workspace)
    store: Any = client._tracking_client.store
    for run in runs:
        store._hard_delete_run(run)
    for model in models:
        store._hard_delete_logged_model(model)
