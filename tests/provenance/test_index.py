"""The ledger's index: it answers what the ledger says, is made again where it does not, and trusts no stranger."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from components.gan.errors import NotThereError
from components.maintenance.cleanup import cleanup
from components.provenance.entries import DatasetEntry, GalleryEntry, ModelEntry, RegistrationEntry, of_kind
from components.provenance.impact import impact
from components.provenance.ledger import Ledger, damage
from components.provenance.rebuild import rebuild_registry
from components.provenance.trace import trace
from components.workspace.journal import ChainedJournal
from components.workspace.params import Clean
from components.workspace.workspace import Workspace
from flows.cli import provenance as commands


@pytest.fixture
def workspace(old_workspace: Path) -> Workspace:
    return Workspace(old_workspace)


def index_file(workspace: Workspace) -> Path:
    return workspace.ledger.with_suffix(".sqlite")


def agrees(workspace: Workspace) -> None:
    """What is found by the index is what a reader of all lines finds."""
    ledger = Ledger(workspace)
    entries = ledger.entries()
    assert entries
    for entry in entries:
        assert ledger.holds(entry.kind, entry.key, entry.content)
        assert ledger.named([entry.content, "none"]) == {entry.content}
        same = [other for other in entries if (other.kind, other.key) == (entry.kind, entry.key)]
        assert list(ledger.find(type(entry), "key", entry.key)) == same[::-1]
    for gallery in of_kind(entries, GalleryEntry):
        for picture in (gallery.facts.pictures[0], gallery.facts.pictures[-1]):
            assert gallery in list(ledger.find_picture(picture.pixels))
            assert not ledger.named([picture.pixels])
    assert not list(ledger.find_picture("0" * 64))
    assert not ledger.holds("model", "0" * 16, "0" * 64)


def test_it_answers_what_the_ledger_says_also_of_what_is_appended(workspace: Workspace) -> None:
    agrees(workspace)
    ledger = Ledger(workspace)
    made = index_file(workspace).stat().st_ino
    for number, entry in enumerate(ledger.entries()):
        assert not ledger.append(entry) or isinstance(entry, RegistrationEntry)
        assert ledger.append(entry.model_copy(update={"content": f"{number:064x}"}))
    agrees(workspace)
    # Appended to, not made again.
    assert index_file(workspace).stat().st_ino == made
    assert not list(damage(workspace))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.unlink(),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"no database" * 1000),
        lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
        # Where none can be written it is done without.
        lambda file: (file.unlink(), file.mkdir()),
    ],
)
def test_it_is_made_again_whatever_becomes_of_it(workspace: Workspace, spoil: Callable[[Path], object]) -> None:
    agrees(workspace)
    spoil(index_file(workspace))
    agrees(workspace)
    assert not list(damage(workspace))


def test_one_from_elsewhere_with_other_tables_is_not_used(workspace: Workspace) -> None:
    agrees(workspace)
    with closing(sqlite3.connect(index_file(workspace))) as database, database:
        database.execute("ALTER TABLE terms RENAME TO kept")
        database.execute("CREATE VIEW terms AS SELECT role, value, 0 AS place FROM kept")
    agrees(workspace)


def test_an_answer_is_never_a_line_that_was_changed(workspace: Workspace) -> None:
    ledger = Ledger(workspace)
    model = of_kind(ledger.entries(), ModelEntry)[0]
    whole = workspace.ledger.read_bytes()
    workspace.ledger.write_bytes(whole.replace(b'"images": 6144', b'"images": 9999'))
    assert list(ledger.find(ModelEntry, "key", model.key)) == []
    assert "line 2 is not what was written" in list(ledger.wrong())


def test_the_last_lines_cannot_be_removed_unnoticed_though_one_witness_goes_with_them(workspace: Workspace) -> None:
    ledger = Ledger(workspace)
    entry = ledger.entries()[-1]
    assert ledger.append(entry.model_copy(update={"content": "f" * 64}))
    lines = workspace.ledger.read_bytes().splitlines(keepends=True)
    shutil.copytree(workspace.root, workspace.root.parent / "kept")
    for gone in (workspace.mlruns / "ledger.json", index_file(workspace)):
        gone.unlink()
        workspace.ledger.write_bytes(b"".join(lines[:-2]))
        assert any("of the 12 lines" in wrong for wrong in damage(workspace)), gone
        assert any("of the 12 lines" in wrong for wrong in Ledger(workspace).wrong()), gone
        # What is written next does not cover it up.
        assert Ledger(workspace).append(entry.model_copy(update={"content": "e" * 64}))
        assert list(damage(workspace))
        assert list(Ledger(workspace).wrong())
        shutil.rmtree(workspace.root)
        shutil.copytree(workspace.root.parent / "kept", workspace.root)


def test_of_an_old_ledger_the_last_lines_are_missed_once_it_was_read(workspace: Workspace) -> None:
    Ledger(workspace).named(["anything"])
    lines = workspace.ledger.read_bytes().splitlines(keepends=True)
    workspace.ledger.write_bytes(b"".join(lines[:-1]))
    assert list(damage(workspace))


@pytest.mark.parametrize(
    "said",
    [
        {"wrong": "no JSON"},
        {"wrong": None},
        {"wrong": "null"},
        {"wrong": "[1, {}]"},
        {"wrong": b"\xff"},
        {"head": "no JSON"},
        {"head": b"\xff"},
        {"head": 5},
        {"lines": "many"},
        {"hash": b"\xff"},
    ],
    ids=str,
)
def test_one_from_elsewhere_with_our_tables_and_other_values_is_not_used(
    tmp_path: Path, said: dict[str, object]
) -> None:
    workspace = Workspace(tmp_path)
    Ledger(workspace).journal.append({"entry": {"kind": "gallery"}})
    wrong = ["line 1 is of another version of ganflow, which cannot be read"]
    assert list(Ledger(workspace).wrong()) == list(damage(workspace)) == wrong
    with closing(sqlite3.connect(index_file(workspace))) as database, database:
        for name, value in said.items():
            database.execute(f"UPDATE ledger SET {name} = ?", (value,))
    assert list(Ledger(workspace).wrong()) == list(damage(workspace)) == wrong


@pytest.mark.parametrize("place", ["here", -5, 2**62, 10**6, b"\xff"])
def test_a_place_that_the_ledger_does_not_have_is_no_answer(tmp_path: Path, place: object) -> None:
    workspace = Workspace(tmp_path)
    Ledger(workspace).journal.append({"entry": {"kind": "gallery"}})
    assert not Ledger(workspace).values("model key")
    with closing(sqlite3.connect(index_file(workspace))) as database, database:
        database.executemany("INSERT INTO terms VALUES ('model key', 'k', ?)", [(place,), (0,)])
    ledger = Ledger(workspace)
    assert ledger.values("model key") == ["k"]
    assert list(ledger.find(ModelEntry, "key", "k")) == ledger.find_prefix(ModelEntry, ["key"], "k") == []


# --- lines that a stranger sealed ---


def seal(workspace: Workspace, change: Callable[[Any], None]) -> None:
    """Write the whole ledger again with other facts and fitting hashes, as who copied the workspace may."""
    described = [link.described["entry"] for link in ChainedJournal(workspace.ledger).links()]
    change(described)
    workspace.ledger.unlink()
    index_file(workspace).unlink(missing_ok=True)
    journal = ChainedJournal(workspace.ledger)
    for entry in described:
        journal.append({"entry": entry})


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where each value of JSON stands."""
    yield at
    if isinstance(value, dict | list):
        for name in value if isinstance(value, dict) else range(min(len(value), 1)):
            yield from paths(value[name], (*at, name))


