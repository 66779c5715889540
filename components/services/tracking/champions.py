"""Who is champion: the alias, and the journal of its changes."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO

from ...gan.errors import UserError
from ...workspace.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient
from .connection import address, open_client, registry_lock, server_errors
from .registry import ModelVersion, fetched

# Every change of a champion, a line of JSON for each.
JOURNAL = "champions.jsonl"


def champion(name: str, workspace: Workspace) -> ModelVersion | None:
    """Return the champion of the registered model `name`, with its files fetched; None if there is none.

    Raises:
        UserError: the server cannot be reached, or the files are gone.
    """
    with registry_lock(workspace), server_errors():
        client = open_client(workspace)
        known = client.search_registered_models(f"name = '{name}'")
        number = current_champion(client, workspace, name) if known else None
        return None if number is None else fetched(client, name, number)


def history(name: str, workspace: Workspace) -> list[dict[str, Any]]:
    """Every change of the champion of `name` that was made, the oldest first."""
    return [entry for entry in read_journal(workspace) if entry["name"] == name and entry["state"] == "done"]


def was_rolled_back(name: str, version: int, workspace: Workspace) -> bool:
    """Whether the last that happened to `version` is that it was taken back."""
    changes = [entry for entry in history(name, workspace) if version in (entry["version"], entry["before"])]
    return bool(changes) and changes[-1].get("rollback", False) and changes[-1]["before"] == version


def rollback(name: str, workspace: Workspace) -> tuple[int, int | None]:
    """Make the one before champion again, once: the champion now, and who was it until now if anything was done.

    Raises:
        UserError: there is nobody to go back to, or the server cannot be reached.
    """
    with registry_lock(workspace), server_errors():
        client = open_client(workspace)
        now = current_champion(client, workspace, name)
        changes = history(name, workspace)
        if now is None or not changes or changes[-1]["version"] != now:
            raise UserError(f"{name} has no champion that this workspace made: there is nothing to roll back")
        if changes[-1].get("rollback"):
            return now, None
        before = changes[-1]["before"]
        if before is None:
            raise UserError(f"version {now} of {name} is its first champion: there is no one before")
        set_alias(client, workspace, name, before, now, rollback=True)
        return before, now


def set_champion(name: str, version: int, expected: int | None, workspace: Workspace) -> bool:
    """Make `version` the champion if `expected` is it until now (None: nobody); whether it was so.

    Raises:
        UserError: the server cannot be reached or refuses.
    """
    with registry_lock(workspace), server_errors():
        client = open_client(workspace)
        if current_champion(client, workspace, name) != expected:
            return False
        set_alias(client, workspace, name, version, expected)
        return True


def current_champion(client: MlflowClient, workspace: Workspace, name: str) -> int | None:
    """Return the champion's version, after what an interrupted change of it still lacks has been done."""
    alias = client.get_registered_model(name).aliases.get("champion")
    now = None if alias is None else int(alias)
    last = next((entry for entry in reversed(read_journal(workspace)) if entry["name"] == name), None)
    if last and last["state"] == "begun" and last["before"] == now:
        now = int(last["version"])
        client.set_registered_model_alias(name, "champion", str(now))
        _write_down(workspace, name, now, last["before"], "done", last.get("rollback", False))
    return now


def set_alias(
    client: MlflowClient, workspace: Workspace, name: str, version: int, before: int | None, rollback: bool = False
) -> None:
    """Write the change down, then make it: whoever comes after a crash in between finishes it."""
    _write_down(workspace, name, version, before, "begun", rollback)
    client.set_registered_model_alias(name, "champion", str(version))
    _write_down(workspace, name, version, before, "done", rollback)


def _write_down(
    workspace: Workspace, name: str, version: int, before: int | None, state: str, rollback: bool = False
) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    entry = {"time": now, "name": name, "version": version, "before": before, "state": state, "tracking": address()}
    entry |= {"rollback": True} if rollback else {}
    with (workspace.mlruns / JOURNAL).open("ab+") as journal:
        # What a crash cut off stays a line of its own, which no reader takes for an entry.
        if journal.seek(0, os.SEEK_END) and not _ends_a_line(journal):
            journal.write(b"\n")
        journal.write(json.dumps(entry).encode() + b"\n")
        journal.flush()
        os.fsync(journal.fileno())


def _ends_a_line(file: BinaryIO) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def read_journal(workspace: Workspace) -> list[dict[str, Any]]:
    """All changes of champions at the present server that were written down whole."""
    try:
        lines = (workspace.mlruns / JOURNAL).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    entries = []
    for line in lines:
        with suppress(ValueError):
            entries.append(json.loads(line))
    return [entry for entry in entries if entry["tracking"] == address()]


def written_champion(name: str, workspace: Workspace) -> int | None:
    """Return the champion by the journal of its changes, whatever became of the registry."""
    changes = history(name, workspace)
    return int(changes[-1]["version"]) if changes else None
