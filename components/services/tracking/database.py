"""MLflow's own SQLite database, where reading by MLflow is too slow or no public way exists."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from ...workspace.workspace import Workspace

EXPERIMENT = "ganflow"
# Where the embedded database holds absolute places.
_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def relocate(workspace: Workspace) -> None:
    """Let the embedded database find its files where the workspace lies now, after it was moved or copied."""
    database, place = workspace.mlruns / "mlflow.db", (workspace.mlruns.absolute() / "artifacts").as_uri()
    if not database.exists():
        return
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        query = "SELECT artifact_location FROM experiments WHERE name = ?"
        try:
            found = connection.execute(query, (EXPERIMENT,)).fetchone()
        except sqlite3.Error:
            return
        if found is None or found[0] == place:
            return
        for table, column in _PLACES:
            connection.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {column} LIKE ? || '%'",
                (place, len(found[0]) + 1, found[0]),
            )


def read_rows(workspace: Workspace, query: str, *values: str | int) -> list[tuple[str, ...]]:
    """Rows of the embedded database, read directly: importing MLflow would make "nothing to do" take seconds."""
    database = workspace.mlruns / "mlflow.db"
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute(query, values).fetchall()
    except sqlite3.Error:
        return []


def rename_ids(workspace: Workspace, old: str, new: str, *places: tuple[str, str]) -> None:
    """Give what MLflow has just made under an id of its own the id that it had once."""
    with closing(sqlite3.connect(workspace.mlruns / "mlflow.db", timeout=60)) as database, database:
        for table, column in places:
            database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (old, new))
