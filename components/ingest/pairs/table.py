"""Pairs that tables state: a column names the pictures to be made, another one their inputs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, MutableMapping, Sequence
from typing import NamedTuple

from ...gan.errors import UserError
from ...workspace.text import printable, shortened
from ..parts import Builder, Part
from ..table_files import SEEN, Table, parsed
from ..tables import Images, Text, column_of_names
from .names import Pairs, Place, stands_on


class PairTable(NamedTuple):
    """A table with a column of inputs: its name below the data, what it says, and which column that is."""

    name: str
    table: Table
    column: int


def pair_tables(texts: Sequence[Text], file_bytes: int, side: str, images: Images) -> list[PairTable]:
    """Return the tables with a column of this name that names pictures, as train.csv and test.csv may both have one."""
    return [each for each in _with_column(texts, file_bytes, side) if names_pictures(*each, images)]


def names_pictures(name: str, table: Table, column: int, images: Images) -> bool:
    """Whether a column names pictures that are here, each clearly, in the first rows at least."""
    scope = images.scope_of(name)
    return any(len(images.found(row[column], scope)) == 1 for row in table.rows[:SEEN])


def pairs_by_table(parts: Sequence[Part], texts: Sequence[Text], builder: Builder, side: str) -> Pairs | None:
    """Return the pairs that tables state; None where none does.

    Raises:
        UserError: a table names inputs that are not here, and no folder is called as its column; or it does not tell
            what is to be made of them.
    """
    by_path = {path: Place(n, row) for n, part in enumerate(parts) for row, path in enumerate(part.paths())}
    images = Images(by_path)
    found = pair_tables(texts, builder.limits.file_bytes, side, images)
    if found:
        return _stated(found, by_path, images, builder)
    named = _with_column(texts, builder.limits.file_bytes, side)
    if named and all(stands_on(path.split("/")[:-1], side) is None for path in by_path):
        raise UserError(f"{_called(named)} states no pair of pictures that are here: paths are relative to it")
    return None


def _with_column(texts: Sequence[Text], file_bytes: int, side: str) -> list[PairTable]:
    found = []
    for text in sorted(texts, key=lambda text: text.name):
        table = None if text.size > file_bytes else parsed(text.name, text.read)
        if isinstance(table, Table) and (column := table.column(side)) is not None:
            found.append(PairTable(text.name, table, column))
    return found


def _called(found: Sequence[PairTable]) -> str:
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return f"{printable(found[0].name)}{more}"


def _stated(found: Sequence[PairTable], by_path: Mapping[str, Place], images: Images, builder: Builder) -> Pairs:
    """Return the pairs that the rows of tables state, each once."""
    pairs: dict[Place, list[Place]] = defaultdict(list)
    used: set[str] = set()
    for each in found:
        used |= _rows(each, by_path, images, builder, pairs)
    for path in by_path:
        if path not in used:
            builder.reject(path, f"no row of {_called(found)} makes a pair of it")
    if not pairs:
        raise UserError(f"{_called(found)} states no pair of pictures that are here: paths are relative to it")
    count, title = sum(map(len, pairs.values())), shortened(printable(found[0].table.columns[found[0].column]))
    builder.pairs = f"{count:,} by {_called(found)}, whose column {title} names the inputs"
    return pairs


def _rows(
    stating: PairTable,
    by_path: Mapping[str, Place],
    images: Images,
    builder: Builder,
    pairs: MutableMapping[Place, list[Place]],
) -> set[str]:
    """Add the pairs of one table; return the pictures of which it says something."""
    name, table, column = stating
    scope, shown = images.scope_of(name), printable(name)
    targets = table.without(column)
    of = column_of_names(targets, scope, images.found)
    if of is None:
        raise UserError(
            f"{shown} has a column {shortened(printable(table.columns[column]))} of inputs, but no column that names "
            "the pictures to be made of them: add one called path"
        )
    used: set[str] = set()
    for row, names in zip(table.rows, targets.rows, strict=True):
        found = images.found(names[of], scope)
        for target in found:
            used.add(target)
            given = images.found(row[column], scope)
            if len(found) > 1:
                builder.reject(target, f"a row of {shown} means several pictures by its name")
            elif len(given) == 1:
                used.add(given[0])
                if by_path[given[0]] not in pairs[by_path[target]]:
                    pairs[by_path[target]].append(by_path[given[0]])
            else:
                written = shortened(printable(row[column].strip()), 60)
                why = "names several pictures" if given else "is not here"
                builder.reject(target, f"its input {written!r} {why}" if written else f"{shown} states no input for it")
    return used
