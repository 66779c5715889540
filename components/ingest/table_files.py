"""Tables in whatever form people have them: CSV and its kin with any separator, JSON, JSON lines, Parquet, lists."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..workspace.text import printable, shortened
from .files.kinds import ending, is_promised
from .names import LABEL_COLUMNS, NAME_COLUMNS
from .split_names import SPLITS

# Of a table so many rows are looked at to tell what its columns are.
SEEN = 200
_MOST_COLUMNS = 2_000


@dataclass
class Table:
    """Texts in columns; without names of columns these are empty."""

    columns: list[str]
    rows: list[list[str]]

    def column(self, name: str) -> int | None:
        """Return the place of the column of this name, in whatever letters."""
        names, wanted = [_plain(column) for column in self.columns], _plain(name)
        return names.index(wanted) if wanted in names else None

    def without(self, column: int) -> Table:
        rows = [[*row[:column], *row[column + 1 :]] for row in self.rows]
        return Table([*self.columns[:column], *self.columns[column + 1 :]], rows)


def _plain(column: str) -> str:
    return column.strip().replace(" ", "_").casefold()


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
    if b"\0" in content[:2]:
        return content.decode("utf-16-le" if content[1:2] == b"\0" else "utf-16-be")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def _of_json(value: Any) -> Table | str:
    if isinstance(value, dict):
        labels = value.get("labels")
        # StyleGAN's: [[path, class], ...], or null where there are no classes.
        if isinstance(labels, list) and all(isinstance(row, list) and len(row) == 2 for row in labels):
            # Vectors are conditions of another kind.
            column = "label" if all(isinstance(label, str | int) for _, label in labels) else "vector"
            return Table(["path", column], [[str(name), _text(label)] for name, label in labels])
        if value and all(_is_list_of_names(found) for found in value.values()):
            return _of_lists(value)
        if {"annotations", "images", "categories"} & value.keys() or "shapes" in value:
            return "an annotation, which is not used"
        if value and all(isinstance(found, str | int) for found in value.values()):
            return Table(["path", "label"], [[name, _text(found)] for name, found in value.items()])
        return "a table or text that names no image here"
    return _of_records(value) if isinstance(value, list) else "a table or text that names no image here"


def _is_list_of_names(found: object) -> bool:
    return isinstance(found, list) and all(
        isinstance(one, str) or (isinstance(one, list) and one and all(isinstance(each, str | int) for each in one))
        for one in found
    )


def _of_lists(lists: dict[str, Any]) -> Table | str:
    """Return the table of names of images that are listed for each class, or with more for each split."""
    rows = [
        [name, *(map(str, one) if isinstance(one, list) else (one,))] for name, found in lists.items() for one in found
    ]
    if not rows or len({len(row) for row in rows}) > 1:
        return "a table or text that names no image here"
    if {name.lower() for name in lists} <= SPLITS.keys():
        # As prompts are learned by: name, number and name of the class.
        more = ["label", "label_name"] if len(rows[0]) == 4 else ["label"] if len(rows[0]) == 3 else []
        return (
            Table(["split", "path", *more], rows)
            if len(rows[0]) == 2 + len(more)
            else "an annotation, which is not used"
        )
    return Table(["label", "path"], rows) if len(rows[0]) == 2 else "an annotation, which is not used"


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
    rows = _by_spaces(lines) if between is None else [*csv.reader(lines, delimiter=between, skipinitialspace=True)]
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


def _by_spaces(lines: Sequence[str]) -> list[list[str]]:
    """Return rows of as many words each; a count of the rows, or remarks, may stand before them, as CelebA has it."""
    rows = [line.split() for line in lines if not line.startswith("#")] or [["#"]]
    width = len(rows[-1])
    start = next((at for at, row in enumerate(rows) if len(row) == width), 0)
    if width < 2 or any(len(row) != width for row in rows[start:SEEN]):
        return [[line.strip()] for line in lines]
    # Names of columns, but none of that of the images.
    head = rows[start - 1] if start else []
    return [["", *head], *rows[start:]] if len(head) == width - 1 > 1 else rows[start:]


def separator(lines: Sequence[str]) -> str | None:
    """Return the separator that stands in all lines, in most of them as often."""
    for separator in ("\t", ";", ",", "|"):
        counts = [re.sub(r'"[^"]*"', "", line).count(separator) for line in lines]
        if min(counts) > 0 and counts.count(counts[0]) >= 0.8 * len(counts):
            return separator
    return "," if lines[0].count(",") else None
