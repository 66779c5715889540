"""What raw data mean as a whole: which images there are, of which class and split, and what is left out, and why.

What an image's own archive or table states comes first, then other tables, then folders, then names of files.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..gan.errors import UserError
from ..workspace.params import Preprocess
from ..workspace.text import printable, shortened, shown
from .layout import MASKS, Layout, class_in_name, read_layout
from .masks import masks_beside
from .names import piece_name
from .pairs.pairing import with_inputs
from .parts import BY_CONTENT, DEVELOPMENT, HOLDOUT, NO_LABEL, Builder, Note, Part, Source, natural, rows_of
from .tables import Tables, Text, read_tables

# Tables with these names are meant to tell the classes, whatever part of the images they list.
_MEANT = ("labels.csv", "dataset.json", "metadata.csv", "metadata.jsonl", "metadata.parquet")
_NO_ENTRY = "is listed in no table, others beside it are"
_NO_LABEL = "has no label"
# So much of a table is looked at to tell whether it has images in it.
_HEAD = 100_000


def understood(builder: Builder, kind: str, texts: Sequence[Text], options: Preprocess) -> Source:
    """Return the images that `builder` collected, with class and split of each.

    Raises:
        UserError: there are none, or two readings of them contradict each other.
    """
    parts = builder.parts()
    if not parts:
        for text in texts:
            builder.leave_out(text.name, _of_pixels(text) or "a text or table without images beside it")
        raise UserError(_nothing(builder))
    # A table may name what has no partner, of which is said so once.
    everything = [path for part in parts for path in part.paths()]
    if options.halves:
        builder.pairs = f"two halves of each picture, of which the {options.input} one is the input"
    elif options.input is not None:
        parts = with_inputs(parts, texts, builder, options.input)
    folders = Counter(path.rpartition("/")[0] for part in parts for path in part.paths())
    archives = sorted({piece_name(part.archive) for part in parts if part.archive})
    layout = read_layout(folders, _Names(parts), options.labels, options.splits == "auto", archives)
    tables = _tables(texts, everything, layout, options, builder)
    if tables.labelled:
        _check_whole(tables, parts, options)
    return _Placing(builder, layout, tables, options).source(kind, parts)


def _of_pixels(text: Text) -> str:
    """Return what to do with a table whose rows are images, number by number; empty for another one."""
    head, row = (*text.read()[:_HEAD].decode("utf-8", "replace").splitlines()[:2], "", "")[:2]
    numbers = re.findall(r"(?<![^,;\s\"])\d{1,3}(?![^,;\s\"])", row)
    if len(numbers) < 64 and not re.search(r"\bpixels?\b", head, re.IGNORECASE):
        return ""
    return "a table of pixels, which is not read: write its rows as PNG files, or as an array in an .npz file"


def _nothing(builder: Builder) -> str:
    """Return why there are no images, with what was found."""
    rows = (*builder.rejected, *builder.left_out)
    reasons, first = Counter(reason for _, reason in rows), {reason: name for name, reason in reversed(rows)}
    most = reasons.most_common(3)
    listed = (
        "; ".join(f"{count:,} x {reason}, as {shortened(first[reason], 60)}" for reason, count in most) or "nothing"
    )
    return (
        f"{shown(os.fsencode(builder.root))} holds no images that ganflow can read (found: {shortened(listed, 400)}): "
        "put folders of images, an IDX pair, a zip or tar of images, Parquet files with image bytes, or a labels.csv "
        "there"
    )


class _Names:
    """The names of the files of each folder, listed when they are first asked for."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._by_folder: dict[str, list[str]] = defaultdict(list)

    def __call__(self, folder: str) -> list[str]:
        if not self._by_folder:
            for part in self._parts:
                for path in part.paths():
                    above, _, name = path.rpartition("/")
                    self._by_folder[above].append(name)
        return self._by_folder[folder]


