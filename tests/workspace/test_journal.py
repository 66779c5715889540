"""Journals: whole lines on the disk, what a crash cut off, and what was changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.workspace.journal import ChainedJournal, Journal, Record, _sealed


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


# --- the witness ---


@pytest.fixture
def witnessed(tmp_path: Path) -> ChainedJournal:
    journal = ChainedJournal(tmp_path / "chain.jsonl", tmp_path / "elsewhere" / "witness.json")
    for number in range(5):
        journal.append({"name": "change", "number": number})
    return journal


def numbers(journal: ChainedJournal) -> list[int]:
    return [change.number for change in journal.newest(Change)]


def test_lines_are_read_newest_first_whatever_the_size_of_a_line(witnessed: ChainedJournal) -> None:
    witnessed.append({"name": "long" * 100_000, "number": 5})
    witnessed.append({"name": "last", "number": 6})
    assert numbers(witnessed) == [6, 5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("kept", range(5))
def test_removal_of_the_last_lines_is_noticed_for_good(witnessed: ChainedJournal, kept: int) -> None:
    lines = witnessed.path.read_bytes().splitlines(keepends=True)
    witnessed.path.write_bytes(b"".join(lines[:kept]))
    assert list(witnessed.damage()) == [f"only {kept} of the 5 lines that were written are there as they were"]
    witnessed.append({"name": "change", "number": 9})
    assert list(witnessed.damage()) == [f"what stood before line {kept + 1} was changed or removed"]
    witnessed.append({"name": "change", "number": 10})
    assert list(witnessed.damage())


def test_a_last_line_that_a_stranger_sealed_is_noticed_and_not_read(witnessed: ChainedJournal) -> None:
    lines = witnessed.path.read_bytes().splitlines(keepends=True)
    stranger = ChainedJournal(witnessed.path)
    witnessed.path.write_bytes(b"".join(lines[:4]))
    stranger.append({"name": "change", "number": 7})
    assert list(witnessed.damage()) == ["its last line is another one than was written"]
    assert numbers(witnessed) == []
    witnessed.path.write_bytes(b"".join(lines))
    stranger.append({"name": "change", "number": 7})
    assert list(witnessed.damage()) == ["it has 6 lines, of which ganflow wrote 5"]
    assert numbers(witnessed) == []


def test_a_line_that_nobody_sealed_is_noticed_and_not_read(witnessed: ChainedJournal) -> None:
    with witnessed.path.open("a") as file:
        file.write('{"name": "change", "number": 7}\n')
    assert list(witnessed.damage()) == ["line 6 is not what was written"]
    assert numbers(witnessed) == []


def test_a_crash_at_any_byte_of_an_append_is_no_damage(witnessed: ChainedJournal) -> None:
    assert witnessed.witness is not None
    whole, before = witnessed.path.read_bytes(), witnessed.witness.read_bytes()
    witnessed.append({"name": "change", "number": 5})
    longer, after = witnessed.path.read_bytes(), witnessed.witness.read_bytes()
    during = json.dumps({**json.loads(after), "settled": False}).encode()
    moments = [(whole, before), (whole, during), (longer, during), (longer, after)]
    moments += [(longer[:cut], during) for cut in range(len(whole) + 1, len(longer), 7)]
    for content, witness in moments:
        witnessed.path.write_bytes(content)
        witnessed.witness.write_bytes(witness)
        assert not list(witnessed.damage()), len(content)
        assert numbers(witnessed)[-5:] == [4, 3, 2, 1, 0]
        witnessed.append({"name": "change", "number": 6})
        assert not list(witnessed.damage()), len(content)
        assert numbers(witnessed)[0] == 6


def test_lines_from_before_it_was_chained_are_kept_as_they_are_from_then_on(tmp_path: Path) -> None:
    old = Journal(tmp_path / "chain.jsonl")
    for number in range(3):
        old.append({"name": "old", "number": number})
    journal = ChainedJournal(old.path, tmp_path / "witness.json")
    assert numbers(journal) == [2, 1, 0]
    audit = journal.audit()
    assert (audit.conclude(journal.head()), audit.unchained) == ([], 3)
    journal.append({"name": "new", "number": 3})
    audit = journal.audit()
    assert (audit.conclude(journal.head()), audit.unchained) == ([], 3)
    assert numbers(journal) == [3, 2, 1, 0]
    whole = journal.path.read_bytes()
    for one, other in ((b'"number": 1', b'"number": 8'), (whole.splitlines(keepends=True)[0], b"")):
        journal.path.write_bytes(whole.replace(one, other))
        assert list(journal.damage())
        assert numbers(journal) == [3]


@pytest.mark.parametrize("line", ["null", "[]", "1", '"text"', "[" * 100_000, '{"a": ' * 50_000, "{}", "\xff", "NaN"])
def test_whatever_a_line_is_it_ends_in_no_exception(witnessed: ChainedJournal, line: str) -> None:
    with witnessed.path.open("ab") as file:
        file.write(line.encode("latin-1") + b"\n")
        file.write(_sealed(line.removesuffix("}").encode("latin-1")) + b"\n")
    assert list(witnessed.damage())
    assert len(list(witnessed.links())) == 7
    assert Journal(witnessed.path).records(Change)[0].number == 0
    numbers(witnessed)
