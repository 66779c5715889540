"""Pairs that a table states: a column names the pictures to be made, another one their inputs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from ...gan.errors import UserError
from ...workspace.text import printable, shortened
from ..parts import Builder, Part
from ..table_files import Table, parsed
from ..tables import Images, Text, column_of_names
from .names import Pairs, Place


class PairTable(NamedTuple):
    """A table with a column of inputs: its name below the data, what it says, and which column that is."""

    name: str
    table: Table
    column: int


def pair_table(texts: Sequence[Text], file_bytes: int, side: str) -> PairTable | None:
    """Return the first table with a column of this name."""
    for text in sorted(texts, key=lambda text: text.name):
        if text.size > file_bytes:
            continue
        table = parsed(text.name, text.read)
        if not isinstance(table, str) and (column := table.column(side)) is not None:
            return PairTable(text.name, table, column)
    return None


def pairs_by_table(parts: Sequence[Part], texts: Sequence[Text], builder: Builder, side: str) -> Pairs | None:
    """Return the pairs that a table states; None where none does."""
    found = pair_table(texts, builder.limits.file_bytes, side)
    return None if found is None else _stated(parts, *found, builder)


def _stated(parts: Sequence[Part], name: str, table: Table, column: int, builder: Builder) -> Pairs:
    """Return the pairs that the rows of a table state; its `column` names the inputs."""
    by_path = {path: Place(n, row) for n, part in enumerate(parts) for row, path in enumerate(part.paths())}
    images, folder = Images(by_path), name.rpartition("/")[0]
    scope = f"{folder}/" if folder and any(path.startswith(f"{folder}/") for path in by_path) else ""
    targets = table.without(column)
    of = column_of_names(targets, scope, images.found)
    if of is None:
        raise UserError(
            f"{printable(name)} has a column {shortened(printable(table.columns[column]))} of inputs, but no column "
            "that names the pictures to be made of them: add one called path"
        )
    shown = printable(name)
    pairs: dict[Place, list[Place]] = defaultdict(list)
    used: set[str] = set()
    for row, names in zip(table.rows, targets.rows, strict=True):
        found = images.found(names[of], scope)
        for target in found:
            used.add(target)
            given = images.found(row[column], scope)
            if len(found) > 1:
                builder.reject(target, f"a row of {printable(name)} means several pictures by its name")
            elif len(given) == 1:
                pairs[by_path[target]].append(by_path[given[0]])
                used.add(given[0])
            else:
                written = shortened(printable(row[column].strip()), 60)
                why = "names several pictures" if given else "is not here"
                builder.reject(target, f"its input {written!r} {why}" if written else f"{shown} states no input for it")
    for path in by_path:
        if path not in used:
            builder.reject(path, f"no row of {shown} makes a pair of it")
    if not pairs:
        raise UserError(f"{printable(name)} states no pair of pictures that are here: paths are relative to it")
    count, title = sum(map(len, pairs.values())), shortened(printable(table.columns[column]))
    builder.pairs = f"{count:,} by {printable(name)}, whose column {title} names the inputs"
    return pairs