def _tables(
    texts: Sequence[Text], paths: Sequence[str], layout: Layout, options: Preprocess, builder: Builder
) -> Tables:
    """Read the tables that may tell labels; what is no such table is left out."""
    if options.labels in ("none", "folders", "innermost", "names"):
        for text in texts:
            builder.leave_out(text.name, "a table or text, which preprocess.labels does not ask for")
        return Tables()
    # As many texts as images are annotations of single images.
    by_folder: dict[str, list[Text]] = defaultdict(list)
    for text in texts:
        by_folder[text.name.rpartition("/")[0]].append(text)
    asked = []
    for found in by_folder.values():
        if len(found) <= 20:
            asked += found
            continue
        meant = [text for text in found if text.name.rpartition("/")[2].lower() in _MEANT]
        asked += meant
        for text in found:
            if text not in meant:
                builder.leave_out(text.name, "one of many texts in a folder: an annotation, which is not used")
    # Masks have the names of their pictures.
    masks = {folder for folder, placed in layout.placed.items() if placed.why.startswith(MASKS)}
    paths = [path for path in paths if path.rpartition("/")[0] not in masks]
    tables = read_tables(asked, paths, options.limits.file_bytes, options.input)
    if tables.used and not tables.labelled:
        tables.notes.append(
            Note(
                f"{printable(', '.join(tables.used[:3]))}: no column says one class for each image; give the classes "
                "by a labels.csv with the columns path and label",
                guess=False,
            )
        )
    for name, why in tables.left.items():
        builder.leave_out(name, why)
    for name, why in tables.missing:
        builder.reject(name, why)
    return tables


def _check_whole(tables: Tables, parts: Sequence[Part], options: Preprocess) -> None:
    """Refuse a table that lists some images of a folder and others not, unless it is said what shall be used.

    A small table that only happens to name images is dropped.
    """
    if options.source == "table":
        return
    listed: dict[str, Counter[str]] = defaultdict(Counter)
    unlisted = Counter[str]()
    for part in parts:
        for path in part.paths():
            folder, told = path.rpartition("/")[0], tables.told.get(path)
            if told is None:
                unlisted[folder] += 1
            else:
                listed[told.table][folder] += 1
    for table, folders in listed.items():
        beside, count = sum(unlisted[folder] for folder in folders), folders.total()
        if not beside:
            continue
        if table.rpartition("/")[2].lower() in _MEANT or count >= beside:
            raise UserError(
                f"{printable(table)} lists {count:,} images, and {beside:,} others lie in the same folders: "
                "preprocess.source: table uses those that are listed, preprocess.labels: folders the classes of the "
                "folders"
            )
        tables.notes.append(Note(f"{printable(table)} names only {count:,} images of more and is not used"))
        tables.told = {path: told for path, told in tables.told.items() if told.table != table}


