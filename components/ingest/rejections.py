"""What is not used of the raw images, and why: `rejected.csv` and `left_out.csv`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..workspace.text import write_table
from .class_sizes import Classes
from .duplicates import Index
from .part_tables import PartTable
from .parts import Source
from .splits import LEFT_OUT, Sides

MAX_TABLE = 1_000_000
SAME_PIXELS, NEARLY_THE_SAME, SAME_INPUT = "same pixels as ", "nearly the same as ", "has the same input as "
OF_A_SMALL_CLASS = "its class has fewer than preprocess.min_class_images images"


class Rejected:
    """The tables of rejected images and of what is left out, and how many there were."""

    def __init__(self, source: Source) -> None:
        self.rows: list[tuple[str, str]] = []
        self.left_out = list(source.left_out)
        self.unreadable = self.duplicates = self.between_sides = 0
        self.first = ""
        for name, reason in source.rejected:
            self.add(name, reason)

    def add(self, name: str, reason: str) -> None:
        if reason.startswith(SAME_PIXELS):
            self.duplicates += 1
        elif reason.startswith((NEARLY_THE_SAME, SAME_INPUT)):
            self.between_sides += 1
        elif reason != OF_A_SMALL_CLASS:
            self.unreadable += 1
            self.first = self.first or f"{name}: {reason}"
            self.rows.append((name, reason))
            return
        self.left_out.append((name, reason))

    def write(self, folder: Path) -> None:
        """Write both tables, as far as somebody may want to read them."""
        write_table(folder / "rejected.csv", ("path", "reason"), self.rows[:MAX_TABLE])
        write_table(folder / "left_out.csv", ("path", "reason"), self.left_out[:MAX_TABLE])


def rejected_of(
    source: Source, tables: Sequence[PartTable], first_of: Index, rivals: Index, sides: Sides, classes: Classes
) -> Rejected:
    """Return the table of all that is left out, in the order of the source."""
    rejected = Rejected(source)
    starts = np.cumsum([0, *(len(table.rows) for table in tables)])
    inputs = np.concatenate([table.inputs for table in tables])
    out = (first_of != np.arange(len(first_of))) | (rivals >= 0) | (sides.codes == LEFT_OUT) | classes.dropped

    def name_of(index: int) -> str:
        number = int(np.searchsorted(starts, index, side="right")) - 1
        return source.parts[number].name(int(tables[number].rows[index - starts[number]]))

    def reason_of(index: int) -> str:
        if rivals[index] >= 0:
            return f"{SAME_PIXELS}{name_of(int(rivals[index]))}, under another label: both are left out"
        if first_of[index] != index:
            return f"{SAME_PIXELS}{name_of(int(first_of[index]))}"
        if classes.dropped[index]:
            return OF_A_SMALL_CLASS
        rival = sides.rivals[index]
        same = inputs.shape[1] and (inputs[index] == inputs[rival]).all()
        return f"{SAME_INPUT if same else NEARLY_THE_SAME}{name_of(rival)}, which stands on another side"

    for part, table, start in zip(source.parts, tables, starts[:-1], strict=True):
        found = {int(table.rows[i]): int(start + i) for i in np.flatnonzero(out[start : start + len(table.rows)])}
        if not found and not table.reasons:
            continue
        for row in sorted(found.keys() | table.reasons.keys()):
            if row in table.reasons:
                rejected.add(part.name(row), table.reasons[row])
            if row in found:
                rejected.add(part.name(row), reason_of(found[row]))
    return rejected


def of_pieces(
    source: Source, tables: Sequence[PartTable], repeated: npt.NDArray[np.bool_]
) -> Iterator[tuple[str, str]]:
    """Yield the photos that have pieces which equal others, and how many."""
    start = 0
    for part, table in zip(source.parts, tables, strict=True):
        rows, counts = np.unique(table.rows[repeated[start : start + len(table.rows)]], return_counts=True)
        for row, count in zip(rows.tolist(), counts.tolist(), strict=True):
            of = int((table.rows == row).sum())
            yield part.name(row), f"{count} of its {of} pieces: same pixels as other pieces"
        start += len(table.rows)
