"""Who is champion: the alias, and the journal of its changes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from ...gan.errors import UserError
from ...workspace.journal import Journal, Record
from ...workspace.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient
from .connection import address, open_client, registry_lock, server_errors
from .registry import ModelVersion, fetched

JOURNAL = "champions.jsonl"


class Change(Record):
    """A change of the champion of a registered model, before it is made (`begun`) and after (`done`)."""

    time: str
    name: str
    version: int
    before: int | None
    state: Literal["begun", "done"]
    tracking: str
    rollback: bool = False


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


def history(name: str, workspace: Workspace) -> list[Change]:
    """Every change of the champion of `name` that was made, the oldest first."""
    return [change for change in read_journal(workspace) if change.name == name and change.state == "done"]


def was_rolled_back(name: str, version: int, workspace: Workspace) -> bool:
    """Whether the last that happened to `version` is that it was taken back."""
    changes = [change for change in history(name, workspace) if version in (change.version, change.before)]
    return bool(changes) and changes[-1].rollback and changes[-1].before == version


def rollback(name: str, workspace: Workspace) -> tuple[int, int | None]:
    """Make the one before champion again, once: the champion now, and who was it until now if anything was done.

    Raises:
        UserError: there is nobody to go back to, or the server cannot be reached.
    """
    with registry_lock(workspace), server_errors():
        client = open_client(workspace)
        now = current_champion(client, workspace, name)
        changes = history(name, workspace)
        if now is None or not changes or changes[-1].version != now:
            raise UserError(f"{name} has no champion that this workspace made: there is nothing to roll back")
        if changes[-1].rollback:
            return now, None
        before = changes[-1].before
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
    last = next((change for change in reversed(read_journal(workspace)) if change.name == name), None)
    if last and last.state == "begun" and last.before == now:
        now = last.version
        client.set_registered_model_alias(name, "champion", str(now))
        _write_down(workspace, name, now, last.before, "done", last.rollback)
    return now


def set_alias(
    client: MlflowClient, workspace: Workspace, name: str, version: int, before: int | None, rollback: bool = False
) -> None:
    """Write the change down, then make it: whoever comes after a crash in between finishes it."""
    _write_down(workspace, name, version, before, "begun", rollback)
    client.set_registered_model_alias(name, "champion", str(version))
    _write_down(workspace, name, version, before, "done", rollback)


def _write_down(
    workspace: Workspace,
    name: str,
    version: int,
    before: int | None,
    state: Literal["begun", "done"],
    rollback: bool = False,
) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    change = Change(
        time=now, name=name, version=version, before=before, state=state, tracking=address(), rollback=rollback
    )
    Journal(workspace.mlruns / JOURNAL).append(change.model_dump(mode="json", exclude_defaults=True))


def read_journal(workspace: Workspace) -> list[Change]:
    """All changes of champions at the present server that were written down whole."""
    changes = Journal(workspace.mlruns / JOURNAL).records(Change)
    return [change for change in changes if change.tracking == address()]


def written_champion(name: str, workspace: Workspace) -> int | None:
    """Return the champion by the journal of its changes, whatever became of the registry."""
    changes = history(name, workspace)
    return changes[-1].version if changes else None