STRANGE = (None, 7, -1e308, "\x1b]0;owned\x07", "../../../../etc/passwd", "\ud800", [], {}, ["x"], "a" * 10_000, True)


def test_whatever_stands_in_it_nothing_ends_in_a_traceback(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """Facts of the first run's six entries, replaced by values of every kind."""
    picture = next((workspace.gallery / "images").glob("*.png"))
    own = of_kind(Ledger(workspace).entries(), DatasetEntry)[0].facts.source
    whole = workspace.ledger.read_bytes()
    described = [json.loads(line)["entry"] for line in whole.splitlines()]
    tried = [(number, at) for number in range(len(described)) for at in paths(described[number]) if at]
    assert len(tried) > 300
    # Every second one is enough: neighbours are facts of one kind.
    for turn, (number, at) in enumerate(tried[::2]):
        value = STRANGE[turn % len(STRANGE)]

        def change(entries: Any, number: int = number, at: tuple[Any, ...] = at, value: Any = value) -> None:
            inside = entries[number]
            for name in at[:-1]:
                inside = inside[name]
            inside[at[-1]] = value

        seal(workspace, change)
        for wrong in damage(workspace):
            assert wrong.isprintable()
        for ask in (lambda: trace(picture, workspace), lambda: impact(own[:16], workspace)):
            try:
                ask()
            except NotThereError as error:
                assert "\n" not in str(error)
        workspace.ledger.write_bytes(whole)


@pytest.mark.parametrize("source", ["../../../secret", "/etc/passwd", ".", "a/b", "", "a\nb"])
def test_a_list_of_files_outside_of_the_workspace_is_not_read(workspace: Workspace, source: str) -> None:
    secret = workspace.root.parent / "secret.sha256s"
    secret.write_bytes(b"secret")

    def change(entries: Any) -> None:
        entries[0]["facts"] |= {"source": source, "files": "0" * 64}

    seal(workspace, change)
    found = list(damage(workspace))
    assert found == ["line 1 is of another version of ganflow, which cannot be read"]
    kept = cleanup(Clean(keep_days=0), workspace).kept
    assert any("the ledger may name them, and is damaged" in sentence for sentence in kept)


def test_the_registry_is_made_again_of_strange_facts_or_it_says_why_not(workspace: Workspace) -> None:
    def change(entries: Any) -> None:
        for entry in entries:
            entry["time"] = "never"
            if entry["kind"] == "registration":
                entry["facts"] |= {"place": "../../..", "tags": {}}

    seal(workspace, change)
    (workspace.mlruns / "mlflow.db").unlink()
    told = dict(rebuild_registry(workspace))
    assert "its files are gone from" in told["ganflow version 1"]


def test_what_a_stranger_wrote_commands_no_terminal(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    picture = next((workspace.gallery / "images").glob("*.png"))

    def change(entries: Any) -> None:
        for entry in entries:
            if entry["kind"] == "gallery":
                for described in entry["facts"]["pictures"]:
                    described["label"] = "\x1b]0;owned\x07\u202e\nganflow: all is well"

    seal(workspace, change)
    commands.trace(picture, workspace.root, as_json=False, html=None)
    told = capsys.readouterr().out
    assert "\\x1b]0;owned\\x07\\u202e\\nganflow" in told
    assert all(line.isprintable() for line in told.splitlines())
