"""What the columns of a table that names images tell: the label of each image, and its split."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..gan.errors import UserError
from ..workspace.text import printable, shortened
from .names import LABEL_COLUMNS
from .parts import BY_CONTENT, DEVELOPMENT, HOLDOUT, TRAINING, Note
from .split_names import SPLITS
from .table_files import Table

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
    "choice",
)


_LABEL_NAME = re.compile(r"_(label|class|category)(s|es)?$")
_FLAGS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}
# What flags say that are columns: of 0 and of 1.
_SPLIT_FLAGS = {
    **dict.fromkeys(("is_valid", "is_val", "is_validation"), (TRAINING, DEVELOPMENT)),
    **dict.fromkeys(("is_train", "is_training", "is_training_image"), (HOLDOUT, TRAINING)),
    "is_test": (TRAINING, HOLDOUT),
}
# What programs write where there is nothing.
_NOTHING = ("nan", "null", "<na>", "#n/a")


@dataclass
class Reading:
    """Which columns of a table tell label and split."""

    label: int | None = None
    one_hot: dict[int, str] = field(default_factory=dict)
    split: int | None = None
    codes: Mapping[str, int] = field(default_factory=dict)
    whole: int = BY_CONTENT
    notes: list[Note] = field(default_factory=list)

    @classmethod
    def of(cls, name: str, table: Table, of: int, whole: int) -> Reading:
        columns = [re.sub(r"[\s\-]+", "_", column.strip().lower()) for column in table.columns]
        reading = cls(whole=whole)
        others = [column for column in range(len(table.rows[0])) if column != of]
        reading._find_split(name, table, columns, others)
        others = [c for c in others if c != reading.split]
        if columns:
            others = [c for c in others if not columns[c].startswith("unnamed:") and columns[c]]
        known = [c for c in others if columns and columns[c] in (*LABEL_COLUMNS, *_MORE_LABELS)]
        # As `Finding Labels`.
        known = known or _only([c for c in others if columns and _LABEL_NAME.search(columns[c])])
        if known:
            reading.label = min(known, key=lambda c: _rank_of_label(columns[c]))
            if _joined(table, reading.label):
                words = (
                    f"its column {shown_name(table.columns[reading.label])} tells several labels of some images (a|b)"
                )
                reading.notes.append(Note(f"{shown_name(name)}: {words} and is not used"))
                others, reading.label = [c for c in others if c != reading.label], None
        elif len(others) > 1 and reading._find_one_hot(table, others):
            others = []
        elif len(others) == 1 and _may_be_labels(table, others[0]):
            reading.label = others[0]
            if columns:
                reading.notes.append(
                    Note(f"{shown_name(name)}: labels are its column {shown_name(table.columns[others[0]])}")
                )
        elif (
            not columns
            and len(texts := [c for c in others if _may_be_labels(table, c) and not _numbers(table, c)]) == 1
        ):
            reading.label = texts[0]
            reading.notes.append(
                Note(f"{shown_name(name)}: labels are column {texts[0] + 1}, because the others are numbers")
            )
        unused = [column for column in others if column != reading.label]
        if unused:
            named = [shown_name(table.columns[column]) if columns else f"number {column + 1}" for column in unused[:8]]
            listed = shortened(", ".join(named))
            reading.notes.append(Note(f"{shown_name(name)}: not used are its columns {listed}", guess=False))
        return reading

    def _find_split(self, name: str, table: Table, columns: Sequence[str], others: Sequence[int]) -> None:
        for column in others:
            title = columns[column] if columns else name.rpartition("/")[2].lower()
            values = {row[column].strip().lower() for row in table.rows}
            stated = {SPLITS[value] for value in values if value in SPLITS}
            whole = TRAINING in stated and len(stated) > 1
            if values <= {*SPLITS, ""} and (title in _SPLIT_COLUMNS or whole):
                self.split, self.codes = column, {**SPLITS, "": BY_CONTENT}
            # As CelebA has it.
            elif "partition" in title and values <= {"0", "1", "2"}:
                self.split, self.codes = column, {"0": TRAINING, "1": SPLITS["val"], "2": HOLDOUT}
            elif title in _SPLIT_FLAGS and values <= _FLAGS.keys():
                self.split = column
                self.codes = {value: _SPLIT_FLAGS[title][flag] for value, flag in _FLAGS.items()}
            elif title == "split":
                odd = next(value for value in sorted(values) if value not in SPLITS and value)
                raise UserError(
                    f"{shown_name(name)} has the split {shown_name(odd)!r}; use train, val, test or nothing, or "
                    "preprocess.splits: none"
                )
            if self.split is not None:
                return

    def _find_one_hot(self, table: Table, others: Sequence[int]) -> bool:
        flags = [c for c in others if all(row[c].strip().lower() in _FLAGS for row in table.rows)]
        if len(flags) < 2 or not all(sum(_FLAGS[row[c].strip().lower()] for c in flags) == 1 for row in table.rows):
            return False
        self.one_hot = {c: table.columns[c].strip() if table.columns else str(c) for c in flags}
        return True

    def label_of(self, row: Sequence[str]) -> str | None:
        if self.one_hot:
            return next(name for column, name in self.one_hot.items() if _FLAGS[row[column].strip().lower()])
        if self.label is None:
            return None
        label = row[self.label].strip()
        return "" if label.lower() in _NOTHING else re.sub(r"^(-?\d+)\.0$", r"\1", label)

    def split_of(self, row: Sequence[str]) -> int:
        return self.whole if self.split is None else self.codes[row[self.split].strip().lower()]


def _may_be_labels(table: Table, column: int) -> bool:
    """Whether values repeat, as labels do; captions, sizes and times do not."""
    values = [row[column] for row in table.rows]
    return min(2, len(values)) <= len({*values}) <= max(2, len(values) // 2)


def _joined(table: Table, column: int) -> bool:
    """Whether values are several labels at once, as `Cardiomegaly|Effusion` where others are `Effusion`."""
    values = {row[column] for row in table.rows}
    pieces = Counter(piece for value in values if "|" in value for piece in value.split("|"))
    return any(count > 1 or piece in values for piece, count in pieces.items())


def _only(columns: list[int]) -> list[int]:
    return columns if len(columns) == 1 else []


def _rank_of_label(column: str) -> int:
    order = (*LABEL_COLUMNS, *_MORE_LABELS)
    return order.index(column) if column in order else len(order)


def _numbers(table: Table, column: int) -> bool:
    return all(re.fullmatch(r"-?\d+(\.\d+)?", row[column].strip()) for row in table.rows)


def shown_name(name: str) -> str:
    """Return a name as messages show it."""
    return shortened(printable(name), 60)
