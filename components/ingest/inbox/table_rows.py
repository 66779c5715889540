"""Rows of a table that has arrived, added to the table of the data."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import NamedTuple

from ..files.kinds import ending
from ..table_files import Table, decoded, parsed, separator
from ..tables import Images, column_of_names


class NotJoinedError(Exception):
    """A file cannot become part of the data; the message says why, in half a sentence."""


class Merged(NamedTuple):
    """The table with the rows that it lacked, which images these name, and what waits, in half a sentence or empty."""

    content: bytes
    named: set[str]
    waiting: str


def merged(name: str, ours: bytes, theirs: bytes, images: Images) -> Merged:
    """Add the rows of `theirs` to the table `ours`, whose rows stay as they are; both are called `name`.

    Raises:
        NotJoinedError: they are no tables of the same columns, or of a kind that no row can be added to.
    """
    if ending(name) in ("json", "parquet"):
        raise NotJoinedError("a table to which rows cannot be added by themselves: write them into that of the data")
    table, arrived = parsed(name, lambda: ours), parsed(name, lambda: theirs)
    if isinstance(table, str) or isinstance(arrived, str):
        raise NotJoinedError(next(each for each in (arrived, table) if isinstance(each, str)))
    rows = _in_order(table, arrived)
    folder = name.rpartition("/")[0]
    scope = f"{folder}/" if folder else ""
    of = column_of_names(table, scope, images.found)
    if of is None:
        raise NotJoinedError("the table of this name in the data names no images")
    known = {row[of]: row for row in table.rows}
    new: list[int] = []
    named: set[str] = set()
    other = missing = 0
    for number, row in enumerate(rows):
        found = images.found(row[of], scope)
        if row[of] in known:
            other += known[row[of]] != row
        elif not found:
            missing += 1
        else:
            new.append(number)
            known[row[of]] = row
        named |= {*found}
    why = [f"{missing:,} of its rows name no image of the data"] if missing else []
    if other:
        why.append(f"{other:,} say something else than the rows that the data have, which stay")
    if not new:
        return Merged(ours, named, " and ".join(why))
    return Merged(_appended(name, ours, theirs, [rows[i] for i in new], new), named, " and ".join(why))


def _in_order(table: Table, arrived: Table) -> list[list[str]]:
    """Return the rows that arrived with their columns in the order of the table."""
    if {*table.columns} != {*arrived.columns} or (not table.columns and len(table.rows[0]) != len(arrived.rows[0])):
        raise NotJoinedError("its columns are not those of the table of this name in the data")
    order = [arrived.columns.index(column) for column in table.columns] or [*range(len(arrived.rows[0]))]
    return [[row[column] for column in order] for row in arrived.rows]


def _appended(name: str, ours: bytes, theirs: bytes, rows: Sequence[Sequence[str]], numbers: Sequence[int]) -> bytes:
    """Return the table `ours` with some more lines, in its encoding and with its separator."""
    text = decoded(ours)
    newline = "\r\n" if "\r\n" in text else "\n"
    if ending(name) in ("jsonl", "ndjson"):
        lines = [line for line in decoded(theirs).splitlines() if line.strip()]
        added = "".join(lines[number] + newline for number in numbers)
    elif (between := separator([line for line in text.splitlines() if line.strip()][:50])) is None:
        added = "".join(" ".join(row) + newline for row in rows)
    else:
        buffer = io.StringIO()
        csv.writer(buffer, delimiter=between, lineterminator=newline).writerows(rows)
        added = buffer.getvalue()
    whole = (text if not text or text.endswith(("\n", "\r")) else text + newline) + added
    return whole.encode(_encoding(ours))


def _encoding(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    try:
        content.decode()
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8-sig" if content.startswith(b"\xef\xbb\xbf") else "utf-8"
