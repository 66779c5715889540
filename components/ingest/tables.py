"""Tables that tell labels and splits of images that lie beside them, in whatever form people have them.

CSV and its kin with any separator, with or without names of columns; lists of names; JSON and JSON lines; Parquet
without images; StyleGAN's `dataset.json`. Which column names the images is told by their content.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..gan.errors import UserError
from ..workspace.text import printable, shortened
from .kinds import is_promised
from .names import LABEL_COLUMNS, NAME_COLUMNS, stem
from .parts import BY_CONTENT, HOLDOUT, TRAINING, Note
from .split_names import SPLITS, role_of
from .table_files import SEEN, Table, parsed

_OUTSIDE, _GONE = "lies outside the data", "there is no such file"
_SPLIT_COLUMNS = ("split", "set", "partition", "subset", "phase", "data_set", "dataset", "usage", "fold")
_MORE_LABELS = (
    "label_name",
    "class_name",
    "classid",
    "class_id",
    "breed",
    "species",
    "dx",
    "diagnosis",
    "category_name",
)


class Text(NamedTuple):
    """A file that may be such a table: its name below the data, and how its content is read."""

    name: str
    size: int
    read: Callable[[], bytes]


class Told(NamedTuple):
    """What a table tells of an image: its label (None: nothing), its split, and which table that is."""

    label: str | None
    split: int
    table: str


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
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for path in paths:
            self._by_name[path.rpartition("/")[2]].append(path)
            self._by_stem[stem(path)].append(path)

    def found(self, written: str, scope: str) -> list[str]:
        """Paths below the folder `scope` that a table means by `written`."""
        name = re.sub(r"^(\./|/+|[A-Za-z]:/)+", "", written.strip().replace("\\", "/"))
        if not name or name.endswith("/") or ".." in name.split("/"):
            return []
        last = name.rpartition("/")[2]
        for table, plain in ((self._by_name, False), (self._by_stem, True)):
            paths = [path for path in table.get(last, ()) if path.startswith(scope)]
            exact = [path for path in paths if _agree(path, name, plain)]
            if exact:
                # The one with most in common, of equal names in several folders.
                most = max(_common(path, name, plain) for path in exact)
                return [path for path in exact if _common(path, name, plain) == most]
        return []


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


def read_tables(texts: Sequence[Text], paths: Sequence[str], file_bytes: int) -> Tables:
    """Read what `texts` tell of the images at `paths`."""
    tables, images = Tables(), Images(paths)
    for text in sorted(texts, key=_rank):
        if text.size > file_bytes:
            tables.left[text.name] = "larger than preprocess.limits.file_bytes allow"
            continue
        table = parsed(text.name, text.read)
        if isinstance(table, str):
            tables.left[text.name] = table
            continue
        folder = text.name.rpartition("/")[0]
        scope = f"{folder}/" if folder and any(path.startswith(f"{folder}/") for path in paths) else ""
        _take(text.name, table, scope, images, tables)
    return tables


def _rank(text: Text) -> tuple[int, str]:
    """Tables that are meant for this come first, and what they tell stands."""
    last = text.name.rpartition("/")[2].lower()
    order = ("labels.csv", "dataset.json", "metadata.csv", "metadata.jsonl", "metadata.parquet")
    return (order.index(last) if last in order else len(order)), text.name


def _take(name: str, table: Table, scope: str, images: Images, tables: Tables) -> None:
    """Take what one table tells of images, or say why it tells nothing."""
    of = column_of_names(table, scope, images)
    if of is None:
        tables.left[name] = "a table or text that names no image here"
        return
    reading = _Reading.of(name, table, of)
    tables.notes += reading.notes
    matched = 0
    for row in table.rows:
        written = row[of]
        found = images.found(written, scope)
        if not found:
            if is_promised(written) or reading.label is not None:
                outside = ".." in re.split(r"[/\\]", written)
                tables.missing.append((written, f"listed in {name}, but {_OUTSIDE if outside else _GONE}"))
            continue
        matched += 1
        for path in found:
            _tell(path, Told(reading.label_of(row), reading.split_of(row), name), tables)
    if matched:
        tables.used.append(name)


def _tell(path: str, told: Told, tables: Tables) -> None:
    before = tables.told.get(path)
    if before is None:
        tables.told[path] = told
        return
    if told.table == before.table and told.label != before.label:
        # Several rows of one picture, as one for each thing that is seen in it.
        tables.told[path] = before._replace(label=None)
        return
    label = before.label if before.label is not None else told.label
    tables.told[path] = Told(label, before.split if before.split != BY_CONTENT else told.split, before.table)


def column_of_names(table: Table, scope: str, images: Images) -> int | None:
    """Return the column whose values are names of images, of half of the first rows or more."""
    rows = table.rows[:SEEN]
    best: tuple[float, int] | None = None
    for column in range(len(rows[0]) if rows else 0):
        share = sum(bool(images.found(row[column], scope)) for row in rows) / len(rows)
        known = column < len(table.columns) and table.columns[column].lower() in NAME_COLUMNS
        # Numbers that happen to be those of images are an index, if a column of names is there.
        if share >= (0.05 if known else 0.5) and (best is None or share + known > best[0]):
            best = share + known, column
    return best and best[1]


@dataclass
class _Reading:
    """Which columns of a table tell label and split."""

    label: int | None = None
    one_hot: dict[int, str] = field(default_factory=dict)
    split: int | None = None
    codes: Mapping[str, int] = field(default_factory=dict)
    whole: int = BY_CONTENT
    notes: list[Note] = field(default_factory=list)

    @classmethod
    def of(cls, name: str, table: Table, of: int) -> _Reading:
        reading, columns = cls(), [column.strip().lower() for column in table.columns]
        width = len(table.rows[0])
        others = [column for column in range(width) if column != of]
        role = role_of(stem(name))
        if role is not None and not table.columns and not others:
            reading.whole = role[0]
        if columns:
            reading._find_split(name, table, columns, others)
            others = [c for c in others if c != reading.split and not columns[c].startswith("unnamed:") and columns[c]]
        known = [c for c in others if columns and columns[c] in (*LABEL_COLUMNS, *_MORE_LABELS)]
        if known:
            reading.label = min(known, key=lambda c: (*LABEL_COLUMNS, *_MORE_LABELS).index(columns[c]))
        elif len(others) > 1 and reading._find_one_hot(table, others):
            others = []
        elif len(others) == 1 and _may_be_labels(table, others[0]):
            reading.label = others[0]
            if columns:
                reading.notes.append(Note(f"{_shown(name)}: labels are its column {_shown(table.columns[others[0]])}"))
        elif (
            not columns
            and len(words := [c for c in others if _may_be_labels(table, c) and not _numbers(table, c)]) == 1
        ):
            reading.label = words[0]
            reading.notes.append(
                Note(f"{_shown(name)}: labels are column {words[0] + 1}, because the others are numbers")
            )
        unused = [column for column in others if column != reading.label]
        if unused:
            named = [_shown(table.columns[column]) if columns else f"number {column + 1}" for column in unused[:8]]
            listed = shortened(", ".join(named))
            reading.notes.append(Note(f"{_shown(name)}: not used are its columns {listed}", guess=False))
        return reading

    def _find_split(self, name: str, table: Table, columns: Sequence[str], others: Sequence[int]) -> None:
        for column in others:
            if columns[column] not in _SPLIT_COLUMNS:
                continue
            values = {row[column].strip().lower() for row in table.rows}
            if values <= {*SPLITS, ""}:
                self.split, self.codes = column, {**SPLITS, "": BY_CONTENT}
            # As CelebA has it.
            elif columns[column] == "partition" and values <= {"0", "1", "2"}:
                self.split, self.codes = column, {"0": TRAINING, "1": SPLITS["val"], "2": HOLDOUT}
            elif columns[column] == "split":
                odd = next(value for value in sorted(values) if value not in SPLITS and value)
                raise UserError(
                    f"{_shown(name)} has the split {_shown(odd)!r}; use train, val, test or nothing, or "
                    "preprocess.splits: none"
                )

    def _find_one_hot(self, table: Table, others: Sequence[int]) -> bool:
        numbers = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}
        flags = [c for c in others if all(row[c].strip() in numbers for row in table.rows)]
        if len(flags) < 2 or not all(sum(numbers[row[c].strip()] for c in flags) == 1 for row in table.rows):
            return False
        self.one_hot = {c: table.columns[c].strip() if table.columns else str(c) for c in flags}
        return True

    def label_of(self, row: Sequence[str]) -> str | None:
        if self.one_hot:
            return next(name for column, name in self.one_hot.items() if row[column].strip() in ("1", "1.0"))
        if self.label is None:
            return None
        return re.sub(r"^(-?\d+)\.0$", r"\1", row[self.label].strip())

    def split_of(self, row: Sequence[str]) -> int:
        return self.whole if self.split is None else self.codes[row[self.split].strip().lower()]


def _may_be_labels(table: Table, column: int) -> bool:
    """Whether values repeat, as labels do; captions, sizes and times do not."""
    values = [row[column] for row in table.rows]
    return len({*values}) <= max(2, len(values) // 2)


def _numbers(table: Table, column: int) -> bool:
    return all(re.fullmatch(r"-?\d+(\.\d+)?", row[column].strip()) for row in table.rows)


def _shown(name: str) -> str:
    return shortened(printable(name), 60)
