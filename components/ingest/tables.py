"""Tables that tell labels and splits of images that lie beside them, in whatever form people have them.

CSV and its kin with any separator, with or without names of columns; lists of names; JSON and JSON lines; Parquet
without images; StyleGAN's `dataset.json`. Which column names the images is told by their content.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .columns import Reading, shown_name
from .files.kinds import is_promised
from .names import NAME_COLUMNS, stem
from .parts import BY_CONTENT, Note
from .split_names import role_of, roles_of
from .table_files import SEEN, Table, parsed

_OUTSIDE, _GONE = "lies outside the data", "there is no such file"
_SUBMISSION = re.compile(r"(sample|example|gender).?submission|submission.?(sample|example|format)", re.I)

_LICENCES = re.compile(r"licen[cs]es?\.[ct]sv", re.I)


class Text(NamedTuple):
    """A file that may be such a table: its name below the data, and how its content is read."""

    name: str
    size: int
    read: Callable[[], bytes]


class Told(NamedTuple):
    """What a table tells of an image: its label (None: nothing, or `several`), its split, and which table that is."""

    label: str | None
    split: int
    table: str
    several: bool = False


@dataclass
class Tables:
    """What all tables tell, by the path of each image; `used` are the tables, `left` is why others are not."""

    told: dict[str, Told] = field(default_factory=dict)
    used: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    missing: list[tuple[str, str]] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    @property
    def labelled(self) -> bool:
        return any(told.label is not None for told in self.told.values())


class Images:
    """Paths of all images, found by what a table may call them: parts of their path, with or without the ending."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._loose: dict[str, list[str]] | None = None
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for path in paths:
            self._by_name[path.rpartition("/")[2]].append(path)
            self._by_stem[stem(path)].append(path)

    def scope_of(self, table: str) -> str:
        """Return the folder of a table, to which the paths in it are relative; nothing where no image lies below."""
        folder = table.rpartition("/")[0]
        below = any(path.startswith(f"{folder}/") for paths in self._by_name.values() for path in paths)
        return f"{folder}/" if folder and below else ""

    def found(self, written: str, scope: str) -> list[str]:
        """Paths below the folder `scope` that a table means by `written`."""
        name = re.sub(r"^(\./|/+|[A-Za-z]:/)+", "", written.strip().replace("\\", "/"))
        if not name or name.endswith("/"):
            return []
        if ".." in name.split("/"):
            name, scope = posixpath.normpath(scope + name), ""
            if name.startswith(".."):
                return []
        last = name.rpartition("/")[2]
        for table, plain in ((self._by_name, False), (self._by_stem, True)):
            paths = [path for path in table.get(last, ()) if path.startswith(scope)]
            exact = [path for path in paths if _agree(path, name, plain)]
            if whole := [path for path in exact if _pieces(path, plain) == f"{scope}{name}".split("/")]:
                return whole
            if exact:
                # The one with most in common, of equal names in several folders.
                most = max(_common(path, name, plain) for path in exact)
                return [path for path in exact if _common(path, name, plain) == most]
        return []

    def found_loosely(self, written: str, scope: str) -> list[str]:
        """Find the only path with the same name in other folders, with another ending, or in other letters."""
        if ".." in re.split(r"[/\\]", written):
            return []
        if self._loose is None:
            self._loose = defaultdict(list)
            for paths in self._by_stem.values():
                for path in paths:
                    self._loose[_loose(path)].append(path)
        found = [path for path in self._loose.get(_loose(written.strip()), ()) if path.startswith(scope)]
        return found if len(found) == 1 else []


def _loose(written: str) -> str:
    """Return the name in a path or address, without its ending, in one normal form and small letters."""
    plain = re.sub(r"^(\w+://.*?)[?#].*$", r"\1", written).replace("\\", "/")
    return unicodedata.normalize("NFC", stem(plain)).casefold()


def _pieces(path: str, plain: bool) -> list[str]:
    pieces = path.split("/")
    return [*pieces[:-1], stem(path)] if plain else pieces


def _common(path: str, name: str, plain: bool) -> int:
    ours, theirs = _pieces(path, plain)[::-1], name.split("/")[::-1]
    return next(
        (at for at, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs))
    )


def _agree(path: str, name: str, plain: bool) -> bool:
    """Whether one of the two ends with the other."""
    return _common(path, name, plain) == min(len(path.split("/")), len(name.split("/")))


Find = Callable[[str, str], list[str]]


class _Listing(NamedTuple):
    """A table that names images: by which column, how these are found, and below which folder."""

    name: str
    table: Table
    of: int
    find: Find
    scope: str


def read_tables(texts: Sequence[Text], paths: Sequence[str], file_bytes: int, without: str | None = None) -> Tables:
    """Read what `texts` tell of the images at `paths`; nothing of the column `without`, which names their inputs."""
    tables, images = Tables(), Images(paths)
    listings = []
    for text in sorted(texts, key=_rank):
        if text.size > file_bytes:
            tables.left[text.name] = "larger than preprocess.limits.file_bytes allow"
            continue
        if _SUBMISSION.search(text.name.rpartition("/")[2]):
            tables.left[text.name] = "an example of what a contest asks for, whose labels say nothing"
            continue
        if _LICENCES.fullmatch(text.name.rpartition("/")[2]):
            tables.left[text.name] = "licences of the pictures"
            continue
        table = parsed(text.name, text.read)
        if isinstance(table, str):
            tables.left[text.name] = table
            continue
        if without is not None and (column := table.column(without)) is not None:
            table = table.without(column)
        if (listing := _listing(text.name, table, images.scope_of(text.name), images, tables)) is not None:
            listings.append(listing)
    # Lists of training and held-out images together are splits, one alone is none.
    splits = roles_of(stem(listing.name) for listing in listings)
    for listing in listings:
        split = splits.get(stem(listing.name), (BY_CONTENT, ""))[0]
        _take(listing, split, tables)
    return tables


