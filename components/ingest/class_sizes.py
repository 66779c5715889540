"""Classes of few images: which are left out, and that each of the others has some to train on and is counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..gan.errors import UserError
from ..workspace.text import shortened
from .duplicates import Index
from .parts import BY_CONTENT, TRAINING
from .splits import LEFT_OUT, Named, Places, Shares, Sides, mixed

# Of fewer held-out images no neighbourhood of three can be measured (Kynkaanniemi et al. 2019).
MIN_TRAINING_IMAGES, MIN_HELD_OUT = 32, 4
Labels = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]


class Classes(NamedTuple):
    """Names of the classes that are used, the label of each image, and of the others their images, in `small`.

    `labels` count among `names`; of an image whose class is left out it is -1.
    """

    names: tuple[str, ...]
    labels: Labels
    small: Mapping[str, int]
    dropped: Mask


def large_enough(names: Sequence[str], labels: Labels, kept: Mask, least: int) -> Classes:
    """Leave out the classes with fewer than `least` images among those `kept`, and those with none at all.

    Raises:
        UserError: this leaves no class.
    """
    counts = np.bincount(labels[kept], minlength=len(names))
    used = counts >= max(1, least)
    if not counts.any():
        raise UserError("no distinct images are left: a picture under two labels is used under neither, so add images")
    if not used.any():
        most = shortened(names[int(counts.argmax())])
        raise UserError(
            f"no class has preprocess.min_class_images = {least} images (the most, {counts.max():,}, has {most}): "
            "lower it"
        )
    small = {name: int(count) for name, count, use in zip(names, counts, used, strict=True) if not use}
    position = np.where(used, np.cumsum(used) - 1, -1).astype(np.int32)
    names = tuple(name for name, use in zip(names, used, strict=True) if use)
    return Classes(names, position[labels], small, kept & ~used[labels])


def with_every_class(
    sides: Sides, classes: Classes, kept: Mask, named: Named, shares: Shares
) -> tuple[Sides, dict[str, int]]:
    """Give training one group of each class that it has no image of, and return how many images that moves of each.

    Their place moves with them, so that they stay there as images are added.

    Raises:
        UserError: the data name another split for all images of a class.
    """
    codes, places = sides.codes.copy(), sides.places.copy()
    # Where the data name another split for one of a group, they do for all of it.
    stated = np.unique(sides.groups[kept & ~np.isin(named.codes, (BY_CONTENT, TRAINING))])
    free = kept & (codes != LEFT_OUT) & ~np.isin(sides.groups, stated)
    trained = np.bincount(classes.labels[kept & (codes == TRAINING)], minlength=len(classes.names))
    moved: dict[str, int] = {}
    stuck: list[str] = []
    for label in np.flatnonzero(trained == 0).tolist():
        members = np.flatnonzero(free & (classes.labels == label))
        if not len(members):
            stuck.append(classes.names[label])
            continue
        # Of those the one that is nearest to training already.
        group = np.flatnonzero(sides.groups == sides.groups[members[places[members].argmax()]])
        moving = group[codes[group] != LEFT_OUT]
        places[group] = _training_place(places[members].max(), shares, named.development)
        codes[moving] = TRAINING
        moved[classes.names[label]] = int(kept[moving].sum())
    if stuck:
        raise UserError(
            f"{_named(stuck)} no image in the training split, because the data name another split for all of theirs: "
            "add images for training, remove these, or set preprocess.splits: none"
        )
    return sides._replace(codes=codes, places=places), moved


def _training_place(place: np.uint64, shares: Shares, development: bool) -> np.uint64:
    """Return a place on the side of training that depends on `place` alone."""
    least = int(shares.holdout * 2**64)
    unnamed = np.full(64, BY_CONTENT, np.uint8)
    at = int(place)
    while True:
        drawn = mixed(np.array([(at + step) % 2**64 for step in range(64)], np.uint64))
        places: Places = np.array([least + int(one) % (2**64 - least) for one in drawn], np.uint64)
        found = places[shares.side(places, unnamed, development) == TRAINING]
        if len(found):
            return np.uint64(found[0])
        at += 64


def counted(
    classes: Classes, chosen: Mapping[str, Mask], groups: Index, share: float | None, largest: int
) -> dict[str, dict[str, int]]:
    """Return the images of each class in each split, checked to be enough.

    `share`: that is asked for of the holdout; None where the data name it. `largest`: images of the largest group of
    near-duplicates.

    Raises:
        UserError: too few images are left, or a class is far from the share.
    """
    names, labels = classes.names, classes.labels
    found = {split: np.bincount(labels[mask], minlength=len(names)) for split, mask in chosen.items()}
    training, development, holdout = (int(found[split].sum()) for split in ("training", "development", "holdout"))
    if training + development < MIN_TRAINING_IMAGES or holdout < MIN_HELD_OUT:
        words = "so add images"
        if training + development + holdout >= MIN_TRAINING_IMAGES + MIN_HELD_OUT:
            words += ", or set preprocess.splits: none" if share is None else ", or change preprocess.holdout"
        if largest > (training + development + holdout) / 2:
            words = (
                f"and {largest} are near-duplicates of each other, which stand on one side as frames of one film "
                "do: preprocess.near_duplicates: false parts them"
            )
        raise UserError(
            f"only {training + development} distinct images for training and {holdout} held out: "
            f"at least {MIN_TRAINING_IMAGES} and {MIN_HELD_OUT} are needed, {words}"
        )
    if share is not None:
        _check_share(names, labels, found, chosen, groups, share)
    return {split: dict(zip(names, values.tolist(), strict=True)) for split, values in found.items()}


def _check_share(
    names: Sequence[str],
    labels: Labels,
    found: Mapping[str, npt.NDArray[np.int64]],
    chosen: Mapping[str, Mask],
    groups: Index,
    share: float,
) -> None:
    """Refuse classes of which far more or fewer images are held out than chance would, at this share."""
    all_chosen = np.logical_or.reduce([*chosen.values()])
    # Groups are held out as a whole.
    group_of, sizes = np.unique(
        np.stack([labels[all_chosen].astype(np.int64), groups[all_chosen]]), axis=1, return_counts=True
    )
    squares = np.bincount(group_of[0], sizes.astype(np.float64) ** 2, len(names))
    total, held = np.sum([*found.values()], axis=0), found["holdout"]
    far = np.abs(held - share * total) > 5 * (share * (1 - share) * squares) ** 0.5 + 1
    if far.any():
        at = int(np.flatnonzero(far)[0])
        more = f" (and {int(far.sum()) - 1} more classes)" if far.sum() > 1 else ""
        raise UserError(
            f"class {names[at]} has {held[at]} of {total[at]} images held out, too far from a share of {share:g}{more}"
        )


def _named(classes: Sequence[str]) -> str:
    listed = ", ".join(shortened(name, 40) for name in classes[:10])
    more = f" and {len(classes) - 10} more" if len(classes) > 10 else ""
    return f"class {listed} has" if len(classes) == 1 else f"classes {listed}{more} have"
