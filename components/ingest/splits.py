"""On which side each image stands: training, development or holdout.

Every image has a *place*, a number by which its side is decided. It is drawn from the image's own identity, unless the
image belongs to a group of nearly the same ones: then all have the place of one of them, of those that an earlier data
set held, or else of the one that a hash chooses. So no image that has a side moves as data are added.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..gan.errors import DamagedError, NotThereError
from ..workspace.artifacts import Dataset
from .decoding import digest_of
from .duplicates import Index, groups_of
from .part_tables import PartTable
from .parts import BY_CONTENT, DEVELOPMENT, HOLDOUT, TRAINING, Source

Codes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.uint64]
SPLIT_NAMES: Mapping[int, str] = {TRAINING: "training", DEVELOPMENT: "development", HOLDOUT: "holdout"}
# Where a group is named for several sides: what is trained on is so whatever stands elsewhere, and few are held out.
_STRONGEST = (TRAINING, HOLDOUT, DEVELOPMENT)
LEFT_OUT = 255


class Known(NamedTuple):
    """What an earlier data set held: identities (K, 2), or digests of pixels where it knew no identities, and places.

    Where `groups` it parted no group, so that what stood on one side then does so for good.
    """

    keys: npt.NDArray[np.uint64]
    places: Places
    groups: bool

    @classmethod
    def of(cls, folder: Path) -> Known:
        """Return what the data set in `folder` held, which is nothing where there is none."""
        try:
            dataset = Dataset.load(folder)
        except (NotThereError, DamagedError):
            return cls(np.empty((0, 2), np.uint64), np.empty(0, np.uint64), groups=True)
        files = [(folder / f"{name}-identities.npy", folder / f"{name}-places.npy") for name in dataset.splits]
        if all(file.name in dataset.files for pair in files for file in pair):
            keys, places = (
                [np.load(file, allow_pickle=False) for file in column] for column in zip(*files, strict=True)
            )
            return cls(np.concatenate(keys), np.concatenate(places), groups=True)
        digests = np.frombuffer(b"".join(_digests(dataset)), "<u8").reshape(-1, 2)
        return cls(digests, digests[:, 0].byteswap(), groups=False)

    def places_of(self, tables: Sequence[PartTable]) -> tuple[Places, npt.NDArray[np.bool_]]:
        """Return the place of each image, and whether it is known: else it is drawn from its identity."""
        identities = np.concatenate([table.identities for table in tables])
        keys = identities if self.groups else np.concatenate([table.digests for table in tables])
        places, kind = identities[:, 0].byteswap(), np.dtype((np.void, 16))
        ours, theirs = (np.ascontiguousarray(each).view(kind).reshape(-1) for each in (keys, self.keys))
        order = np.argsort(theirs, kind="stable")
        found = np.searchsorted(theirs[order], ours) if len(order) else np.zeros(len(ours), np.int64)
        at = order[np.minimum(found, len(order) - 1)] if len(order) else found
        known = theirs[at] == ours if len(order) else np.zeros(len(ours), bool)
        places[known] = self.places[at[known]]
        return places, known


class Sides(NamedTuple):
    """For each image its side, one of `SPLIT_NAMES` or `LEFT_OUT`, its place, and the number of its group.

    `rivals`: for each image that is left out one of its group that stands elsewhere.
    """

    codes: Codes
    places: Places
    groups: Index
    rivals: Mapping[int, int]


class Named(NamedTuple):
    """The splits that the data name (N,), as codes of `parts`; whether holdout and development are among them."""

    codes: Codes
    holdout: bool
    development: bool

    @classmethod
    def of(cls, source: Source, tables: Sequence[PartTable]) -> Named:
        """Return what the data say of each image."""
        codes = np.concatenate([part.splits[table.rows] for part, table in zip(source.parts, tables, strict=True)])
        found = {int(code) for part in source.parts for code in np.unique(part.splits)}
        # A name for training alone says nothing of what is held out.
        given = HOLDOUT in found
        return cls(codes if given else np.full_like(codes, BY_CONTENT), given, DEVELOPMENT in found)


class Shares(NamedTuple):
    """Which share of the images is held out, and which of the rest is for development."""

    holdout: float
    development: float

    def side(self, places: Places, named: Codes, development: bool) -> Codes:
        """Return the sides of images at these places: where they are `named`, as they are.

        `development`: there is a split of that name, so that none is taken from training.
        """
        held = (named == HOLDOUT) | ((named == BY_CONTENT) & (places < np.uint64(int(self.holdout * 2**64))))
        chosen = np.zeros(len(places), bool) if development else mixed(places) < int(self.development * 2**64)
        side = np.where(held, HOLDOUT, np.where((named == DEVELOPMENT) | chosen, DEVELOPMENT, TRAINING))
        return side.astype(np.uint8)


def files_of(tables: Sequence[PartTable]) -> Index:
    """Return the number of the file of each image (N,), in order from 0."""
    new = [np.diff(table.rows, prepend=-1) != 0 for table in tables]
    return np.cumsum(np.concatenate([np.empty(0, bool), *new])) - 1


def file_pairs(files: Index) -> Index:
    """Return pairs (P, 2) of images of one of the files (N,).

    Frames of one animation are too alike to be parted, and pieces of one photo tell what is beside them.
    """
    same = np.flatnonzero(files[1:] == files[:-1])
    return np.stack([same, same + 1], 1)


def decide(
    tables: Sequence[PartTable], named: Named, kept: npt.NDArray[np.bool_], pairs: Index, known: Known, shares: Shares
) -> Sides:
    """Decide on which side each image stands; `pairs` connect those that belong together, the dropped ones as well."""
    places, fixed = known.places_of(tables)
    # What was dropped says nothing but its place.
    codes = np.where(kept, named.codes, np.uint8(BY_CONTENT))
    chance = np.concatenate([table.identities[:, 1] for table in tables])
    groups = groups_of(pairs, len(places))
    rivals: dict[int, int] = {}
    left_out = np.zeros(len(places), bool)
    for members in _groups_of_many(groups):
        names = {int(code) for code in codes[members]} - {BY_CONTENT}
        if names:
            name = next(code for code in _STRONGEST if code in names)
            winner = members[codes[members] == name][0]
            losers = members[(codes[members] != name) & (codes[members] != BY_CONTENT)]
            left_out[losers] = True
            rivals |= dict.fromkeys(losers.tolist(), int(winner))
            codes[members] = name
        old = members[fixed[members]]
        among = old if len(old) else members
        place = places[among[chance[among].argmin()]]
        sides = shares.side(places[old], codes[old], named.development)
        if not known.groups or names or len(np.unique(sides)) < 2:
            free = members[~fixed[members]] if known.groups and not names else members
            places[free] = place
        else:
            settled = _settle(members, dict(zip(old.tolist(), sides.tolist(), strict=True)), pairs, places)
            rivals |= settled
            left_out[list(settled)] = True
    sides = shares.side(places, codes, named.development)
    sides[left_out] = LEFT_OUT
    return Sides(sides, places, groups, rivals)


def _settle(members: Index, sides: dict[int, int], pairs: Index, places: Places) -> dict[int, int]:
    """Let newcomers join the side of their neighbours, in `places`; return those near two sides, with a neighbour.

    `sides`: of the members that have one. Of two of these that are neighbours on two sides the weaker is left out.
    """
    inside = np.isin(pairs, members).all(1)
    near: dict[int, list[int]] = {int(member): [] for member in members}
    for one, other in pairs[inside].tolist():
        near[one].append(other)
        near[other].append(one)
    out: dict[int, int] = {}

    def rival_of(image: int, side: int) -> int | None:
        return next((each for each in near[image] if each not in out and sides.get(each, side) != side), None)

    for image in sorted(sides, key=lambda each: (-_STRONGEST.index(sides[each]), each)):
        if (rival := rival_of(image, sides[image])) is not None:
            out[image] = rival
    waiting = sorted(near.keys() - sides.keys())
    while waiting:
        later = []
        for image in waiting:
            settled = [each for each in near[image] if each in sides and each not in out]
            if not settled:
                later.append(image)
            elif (rival := rival_of(image, sides[settled[0]])) is not None:
                out[image] = rival
            else:
                sides[image], places[image] = sides[settled[0]], places[settled[0]]
        if len(later) == len(waiting):
            # Only what is left out led to them: they are a group of their own.
            places[later] = places[later[0]]
            break
        waiting = later
    return out


def _groups_of_many(groups: Index) -> list[Index]:
    """Return the members of each group of more than one."""
    order = np.argsort(groups, kind="stable")
    sizes = np.bincount(groups)
    ends = np.cumsum(sizes)
    return [order[end - size : end] for end, size in zip(ends.tolist(), sizes.tolist(), strict=True) if size > 1]


def mixed(places: Places) -> Places:
    """Return other numbers of as many bits, which say nothing of the first (the finaliser of SplitMix64)."""
    mixed = places + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _digests(dataset: Dataset) -> Iterator[bytes]:
    """Yield what tables call an image of this data set by its pixels."""
    shards = (shard for name in dataset.splits for shard in sorted(dataset.folder.glob(f"{name}-[0-9]*.npy")))
    for shard in shards:
        for image in np.load(shard, mmap_mode="r", allow_pickle=False):
            grey = image[:, :, :1]
            # Grey images of a data set with colour have one channel in their table.
            yield digest_of(grey if image.shape[2] > 1 and (image == grey).all() else image)