def _listing(name: str, table: Table, scope: str, images: Images, tables: Tables) -> _Listing | None:
    """Return how a table names images, or say why it names none."""
    find, of = images.found, column_of_names(table, scope, images.found)
    if of is None:
        find, of = images.found_loosely, column_of_names(table, scope, images.found_loosely, loosely=True)
        if of is None:
            tables.left[name] = "a table or text that names no image here"
            return None
        tables.notes.append(
            Note(f"{shown_name(name)}: folders, endings or letters of its names are others here, so names alone count")
        )
    return _Listing(name, _headed(table, of, lambda written: bool(find(written, scope))), of, find, scope)


def _rank(text: Text) -> tuple[int, str]:
    """Tables that are meant for this come first, and what they tell stands."""
    last = text.name.rpartition("/")[2].lower()
    order = ("labels.csv", "dataset.json", "metadata.csv", "metadata.jsonl", "metadata.parquet")
    return (order.index(last) if last in order else len(order)), text.name


def _take(listing: _Listing, split: int, tables: Tables) -> None:
    """Take what one table tells of images; `split` is what its name and those of others tell."""
    name, table, of, find, scope = listing
    reading = Reading.of(name, table, of, split)
    tables.notes += reading.notes
    role = role_of(stem(name))
    matched, several, other = 0, "", Counter[str]()
    for row in table.rows:
        written = row[of]
        found = _of_split(find(written, scope), BY_CONTENT if role is None else role[0])
        if not found:
            if is_promised(written) or reading.label is not None:
                outside = ".." in re.split(r"[/\\]", written)
                tables.missing.append((written, f"listed in {name}, but {_OUTSIDE if outside else _GONE}"))
            continue
        matched += 1
        several = several or (", ".join(found[:2]) if len(found) > 1 else "")
        for path in found:
            told = Told(reading.label_of(row), reading.split_of(row), name)
            if (contradicted := _tell(path, told, tables)) is not None:
                other[contradicted] += 1
    if several:
        words = f"names mean several images each, which it labels alike, as {shown_name(several)}"
        tables.notes.append(Note(f"{shown_name(name)}: {words}"))
    for before, count in other.items():
        words = f"not used are {count:,} labels, which are others than those of {shown_name(before)}"
        tables.notes.append(Note(f"{shown_name(name)}: {words}"))
    if role is not None and split == BY_CONTENT and len(table.rows[0]) == 1:
        words = "taken for no split, because training and held-out images need a list each"
        tables.notes.append(Note(f"{shown_name(name)}: {words}"))
    if matched:
        tables.used.append(name)


def _tell(path: str, told: Told, tables: Tables) -> str | None:
    """Keep what a table tells of an image; return the table before it whose label is another, and stays."""
    before = tables.told.get(path)
    if before is None:
        tables.told[path] = told
    elif told.table == before.table and told.label != before.label:
        # Several rows of one picture, as one for each thing that is seen in it.
        tables.told[path] = before._replace(label=None, several=True)
    elif before.label is None and not before.several and told.label is not None:
        tables.told[path] = Told(told.label, before.split or told.split, told.table)
    else:
        tables.told[path] = before._replace(split=before.split or told.split)
        if before.label is not None and told.label not in (None, before.label):
            return before.table
    return None


def _headed(table: Table, of: int, is_found: Callable[[str], bool]) -> Table:
    """Take a first row that names no image, where the others do, for the names of the columns."""
    if table.columns or len(table.rows) < 2 or is_found(table.rows[0][of]):
        return table
    rest = table.rows[1:SEEN]
    if is_promised(table.rows[0][of]) or sum(is_found(row[of]) for row in rest) < 0.9 * len(rest):
        return table
    return Table([cell.strip() for cell in table.rows[0]], table.rows[1:])


def _of_split(paths: list[str], split: int) -> list[str]:
    """Return those of several images that lie in folders of the split that a table's name states, if there are such."""
    if len(paths) < 2 or split == BY_CONTENT:
        return paths
    inside = [
        path for path in paths if any((role := role_of(piece)) and role[0] == split for piece in path.split("/")[:-1])
    ]
    return inside or paths


def column_of_names(table: Table, scope: str, find: Find, loosely: bool = False) -> int | None:
    """Return the column whose values are names of images, of half of the first rows or more; nearly all `loosely`."""
    rows = table.rows[:SEEN]
    best: tuple[float, int] | None = None
    for column in range(len(rows[0]) if rows else 0):
        share = sum(bool(find(row[column], scope)) for row in rows) / len(rows)
        known = column < len(table.columns) and table.columns[column].lower() in NAME_COLUMNS
        # Numbers that happen to be those of images are an index, if a column of names is there.
        least = 0.9 if loosely else 0.05 if known else 0.5
        if share >= least and (best is None or share + known > best[0]):
            best = share + known, column
    return best and best[1]
