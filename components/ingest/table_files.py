"""Tables in whatever form people have them: CSV and its kin with any separator, JSON, JSON lines, Parquet, lists."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..workspace.text import printable, shortened
from .kinds import ending, is_promised
from .names import LABEL_COLUMNS, NAME_COLUMNS

# Of a table so many rows are looked at to tell what its columns are.
SEEN = 200
_MOST_COLUMNS = 2_000


@dataclass
class Table:
    """Texts in columns; without names of columns these are empty."""

    columns: list[str]
    rows: list[list[str]]


def parsed(name: str, read: Callable[[], bytes]) -> Table | str:
    """Return the columns of a text, or why there are none."""
    try:
        content = read()
        last = ending(name)
        if last == "parquet":
            return _of_parquet(content)
        plain = decoded(content)
        if last in ("jsonl", "ndjson"):
            return _of_records([json.loads(line) for line in plain.splitlines() if line.strip()])
        return _of_json(json.loads(plain)) if last == "json" else _of_lines(plain)
    except (ValueError, RecursionError, KeyError, csv.Error, OSError, MemoryError) as error:
        return f"a table that cannot be read ({shortened(printable(str(error)), 80)})"


def decoded(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def _of_json(value: Any) -> Table | str:
    if isinstance(value, dict):
        labels = value.get("labels")
        # StyleGAN's: [[path, class], ...], or null where there are no classes.
        if isinstance(labels, list) and all(isinstance(row, list) and len(row) == 2 for row in labels):
            return Table(["path", "label"], [[str(name), _text(label)] for name, label in labels])
        if {"annotations", "images", "categories"} & value.keys() or "shapes" in value:
            return "an annotation, which is not used"
        if value and all(isinstance(found, str | int) for found in value.values()):
            return Table(["path", "label"], [[name, _text(found)] for name, found in value.items()])
        return "a table or text that names no image here"
    return _of_records(value) if isinstance(value, list) else "a table or text that names no image here"


def _of_records(records: Any) -> Table | str:
    if not records or not all(isinstance(record, dict) for record in records):
        return "a table or text that names no image here"
    columns = [*dict.fromkeys(name for record in records[:SEEN] for name in record)][:_MOST_COLUMNS]
    return Table([*map(str, columns)], [[_text(record.get(name)) for name in columns] for record in records])


def _of_parquet(content: bytes) -> Table:
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(content))
    return Table([*table.column_names], [[_text(value) for value in row.values()] for row in table.to_pylist()])


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _of_lines(plain: str) -> Table | str:
    lines = [line for line in plain.splitlines() if line.strip()]
    if not lines:
        return "an empty file"
    between = separator(lines[:50])
    if between is None:
        rows = [line.split() for line in lines]
        if len({len(row) for row in rows[:SEEN]}) > 1:
            rows = [[line.strip()] for line in lines]
    else:
        rows = [*csv.reader(lines, delimiter=between, skipinitialspace=True)]
    width = max(len(row) for row in rows[:SEEN])
    if width > _MOST_COLUMNS:
        return f"a table of {width:,} columns"
    rows = [[*row, *[""] * (width - len(row))][:width] for row in rows]
    # Names of images stand under names of columns, which no image has.
    headed = not any(is_promised(cell) for cell in rows[0]) and (
        any(is_promised(cell) for row in rows[1:SEEN] for cell in row)
        or any(cell.strip().lower() in (*NAME_COLUMNS, *LABEL_COLUMNS) for cell in rows[0])
    )
    columns = [cell.strip() for cell in rows[0]] if headed else []
    return Table(columns, rows[1:] if headed else rows)


def separator(lines: Sequence[str]) -> str | None:
    """Return the separator that stands in all lines, in most of them as often."""
    for separator in ("\t", ";", ",", "|"):
        counts = [line.count(separator) for line in lines]
        if min(counts) > 0 and counts.count(counts[0]) >= 0.8 * len(counts):
            return separator
    return "," if lines[0].count(",") else None
