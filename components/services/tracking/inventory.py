"""All that the embedded database knows, for `ganflow clean`."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import NamedTuple

from ...gan.errors import UserError
from ...workspace.workspace import Workspace
from .champions import JOURNAL, Change, read_journal
from .connection import address, open_client, registry_lock, server_errors
from .database import EXPERIMENT, check_schema, remove_deleted


class KnownVersion(NamedTuple):
    """A model version of the embedded registry; `ids`: of its run and logged model, `key` and `data`: its tags."""

    name: str
    number: int
    ids: frozenset[str]
    key: str
    data: str
    aliases: frozenset[str]


class Inventory(NamedTuple):
    """All that the embedded database knows; of runs and logged models by id when they were deleted, None if not."""

    versions: Sequence[KnownVersion]
    runs: Mapping[str, float | None]
    models: Mapping[str, float | None]


def take_inventory(workspace: Workspace) -> Inventory:
    """Return what MLflow's database in the workspace holds, read without MLflow.

    An alias whose change a crash cut off counts as given already. What is deleted and has its files elsewhere counts
    as not deleted.

    Raises:
        UserError: a server is named, or the database is gone, cannot be read or is of another version of MLflow.
    """
    if address() != "embedded":
        raise UserError(f"what is registered at {address()} may need them, which is not asked")
    database = workspace.mlruns / "mlflow.db"
    if not database.exists():
        if (workspace.mlruns / "artifacts").exists() or (workspace.mlruns / JOURNAL).exists():
            raise UserError("MLflow's database may need them, and is gone: `ganflow rebuild-registry` restores it")
        return Inventory([], {}, {})
    ours = f"e.name = '{EXPERIMENT}' AND {{0}}.{{1}} LIKE e.artifact_location || '/%'"
    deleted = f"CASE WHEN {{0}}.lifecycle_stage = 'deleted' AND {ours} THEN {{2}} END"
    queries = (
        "SELECT name, version, run_id, source, storage_location FROM model_versions",
        "SELECT name, version, key, value FROM model_version_tags",
        "SELECT name, version, alias FROM registered_model_aliases",
        f"SELECT run_uuid, {deleted.format('runs', 'artifact_uri', 'coalesce(deleted_time, 0)')} "
        "FROM runs JOIN experiments e USING (experiment_id)",
        f"SELECT model_id, {deleted.format('logged_models', 'artifact_location', 'last_updated_timestamp_ms')} "
        "FROM logged_models JOIN experiments e USING (experiment_id)",
    )
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            # One moment of all tables.
            connection.execute("BEGIN")
            versions, tagged, aliased, runs, models = (connection.execute(query).fetchall() for query in queries)
    except sqlite3.Error as error:
        raise UserError(f"MLflow's database may need them, and cannot be read ({error}): {database}") from None
    # What is read would lead to removals.
    check_schema(workspace)
    tags = {(name, version, key): value for name, version, key, value in tagged}
    last: dict[str, Change] = {}
    lacking = {name for name, *_ in versions}
    for change in read_journal(workspace):
        last.setdefault(change.name, change)
        lacking.discard(change.name)
        # Of thousands of changes the last of each model is enough; a model without versions has nothing to keep.
        if not lacking:
            break
    aliased += [(change.name, change.version, "champion") for change in last.values()]
    given: dict[tuple[str, int], set[str]] = {}
    for name, version, alias in aliased:
        given.setdefault((name, version), set()).add(alias)
    return Inventory(
        [
            KnownVersion(
                name,
                number,
                frozenset(re.findall(r"(?:\bm-)?\b[0-9a-f]{32}\b", " ".join(filter(None, places)))),
                tags.get((name, number, "key"), ""),
                tags.get((name, number, "data"), ""),
                frozenset(given.get((name, number), ())),
            )
            for name, number, *places in versions
        ],
        *({name: None if time is None else time / 1000 for name, time in rows} for rows in (runs, models)),
    )


def forget(runs: Sequence[str], models: Sequence[str], workspace: Workspace) -> None:
    """Take what was deleted of these runs and logged models out of the embedded database for good.

    Raises:
        UserError: MLflow refuses, or its tables are of another version of it.
    """
    if not runs and not models:
        return
    known = take_inventory(workspace)
    runs, models = (
        [name for name in names if there.get(name) is not None]
        for names, there in ((runs, known.runs), (models, known.models))
    )
    if not runs and not models:
        return
    with registry_lock(workspace), server_errors():
        remove_deleted(open_client(workspace), workspace, runs, models)
