"""Who is champion: the alias, and the journal of its changes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from ...gan.errors import DamagedError, NotThereError, UserError
from ...workspace.journal import ChainedJournal, Record
from ...workspace.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient
from .connection import address, open_client, registry_lock, server_errors
from .registry import ModelVersion, fetched, is_version, version_of

# The journal in `mlruns/`, and in `.ganflow/` what tells how far it was written.
JOURNAL, WITNESS = "champions.jsonl", "champions.json"


class Change(Record):
    """A change of the champion of a registered model, before it is made (`begun`) and after (`done`).

    One that cannot be finished any more, because its version was deleted, is `abandoned`.
    """

    time: str
    name: str
    version: int
    before: int | None
    state: Literal["begun", "done", "abandoned"]
    tracking: str
    rollback: bool = False

    @property
    def seconds(self) -> float:
        """When it was written down, in seconds since 1970; 0 where the line does not say."""
        try:
            # Some that can be read lie before the first year, or behind the last, in other zones.
            return datetime.fromisoformat(self.time).astimezone(UTC).timestamp()
        except (ValueError, OverflowError, OSError):
            return 0.0


def champion(name: str, workspace: Workspace) -> ModelVersion | None:
    """Return the champion of the registered model `name`, with its files fetched; None if there is none.

    Raises:
        UserError: the server cannot be reached, or the files are gone.
    """
    with registry_lock(workspace), server_errors():
        client = open_client(workspace)
        number = current_champion(client, workspace, name)
        return None if number is None else fetched(client, name, number, workspace)


def history(name: str, workspace: Workspace) -> list[Change]:
    """Every change of the champion of `name` that was made, the oldest first."""
    return [*newest_changes(name, workspace)][::-1]


def newest_changes(name: str, workspace: Workspace) -> Iterator[Change]:
    """Read every change of the champion of `name` that was made, the newest first."""
    return (change for change in read_journal(workspace) if change.name == name and change.state == "done")


def was_rolled_back(name: str, version: int, workspace: Workspace) -> bool:
    """Whether the last that happened to `version` is that it was taken back."""
    changes = (c for c in newest_changes(name, workspace) if version in (c.version, c.before))
    last = next(changes, None)
    return last is not None and last.rollback and last.before == version


def rollback(name: str, workspace: Workspace) -> tuple[int, int | None]:
    """Make the one before champion again, once: the champion now, and who was it until now if anything was done.

    Raises:
        UserError: there is nobody to go back to, the journal of changes is not what was written, or the server cannot
            be reached.
    """
    with registry_lock(workspace), server_errors():
        client = open_client(workspace)
        now = current_champion(client, workspace, name)
        if wrong := next(damage(workspace), None):
            raise DamagedError(
                f"{workspace.mlruns / JOURNAL} is not what was written ({wrong}), so nothing is rolled back by it: "
                "bring it back from a copy, or set the alias champion in MLflow"
            )
        last = next(newest_changes(name, workspace), None)
        if now is None or last is None or last.version != now:
            raise UserError(f"the model {name} has no champion that this workspace made: there is nothing to roll back")
        if last.rollback:
            return now, None
        before = last.before
        if before is None:
            raise UserError(f"version {now} of {name} is its first champion: there is no one before")
        if not is_version(client, name, before):
            raise NotThereError(
                f"version {before} of {name}, which was champion before, was deleted in MLflow: version {now} stays; "
                "set the alias champion in MLflow to make another one champion"
            )
        set_alias(client, workspace, name, before, now, rollback=True)
        return before, now


def set_champion(name: str, version: int, expected: int | None, workspace: Workspace) -> bool:
    """Make `version` the champion if `expected` is it until now (None: nobody); whether it was so.

    Raises:
        NotThereError: there is no such version.
        UserError: the server cannot be reached or refuses.
    """
    with registry_lock(workspace), server_errors():
        client = open_client(workspace)
        if current_champion(client, workspace, name) != expected:
            return False
        if not is_version(client, name, version):
            raise NotThereError(f"version {version} of {name} was deleted in MLflow: `ganflow run` registers it again")
        set_alias(client, workspace, name, version, expected)
        return True


def current_champion(client: MlflowClient, workspace: Workspace, name: str) -> int | None:
    """Return the champion's version, after what an interrupted change of it still lacks has been done."""
    now = version_of(client, name, "champion")
    last = next((change for change in read_journal(workspace) if change.name == name), None)
    if last and last.state == "begun" and last.before == now:
        if not is_version(client, name, last.version):
            _write_down(workspace, name, last.version, last.before, "abandoned", last.rollback)
            stays = "there is no champion" if now is None else f"version {now} stays champion"
            print(
                f"ganflow: version {last.version} of {name} was to become champion and was deleted in MLflow since; "
                f"{stays}",
                file=sys.stderr,
            )
            return now
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
    state: Literal["begun", "done", "abandoned"],
    rollback: bool = False,
) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    change = Change(
        time=now, name=name, version=version, before=before, state=state, tracking=address(), rollback=rollback
    )
    journal(workspace).append(change.model_dump(mode="json", exclude_defaults=True))


def journal(workspace: Workspace) -> ChainedJournal:
    """Return the journal of changes, which was not chained before."""
    return ChainedJournal(workspace.mlruns / JOURNAL, workspace.state / WITNESS)


def read_journal(workspace: Workspace) -> Iterator[Change]:
    """Read all changes of champions at the present server that are what was written, the newest first."""
    return (change for change in journal(workspace).newest(Change) if change.tracking == address())


def damage(workspace: Workspace) -> Iterator[str]:
    """Yield what is wrong with the journal of changes."""
    kept = journal(workspace)
    yield from kept.damage()
    if kept.head() and not kept.path.exists():
        yield "it is gone"


def written_champion(name: str, workspace: Workspace) -> int | None:
    """Return the champion by the journal of its changes, whatever became of the registry."""
    last = next(newest_changes(name, workspace), None)
    return last.version if last else None
