"""Who is champion, where the journal of changes was cut off, forged or names what is gone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from components.gan.errors import DamagedError, NotThereError
from components.maintenance.verify import verify
from components.services.tracking import champions, connection, registry
from components.services.tracking.named_model import named_version
from components.workspace.workspace import Workspace


@pytest.fixture
def workspace(old_workspace: Path) -> Workspace:
    return Workspace(old_workspace)


def delete(workspace: Workspace, version: int) -> None:
    with connection.registry_lock(workspace):
        connection.open_client(workspace).delete_model_version("ganflow", str(version))


def wrong_in_journal(workspace: Workspace) -> str | None:
    (finding,) = [found for found in verify(workspace) if found.part == "mlruns/champions.jsonl"]
    return finding.wrong


@pytest.mark.parametrize("rollback", [False, True])
def test_a_cut_off_change_to_a_version_that_was_deleted_is_closed(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], rollback: bool
) -> None:
    champions._write_down(workspace, "ganflow", 99, 2, "begun", rollback)
    assert named_version("champion", "ganflow", workspace).version == 2
    said = capsys.readouterr().err
    assert said == (
        "ganflow: version 99 of ganflow was to become champion and was deleted in MLflow since; version 2 stays "
        "champion\n"
    )
    assert json.loads((workspace.mlruns / champions.JOURNAL).read_text().splitlines()[-1])["state"] == "abandoned"
    # Once.
    assert named_version("champion", "ganflow", workspace).version == 2
    assert capsys.readouterr().err == ""
    assert champions.rollback("ganflow", workspace) == (1, 2)
    assert wrong_in_journal(workspace) is None


def test_a_line_of_an_old_journal_that_names_a_deleted_version_is_closed_too(workspace: Workspace) -> None:
    line = {"time": "2026-01-01T00:00:00+00:00", "name": "ganflow", "version": 99, "before": 2}
    with (workspace.mlruns / champions.JOURNAL).open("a") as file:
        file.write(json.dumps({**line, "state": "begun", "tracking": "embedded"}) + "\n")
    assert named_version("champion", "ganflow", workspace).version == 2
    assert champions.rollback("ganflow", workspace) == (1, 2)


def test_the_champion_before_was_deleted(workspace: Workspace) -> None:
    delete(workspace, 1)
    with pytest.raises(NotThereError, match="version 1 of ganflow, which was champion before, was deleted in MLflow"):
        champions.rollback("ganflow", workspace)
    assert named_version("champion", "ganflow", workspace).version == 2
    with pytest.raises(NotThereError, match="version 1 of ganflow was deleted in MLflow"):
        champions.set_champion("ganflow", 1, 2, workspace)
    assert len(champions.history("ganflow", workspace)) == 2


def test_the_champion_itself_was_deleted(workspace: Workspace) -> None:
    delete(workspace, 2)
    with pytest.raises(NotThereError, match="ganflow has no champion"):
        named_version("champion", "ganflow", workspace)
    assert champions.set_champion("ganflow", 1, None, workspace)
    assert named_version("champion", "ganflow", workspace).version == 1


@pytest.mark.parametrize("line", ["null", "[]", "3", '"x"', "[" * 50_000, "not JSON"])
def test_a_line_that_is_no_change_is_passed_over(workspace: Workspace, line: str) -> None:
    with (workspace.mlruns / champions.JOURNAL).open("a") as file:
        file.write(line + "\n")
    assert [change.version for change in champions.history("ganflow", workspace)] == [1, 2]
    assert named_version("champion", "ganflow", workspace).version == 2
    assert champions.rollback("ganflow", workspace) == (1, 2)


def forged(lines: list[bytes]) -> list[bytes]:
    """As if version 2 had been champion before version 1, by a line that nobody sealed."""
    change = json.loads(lines[-1]) | {"version": 1, "before": 2}
    return [*lines, json.dumps({name: value for name, value in change.items() if name != "hash"}).encode() + b"\n"]


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[:-1],
        lambda lines: lines[:-2],
        lambda lines: [],
        lambda lines: lines[1:],
        lambda lines: [*lines[:4], *lines[5:]],
        lambda lines: [*lines[:-1], lines[-1].replace(b'"before": 1', b'"before": 2')],
        lambda lines: [lines[0].replace(b'"version": 1', b'"version": 2'), *lines[1:]],
        forged,
    ],
)
def test_a_journal_that_was_changed_is_told_and_not_followed(
    workspace: Workspace, change: Callable[[list[bytes]], list[bytes]]
) -> None:
    assert champions.rollback("ganflow", workspace) == (1, 2)
    assert champions.set_champion("ganflow", 2, 1, workspace)
    assert wrong_in_journal(workspace) is None
    journal = workspace.mlruns / champions.JOURNAL
    journal.write_bytes(b"".join(change(journal.read_bytes().splitlines(keepends=True))))
    assert wrong_in_journal(workspace)
    with pytest.raises(DamagedError, match="so nothing is rolled back by it: bring it back from a copy") as refusal:
        champions.rollback("ganflow", workspace)
    assert "\n" not in str(refusal.value)
    # Who is champion the registry knows.
    assert registry.aliases("ganflow", 2, workspace) == ["challenger", "champion"]
    assert named_version("champion", "ganflow", workspace).version == 2


def test_a_journal_that_is_gone_is_told(workspace: Workspace) -> None:
    assert champions.rollback("ganflow", workspace) == (1, 2)
    (workspace.mlruns / champions.JOURNAL).unlink()
    assert "is gone" in (wrong_in_journal(workspace) or "")


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59-23:00", "0001-01-01T00:00:00+23:00", "never", ""])
def test_a_time_that_no_calendar_has_is_none(time: str) -> None:
    change = champions.Change(time=time, name="x", version=1, before=None, state="done", tracking="embedded")
    assert change.seconds == 0
