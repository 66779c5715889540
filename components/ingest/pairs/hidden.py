"""Which pictures of several classes show the same: those whose files have equal names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt

from ...gan.errors import UserError
from ..duplicates import Index
from ..names import stem
from ..part_tables import PartTable
from ..parts import Source
from .names import plain


def subjects_of(
    source: Source, tables: Sequence[PartTable], labels: npt.NDArray[np.int32], kept: npt.NDArray[np.bool_]
) -> Index:
    """Return a number for what each picture (N,) shows, equal for equal names; -1 where no other class has the name.

    A name that a class has twice tells nothing, and counts as none; nor do pictures that are not `kept`.

    Raises:
        UserError: no picture has a partner.
    """
    names = [
        plain(stem(PurePosixPath(part.name(int(row))).name))
        for part, table in zip(source.parts, tables, strict=True)
        for row in table.rows
    ]
    subjects = np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)
    found = np.full(len(names), -1)
    rows = np.flatnonzero(kept)
    _, place, times = np.unique(np.stack([subjects, labels], 1)[rows], axis=0, return_inverse=True, return_counts=True)
    classes = np.bincount(subjects[rows], minlength=len(names))
    twice = np.zeros(len(names), bool)
    twice[subjects[rows][times[place.reshape(-1)] > 1]] = True
    told = rows[(classes[subjects[rows]] > 1) & ~twice[subjects[rows]]]
    if not len(told):
        raise UserError(
            "preprocess.hidden_pairs: no picture of a class has the name of one of another class (none at all, or "
            "several): set it to false, or give pictures that show the same equal names"
        )
    found[told] = subjects[told]
    pairs = len(np.unique(found[told]))
    others = len(rows) - len(told)
    print(
        f"{'hidden pairs':<13}{pairs:,} names that several classes have: restyle is measured by them, and training is "
        f"not told" + (f"; {others:,} pictures without a partner" if others else ""),
        flush=True,
    )
    return found


def connected(subjects: Index) -> Index:
    """Return pairs (P, 2) that connect all pictures of each subject, of subjects (N,) as `subjects_of` gives them."""
    order = np.argsort(subjects, kind="stable")
    same = np.flatnonzero((subjects[order][1:] == subjects[order][:-1]) & (subjects[order][1:] >= 0))
    return np.stack([order[same], order[same + 1]], 1)