class _Placing:
    """Gives each image its class and split."""

    def __init__(self, builder: Builder, layout: Layout, tables: Tables, options: Preprocess) -> None:
        self._builder, self._layout, self._tables, self._options = builder, layout, tables, options
        self._classes: dict[str, int] = {}
        self._stated = {number: name for name, number in builder.labels.items()}
        self._folders_too = False
        self._unlisted = 0

    def source(self, kind: str, parts: Sequence[Part]) -> Source:
        by_table = self._table_decides(parts)
        masks = self._masks(parts)
        kept: list[Part] = []
        for part in parts:
            rows, labels, splits = [], [], []
            for row, path in enumerate(part.paths()):
                placed = self._of(part, row, path, by_table, masks)
                if placed is not None:
                    rows.append(row)
                    labels.append(self._classes.setdefault(printable(placed[0]), len(self._classes)))
                    splits.append(placed[1])
            if rows:
                kept.append(rows_of(part, len(kept), rows, labels, splits))
        if not kept:
            raise UserError(_nothing(self._builder))
        if self._unlisted:
            self._builder.notes.append(Note(f"{self._unlisted:,} images that no table lists are left out"))
        return self._sorted(kind, kept)

    def _table_decides(self, parts: Sequence[Part]) -> bool:
        """Whether labels are those of tables; where folders say the same, theirs are the names that people know."""
        if not self._tables.labelled:
            return False
        pairs = {
            (told.label, self._layout.placed[path.rpartition("/")[0]].label)
            for path, told in self._tables.told.items()
            if told.label is not None
        }
        folders, labels = {folder for _, folder in pairs}, {label for label, _ in pairs}
        if len(pairs) == len(folders) == len(labels) and None not in folders:
            return False
        # Images of other folders may have the same classes by the names of their folders.
        self._folders_too = bool(labels & {placed.label for placed in self._layout.placed.values()})
        if folders - {None} and not self._folders_too:
            self._builder.notes.append(
                Note(
                    f"classes are those of {printable(', '.join(self._tables.used[:2]))} and not the folders; "
                    "`preprocess.labels: folders` takes the folders"
                )
            )
        return True

    def _masks(self, parts: Sequence[Part]) -> set[str]:
        """Paths of masks that lie beside their pictures."""
        by_folder: dict[str, list[str]] = defaultdict(list)
        for part in parts:
            for row, path in enumerate(part.paths()):
                if part.labels[row] == NO_LABEL:
                    folder, _, name = path.rpartition("/")
                    by_folder[folder].append(name)
        return {
            f"{folder}/{name}" if folder else name
            for folder, names in by_folder.items()
            for name in masks_beside(names)
        }

    def _of(self, part: Part, row: int, path: str, by_table: bool, masks: set[str]) -> tuple[str, int] | None:
        """Return class and split of an image, or put it into a table with the reason why it is not used."""
        builder, placed = self._builder, self._layout.placed[path.rpartition("/")[0]]
        split = int(part.splits[row]) or (placed.split if self._options.splits == "auto" else BY_CONTENT)
        if (number := int(part.labels[row])) != NO_LABEL:
            return self._stated[number], split
        if part.archive in builder.stating:
            builder.reject(part.name(row), _NO_LABEL)
            return None
        if path in masks:
            builder.leave_out(part.name(row), "a mask, or the like, of the picture beside it")
            return None
        if placed.why.startswith(MASKS):
            builder.leave_out(part.name(row), placed.why)
            return None
        told = self._tables.told.get(path)
        if told is not None and told.split != BY_CONTENT and self._options.splits == "auto":
            split = told.split
        if by_table:
            return self._by_table(part, row, path, split)
        if placed.why:
            builder.leave_out(part.name(row), placed.why, lost=True)
            return None
        if self._layout.by_name:
            word = class_in_name(path)
            if word is None:
                builder.reject(part.name(row), "its name tells no class")
                return None
            return word, split
        return placed.label if placed.label is not None else self._layout.alone, split

    def _by_table(self, part: Part, row: int, path: str, split: int) -> tuple[str, int] | None:
        told, placed = self._tables.told.get(path), self._layout.placed[path.rpartition("/")[0]]
        if (told is None or told.label is None) and self._folders_too and placed.label is not None:
            return placed.label, split
        if told is None or (told.label is None and not told.several):
            self._builder.leave_out(part.name(row), _NO_ENTRY, lost=True)
            self._unlisted += 1
        elif not told.label:
            why = _NO_LABEL if told.label == "" else "has several labels in a table"
            self._builder.reject(part.name(row), why)
        elif len(told.label) > self._builder.limits.label_length:
            self._builder.reject(part.name(row), f"its class has a name of {len(told.label):,} letters")
        else:
            return printable(told.label), split
        return None

    def _sorted(self, kind: str, parts: list[Part]) -> Source:
        """Return the source with its classes in the order of their names, numbers as numbers, or as the data state."""
        order = self._builder.order or ()
        classes = [*order, *sorted(self._classes.keys() - {*order}, key=natural)]
        places = {name: place for place, name in reversed([*enumerate(classes)])}
        position = np.array([places[name] for name in self._classes], np.int32)
        sorted_parts = [replace(part, labels=position[part.labels]) for part in parts]
        if not any((part.splits == HOLDOUT).any() for part in sorted_parts):
            # Where one set is kept from training, it is what models are judged by.
            sorted_parts = [
                replace(part, splits=np.where(part.splits == DEVELOPMENT, HOLDOUT, part.splits).astype(np.uint8))
                for part in sorted_parts
            ]
        builder = self._builder
        notes = [*builder.notes, *self._tables.notes, *self._layout.notes, *_alike(classes)]
        names = tuple(name or "image" for name in classes)
        tables = sorted({told.table for told in self._tables.told.values() if told.label is not None})
        return Source(
            kind, names, sorted_parts, builder.rejected, builder.left_out, notes, builder.lost, tables, builder.pairs
        )


def _alike(classes: Sequence[str]) -> list[Note]:
    """Say which names of classes look the same, or differ by capitals alone."""
    import unicodedata

    groups: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        groups[unicodedata.normalize("NFKC", name).casefold().strip()].append(name)
    return [
        Note(f"classes whose names look alike are kept apart: {', '.join(map(ascii, names))}")
        for names in groups.values()
        if len(names) > 1
    ]
