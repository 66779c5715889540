"""Groups of images that are nearly the same: saved again with losses, scaled, toned, cropped, or taken in one burst."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from .identity import SIDE, Pixels

Index = npt.NDArray[np.int64]

# 1 minus the correlation of two signatures, at most. Of the default digits, no two of which are the same, none is so
# near to another one (docs/evaluation.md).
DISTANCE = 0.005
# Grey levels of deviation below which a signature shows noise: such images are the same only where they are equal.
CONTRAST = 2.0
# Neighbours that are looked at in one round.
NEIGHBOURS = 16
ROUNDS = 4
# Frequencies, and followers in the order of each, by which crowds are found; members that are looked at of a crowd.
ORDERS, FOLLOWERS, CROWD = 6, 3, 2_000
_BLOCK = 2**14
# Frequencies of the signature by which neighbours are looked for, of which many images differ in the lowest.
_ORDER = 5


def near_pairs(signatures: Pixels) -> Index:
    """Return pairs (P, 2) of images with near signatures (N, views, SIDE * SIDE), enough of them to connect each group.

    Every pair is verified by all values, in whole numbers, so that every machine finds the same.
    """
    views = _Views(signatures)
    active = np.flatnonzero(views.contrast >= CONTRAST)
    active, equal = views.distinct(active)
    # First by few frequencies, which finds crowds: in them a search for all neighbours would not end.
    found = _neighbours_in_order(views, active)
    pairs = [equal, found[views.near(found, DISTANCE)]]
    for _ in range(ROUNDS):
        active = active[~_aside(views, active, np.concatenate(pairs))]
        found = _neighbours(views, active)
        pairs.append(found[views.near(found, DISTANCE)])
        # Who has as many as were looked at may have more.
        if np.bincount(pairs[-1].reshape(-1), minlength=1).max() < NEIGHBOURS:
            break
    found = views.owner[np.concatenate(pairs)]
    return np.asarray(np.unique(np.sort(found[found[:, 0] != found[:, 1]], 1), axis=0), np.int64)


def near_any(signatures: Pixels, known: Pixels) -> npt.NDArray[np.bool_]:
    """Whether each image is near one of the known ones, by their signatures (N, views, ...), (M, views, ...)."""
    from scipy.spatial import cKDTree  # type: ignore[import-untyped]

    new, old = _Views(signatures), _Views(known)
    rows = np.flatnonzero(old.contrast >= CONTRAST)
    found = np.zeros(len(signatures), bool)
    if not len(rows):
        return found
    tree = cKDTree(np.concatenate(list(old.low(rows))))
    asked = np.flatnonzero(new.contrast >= CONTRAST)
    for start, low in zip(range(0, len(asked), _BLOCK), new.low(asked), strict=True):
        _, nearest = tree.query(low, k=min(NEIGHBOURS, len(rows)), distance_upper_bound=_reach(DISTANCE))
        nearest = nearest.reshape(len(low), -1)
        ours, place = np.nonzero(nearest < len(rows))
        left, right = asked[start + ours], rows[nearest[ours, place]]
        near = _correlated(new.values(left), old.values(right), DISTANCE)
        found[new.owner[left[near]]] = True
    return found


def groups_of(pairs: Index, count: int) -> Index:
    """Return the number of the group of each of `count` images, which `pairs` connect."""
    from scipy.sparse import coo_array  # type: ignore[import-untyped]
    from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

    graph = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), (count, count))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


class _Views:
    """All views of all images as one list: first of each the whole, then of some the middle."""

    def __init__(self, signatures: Pixels) -> None:
        self._signatures = signatures
        count = len(signatures)
        owner, view = [np.arange(count)], [np.zeros(count, np.int64)]
        for number in range(1, signatures.shape[1]):
            other = np.flatnonzero((signatures[:, number] != signatures[:, 0]).any(1))
            owner.append(other)
            view.append(np.full(len(other), number))
        self.owner, self._view = np.concatenate(owner), np.concatenate(view)
        self.contrast = np.concatenate(
            [self.values(np.arange(start, min(start + _BLOCK, len(self)))).std(1) for start in self._starts(len(self))]
            or [np.empty(0)]
        )

    def __len__(self) -> int:
        return len(self.owner)

    def values(self, rows: Index) -> npt.NDArray[np.int32]:
        return self._signatures[self.owner[rows], self._view[rows]].astype(np.int32)

    def distinct(self, rows: Index) -> tuple[Index, Index]:
        """Return the first ones of equal values among `rows`, and pairs of all others with these."""
        weights = np.random.default_rng(0).integers(0, 2**64, SIDE * SIDE, np.uint64, endpoint=False)
        keys = np.concatenate(
            [
                (self.values(rows[start : start + _BLOCK]).astype(np.uint64) * weights).sum(1)
                for start in self._starts(len(rows))
            ]
            or [np.empty(0, np.uint64)]
        )
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        pairs = np.stack([rows[first[inverse]], rows], 1)
        return rows[np.sort(first)], pairs[pairs[:, 0] != pairs[:, 1]]

    def low(self, rows: Index) -> Iterator[npt.NDArray[np.float64]]:
        """Yield the lowest frequencies of the values without their mean and contrast: no distance grows by that."""
        basis = _basis()
        for start in self._starts(len(rows)):
            values = self.values(rows[start : start + _BLOCK]).astype(np.float64)
            values -= values.mean(1, keepdims=True)
            yield (values @ basis) / np.linalg.norm(values, axis=1, keepdims=True)

    def near(self, pairs: Index, distance: float) -> npt.NDArray[np.bool_]:
        return np.concatenate(
            [
                _correlated(self.values(part[:, 0]), self.values(part[:, 1]), distance)
                for part in (pairs[start : start + _BLOCK] for start in self._starts(len(pairs)))
            ]
            or [np.empty(0, bool)]
        )

    @staticmethod
    def _starts(count: int) -> range:
        return range(0, count, _BLOCK)


def _correlated(a: npt.NDArray[np.int32], b: npt.NDArray[np.int32], distance: float) -> npt.NDArray[np.bool_]:
    """Whether signatures (P, SIDE * SIDE) have a correlation of at least 1 - distance, by sums of whole numbers."""

    def covariance(x: npt.NDArray[np.int32], y: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        products = np.einsum("ij,ij->i", x, y).astype(np.int64)
        return np.asarray(SIDE * SIDE * products - x.sum(1, dtype=np.int64) * y.sum(1, dtype=np.int64))

    common, own = covariance(a, b), (covariance(a, a), covariance(b, b))
    least = (1 - distance) ** 2 * (own[0].astype(np.float64) * own[1])
    return np.asarray((common > 0) & (common.astype(np.float64) ** 2 >= least))


def _neighbours(views: _Views, rows: Index) -> Index:
    """Return pairs (P, 2) of rows that may be near: of each at most its nearest ones by the lowest frequencies."""
    from scipy.spatial import cKDTree

    if len(rows) < 2:
        return np.empty((0, 2), np.int64)
    tree = cKDTree(np.concatenate(list(views.low(rows))))
    count = min(NEIGHBOURS + 1, len(rows))
    pairs = [np.empty((0, 2), np.int64)]
    for start in range(0, len(rows), _BLOCK):
        low = tree.data[start : start + _BLOCK]
        _, nearest = tree.query(low, k=count, distance_upper_bound=_reach(DISTANCE), workers=-1)
        ours, place = np.nonzero(nearest < len(rows))
        found = np.sort(np.stack([start + ours, nearest[ours, place]], 1), 1)
        pairs.append(np.unique(found[found[:, 0] != found[:, 1]], axis=0))
    return rows[np.unique(np.concatenate(pairs), axis=0)]


def _neighbours_in_order(views: _Views, rows: Index) -> Index:
    """Return pairs (P, 2) of rows that may be near, among those that follow each other by one of the frequencies."""
    low = np.concatenate([*views.low(rows), np.empty((0, len(_basis()[0])))]).astype(np.float32)
    pairs = [np.empty((0, 2), np.int64)]
    for frequency in range(ORDERS):
        order = np.argsort(low[:, frequency], kind="stable")
        for apart in range(1, FOLLOWERS + 1):
            one, other = order[:-apart], order[apart:]
            near = np.concatenate(
                [
                    np.square(low[one[start : start + _BLOCK]] - low[other[start : start + _BLOCK]]).sum(1)
                    for start in range(0, len(one), _BLOCK)
                ]
                or [np.empty(0)]
            ) <= 2 * DISTANCE * (1 + 1e-3)
            pairs.append(np.stack([one[near], other[near]], 1))
    return rows[np.unique(np.sort(np.concatenate(pairs), 1), axis=0)]


def _aside(views: _Views, rows: Index, pairs: Index) -> npt.NDArray[np.bool_]:
    """Which rows their group can do without: those that all but equal its first one, and more than CROWD of them."""
    groups = groups_of(pairs, len(views))
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    leader = first[inverse][rows]
    aside = (leader != rows) & views.near(np.stack([rows, leader], 1), DISTANCE / 4)
    left = np.flatnonzero(~aside)
    order = left[np.argsort(groups[rows[left]], kind="stable")]
    sizes = np.bincount(groups[rows[order]], minlength=1)
    ranks = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    # Evenly over the group, in the order of the data.
    every = -(-np.repeat(sizes, sizes) // CROWD)
    aside[order[ranks % every != 0]] = True
    return np.asarray(aside, bool)


def _reach(distance: float) -> float:
    """Return how far apart vectors of length 1 with such a correlation are, and a little more for rounding."""
    return math.sqrt(2 * distance) * (1 + 1e-6)


def _basis() -> npt.NDArray[np.float64]:
    """Orthonormal cosines (SIDE * SIDE, F) of the lowest frequencies, without the mean."""
    from scipy.fft import dct  # type: ignore[import-untyped]

    waves = dct(np.eye(SIDE), norm="ortho", axis=0)
    chosen = [(i, j) for i in range(_ORDER + 1) for j in range(_ORDER + 1 - i) if i or j]
    return np.stack([np.outer(waves[i], waves[j]).reshape(-1) for i, j in chosen], 1)
