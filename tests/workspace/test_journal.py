"""Journals: whole lines on the disk, what a crash cut off, and what was changed."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.workspace.journal import ChainedJournal, Journal, Record


class Change(Record):
    """A line of two keys."""

    name: str
    number: int = 0


def test_lines_are_those_that_were_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "new" / "journal.jsonl")
    assert journal.records(Change) == []
    journal.append({"name": "a", "number": 1})
    journal.append({"name": "\u732b"})
    assert journal.path.read_bytes() == b'{"name": "a", "number": 1}\n{"name": "\\u732b"}\n'
    assert journal.records(Change) == [Change(name="a", number=1), Change(name="\u732b")]


def test_what_a_crash_cut_off_stays_a_line_of_its_own(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append({"name": "a"})
    journal.append({"name": "b"})
    whole = journal.path.read_bytes()
    for kept in range(len(whole)):
        journal.path.write_bytes(whole[:kept])
        journal.append({"name": "c"})
        names = [change.name for change in journal.records(Change)]
        assert names == [*"ab"[: whole[:kept].count(b"}")], "c"], kept


def test_a_line_of_another_version_is_read_as_far_as_it_is_known(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append({"name": "a", "later": [1, 2]})
    journal.append({"title": "of another kind"})
    assert journal.records(Change) == [Change(name="a")]


@given(data=st.data())
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_change_of_a_chain_is_noticed(tmp_path: Path, data: st.DataObject) -> None:
    """Bits flipped anywhere, and lines left out, doubled or moved, but for the last ones left out."""
    journal = ChainedJournal(tmp_path / "chain.jsonl")
    journal.path.unlink(missing_ok=True)
    for number in range(5):
        journal.append({"number": number})
    assert not list(journal.damage())
    whole = journal.path.read_bytes()
    lines = whole.splitlines(keepends=True)
    if data.draw(st.booleans()):
        # But for the ends of lines and what closes them: without those a line counts as cut off.
        at = data.draw(st.integers(0, len(whole) - 1).filter(lambda at: not whole[at : at + 4].count(b"\n")))
        changed = bytearray(whole)
        changed[at] ^= 1 << data.draw(st.integers(0, 6))
        damaged = bytes(changed)
        if b"\n" in damaged[at : at + 1] or b"\r" in damaged[at : at + 1]:
            return
    else:
        chosen = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=6))
        if chosen == list(range(len(chosen))):
            return
        damaged = b"".join(lines[i] for i in chosen)
    journal.path.write_bytes(damaged)
    assert list(journal.damage())


def test_the_chain_goes_on_behind_the_last_whole_line(tmp_path: Path) -> None:
    journal = ChainedJournal(tmp_path / "chain.jsonl")
    journal.append({"number": 0})
    with journal.path.open("ab") as file:
        file.write(b'{"number": 1, "previ')
    journal.append({"number": 2})
    assert not list(journal.damage())
    first, cut, last = journal.links()
    assert (cut.text, last.described) == (None, {"number": 2, "previous": first.hash})
    assert json.loads(last.line)["hash"] == last.hash
