"""Images that are the same: as they came, or as they were made, and pieces of photos that are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .duplicates import Index
from .part_tables import PartTable


def first_of_equal(tables: Sequence[PartTable]) -> Index:
    """Return for each image the first one with the same pixels, as they came or as they were made.

    Of pairs both pictures must be the same, for one picture may be made from several.
    """
    first = _first_with(_digests(tables))
    return first[_first_with(_identities(tables))[first]]


def same_in_pairs(tables: Sequence[PartTable]) -> tuple[Index, Index]:
    """Return for each pair the first one with the same target, and the first one with the same input."""
    digests, identities, inputs = (
        np.concatenate(column)
        for column in zip(*((table.digests, table.identities, table.inputs) for table in tables), strict=True)
    )
    first = _first_with(digests)
    return first[_first_with(identities)[first]], _first_with(inputs)


def _digests(tables: Sequence[PartTable]) -> npt.NDArray[np.uint64]:
    return np.concatenate([np.concatenate([table.digests, table.inputs], 1) for table in tables])


def _identities(tables: Sequence[PartTable]) -> npt.NDArray[np.uint64]:
    return np.concatenate([np.concatenate([table.identities, table.inputs], 1) for table in tables])


def first_of_equal_photos(tables: Sequence[PartTable], files: Index) -> Index:
    """Return for each piece itself, or the same piece of the first photo that is the same as its own."""
    starts = firsts(files)
    earliest = _first_with(_identities(tables)[starts])
    return starts[earliest[files]] + np.arange(len(files)) - starts[files]


def repeated_pieces(tables: Sequence[PartTable], first_of: Index) -> npt.NDArray[np.bool_]:
    """Whether a piece of a photo that counts equals an earlier one, as those of a black border do.

    That connects no photos: a white sky is in many.
    """
    counted = np.flatnonzero(first_of == np.arange(len(first_of)))
    first = _first_with(_digests(tables)[counted])
    repeated = np.zeros(len(first_of), bool)
    repeated[counted] = first != np.arange(len(counted))
    return repeated


def firsts(files: Index) -> Index:
    """Return the place of the first image of each file."""
    return np.flatnonzero(np.diff(files, prepend=-1))


def _first_with(keys: npt.NDArray[np.uint64]) -> Index:
    """Return for each of the keys (N, K) the place of the first that equals it."""
    # A stable sort puts the first of equal keys first.
    order = np.lexsort(keys.T[::-1])
    ordered = keys[order]
    new = np.ones(len(order), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(1)
    first_of = np.empty(len(order), np.int64)
    first_of[order] = order[np.flatnonzero(new)[np.cumsum(new) - 1]]
    return first_of


def rivals_of(first_of: Index, labels: npt.NDArray[np.int32]) -> Index:
    """Return for each image one with the same pixels and another label, by which neither can be used; -1 for none."""
    rivals = np.full(len(first_of), -1)
    other = np.flatnonzero(labels != labels[first_of])
    rivals[first_of[other]] = other
    rivals[other] = first_of[other]
    alike = (rivals < 0) & (rivals[first_of] >= 0)
    rivals[alike] = rivals[first_of[alike]]
    return rivals
