"""Pictures that show the same in several classes, of which training is not told: what restyle should make of each."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..gan.dataset import Split
from ..measures.intervals import Values
from ..workspace.artifacts import Dataset

Index = npt.NDArray[np.int64]


def truths_of(dataset: Dataset, holdout: Split, rows: Index, wanted: Index) -> Index:
    """Return the places in the holdout of the pictures that those at `rows` (N,) should become, -1 for none: (N,).

    Known of data with hidden pairs alone.
    """
    found = np.full(len(rows), -1)
    file = dataset.folder / "holdout-subjects.npy"
    if not file.exists():
        return found
    subjects = np.load(file, allow_pickle=False)
    at = {
        (int(subject), int(label)): place
        for place, (subject, label) in enumerate(zip(subjects, holdout.labels, strict=True))
    }
    for row, (place, label) in enumerate(zip(rows, wanted, strict=True)):
        if subjects[place] >= 0:
            found[row] = at.get((int(subjects[place]), int(label)), -1)
    return found


def spread_out(values: Values, at: Index, count: int) -> Values:
    """Return values (n,) at these places of `count`, and nothing (NaN) at the others."""
    found = np.full(count, np.nan)
    found[at] = values
    return found
