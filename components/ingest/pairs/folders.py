"""Pairs by the names of folders and files: pictures of equal names in the folders of two sides."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ...gan.errors import UserError
from ...workspace.text import printable, shortened
from ..names import piece_name, stem
from ..parts import Builder, Part
from .names import LOOSER, SIDES, Key, Pairs, Place, key_of, others_of, plain, stands_on, without_split, words_of

TOLD_BY_TABLE = "leave one of each, or say by a labels.csv with columns path and input which belong together"
SEVERAL = "as of reduced pictures in folders X2 and X4"
_NOT_ON_A_SIDE = "lies neither with the inputs nor with the targets"


class _Picture(NamedTuple):
    """A picture by its names: its folders, of which an archive is one, its file, and its own archive."""

    place: Place
    folders: tuple[str, ...]
    name: str
    raw: tuple[str, ...]


class Agreement(NamedTuple):
    """Two sides of folders, how many of their pictures have names that agree, and how many share one with several."""

    input: str
    target: str
    pairs: int
    pictures: int
    unclear: int

    @property
    def share(self) -> float:
        """Of the pictures of both sides, those in pairs."""
        return 2 * self.pairs / max(1, self.pictures)


def agreements(parts: Sequence[Part]) -> list[Agreement]:
    """Return the sides that folders are called after, those with the most pairs first."""
    pictures = [*pictures_of(parts)]
    names = dict.fromkeys(
        name
        for folder in dict.fromkeys(folder for picture in pictures for folder in picture.folders)
        for name in (without_split(folder)[1], folder)
    )
    spelled = {plain(name): name for name in reversed(names)}
    # As LR of DIV2K_train_LR_bicubic, where no folder has that name alone.
    spelled |= {word: name for name in reversed(names) for word in words_of(name) if word not in spelled}
    found = []
    for given, targets in SIDES:
        for target in targets:
            if given in spelled and target in spelled:
                sides = _on_sides(pictures, (spelled[given], spelled[target]))[0]
                inputs, wanted = sides.values()
                named = {picture.place: picture.name for picture in pictures}
                pairs, unclear = matched(inputs, wanted, named.__getitem__)
                pictures_of_both = len(inputs) + len(wanted)
                found.append(Agreement(spelled[given], spelled[target], len(pairs), pictures_of_both, len(unclear)))
    return sorted((each for each in found if each.pictures), key=lambda each: -each.pairs)


def pairs_by_folders(parts: Sequence[Part], builder: Builder, side: str) -> Pairs:
    """Return the pairs of the folders of the side and of the folders beside these."""
    pictures = [*pictures_of(parts)]
    other = _other_side(pictures, side)
    named = {picture.place: picture for picture in pictures}
    sides, strays = _on_sides(pictures, (side, other))
    pairs, unclear = matched(sides[side], sides[other], lambda place: named[place].name)
    _reject_others(parts, builder, sides, (side, other), pairs, unclear)
    _reject_strays(parts, builder, strays, {key.folded() for key in sides[other].values()})
    if not pairs and unclear:
        raise UserError(
            f"no picture in {printable(side)} or {printable(other)} has a name that only one has on either side "
            f"({SEVERAL}): {TOLD_BY_TABLE}"
        )
    if not pairs:
        first, second = (
            shortened(printable("/".join((*named[place].folders, named[place].name))), 60)
            for place in (next(iter(sides[side])), next(iter(sides[other])))
        )
        raise UserError(
            f"no picture in {printable(side)} has the name of one in {printable(other)} (as {first} and {second}): "
            "pairs are told by equal names; where none belong together, `ganflow init --task restyle` learns without"
        )
    without = sum(map(len, sides.values())) - 2 * len(pairs)
    builder.pairs = (
        f"{len(pairs):,} by equal names: inputs in {printable(side)}, what is made of them in {printable(other)}"
    )
    if without:
        builder.pairs += f"; {without:,} without a partner"
    return {target: [given] for target, given in pairs.items()}


def _on_sides(
    pictures: Iterable[_Picture], names: tuple[str, str]
) -> tuple[dict[str, dict[Place, Key]], list[_Picture]]:
    """Return what the pictures of each side have in common with their partners, and those that lie on neither side."""
    sides: dict[str, dict[Place, Key]] = {name: {} for name in names}
    strays = []
    for picture in pictures:
        for name in names:
            at = stands_on(picture.folders, name)
            if at is not None:
                sides[name][picture.place] = key_of(_around(picture, at), at, picture.name, name)
                break
        else:
            strays.append(picture)
    return sides, strays


def without_partner(paths: Iterable[str], side: str) -> dict[str, str]:
    """Return which of the pictures at these paths are in no pair, and why.

    Raises:
        UserError: it is not told which folders are meant.
    """
    pictures = []
    for row, path in enumerate(paths):
        *folders, name = path.split("/")
        pictures.append(_Picture(Place(0, row), tuple(folders), name, tuple(folders)))
    other = _other_side(pictures, side)
    sides, strays = _on_sides(pictures, (side, other))
    at = {picture.place: picture for picture in pictures}
    pairs, unclear = matched(sides[side], sides[other], lambda place: at[place].name)
    why = {place: f"its partner in {printable(other)} has not come yet" for place in sides[side]}
    why |= {place: f"its partner in {printable(side)} has not come yet" for place in sides[other]}
    why |= unclear | {picture.place: _NOT_ON_A_SIDE for picture in strays}
    for place in (*pairs, *pairs.values()):
        del why[place]
    return {"/".join((*at[place].folders, at[place].name)): reason for place, reason in why.items()}


def pictures_of(parts: Sequence[Part]) -> Iterator[_Picture]:
    """Yield all pictures by their names."""
    for number, part in enumerate(parts):
        archive = part.archive.split("/") if part.archive else []
        shown = [*archive[:-1], piece_name(archive[-1])] if archive else []
        for row, raw in enumerate(part.raw_names()):
            *folders, name = raw.decode("utf-8", "surrogateescape").split("/")
            yield _Picture(Place(number, row), (*shown, *folders), name, (*archive, *folders))


def _around(picture: _Picture, at: int) -> tuple[str, ...]:
    """Return the folders of a picture, with the whole name of an archive unless that is the side itself."""
    return (*picture.raw[:at], picture.folders[at], *picture.raw[at + 1 :])


def _other_side(pictures: Sequence[_Picture], side: str) -> str:
    """Return the name of the folders beside those of the inputs.

    Raises:
        UserError: nothing is called like the side, or it is not told which folder beside it is meant.
    """
    above: set[tuple[str, ...]] = set()
    exact = any(plain(folder) == plain(side) for picture in pictures for folder in picture.folders)
    for picture in pictures:
        if (at := stands_on(picture.folders, side)) is not None:
            above.add(picture.folders[:at])
    if not above:
        folders = Counter(folder for picture in pictures for folder in picture.folders)
        listed = ", ".join(shortened(printable(name), 40) for name, _ in folders.most_common(6)) or "none"
        raise UserError(
            f"preprocess.input is {printable(side)}, and no folder, column or half of pictures has that name (folders "
            f"here: {listed}): name the one that holds the inputs, or left or right"
        )
    beside: Counter[str] = Counter()
    spelled: dict[str, str] = {}
    for picture in pictures:
        if stands_on(picture.folders, side) is not None:
            continue
        for at, folder in enumerate(picture.folders):
            if picture.folders[:at] in above:
                name = folder if exact else without_split(folder)[1]
                beside[plain(name)] += 1
                spelled.setdefault(plain(name), name)
    known = [name for name in others_of(side) if name in beside]
    if known:
        return spelled[max(known, key=lambda name: beside[name])]
    if len(beside) != 1:
        listed = ", ".join(shortened(printable(name), 40) for name in [*spelled.values()][:6]) or "none"
        raise UserError(
            f"preprocess.input is {printable(side)}, and beside it must lie one folder with the pictures to be made of "
            f"these (there: {listed}): leave only that there"
        )
    return spelled[next(iter(beside))]


def matched(
    inputs: Mapping[Place, Key], targets: Mapping[Place, Key], name_of: Callable[[Place], str]
) -> tuple[dict[Place, Place], dict[Place, str]]:
    """Return the input of each target that has one, and why others have none although they share a name."""
    pairs: dict[Place, Place] = {}
    unclear: dict[Place, str] = {}
    used: set[Place] = set()
    for looser in LOOSER:
        groups: dict[Key, tuple[list[Place], list[Place]]] = defaultdict(lambda: ([], []))
        for number, places in enumerate((inputs, targets)):
            for place, key in places.items():
                if place not in used:
                    groups[looser(key)][number].append(place)
        for given, wanted in groups.values():
            if not given or not wanted:
                continue
            used.update(given, wanted)
            together = _one_to_one(given, wanted, name_of)
            if together is None:
                why = f"{len(given)} inputs and {len(wanted)} targets have its name: which belong together is not told"
                unclear |= dict.fromkeys((*given, *wanted), why)
            else:
                pairs |= together
    return pairs, unclear


def _one_to_one(
    given: Sequence[Place], wanted: Sequence[Place], name_of: Callable[[Place], str]
) -> dict[Place, Place] | None:
    """Return the pairs of pictures of one name; of several, these must have the same endings on both sides."""
    if len(given) == len(wanted) == 1:
        return {wanted[0]: given[0]}
    by_ending = [{_ending(name_of(place)): place for place in places} for places in (given, wanted)]
    if by_ending[0].keys() != by_ending[1].keys() or len(by_ending[0]) != len(given) or len(given) != len(wanted):
        return None
    return {place: by_ending[0][ending] for ending, place in by_ending[1].items()}


def _ending(name: str) -> str:
    return plain(name[len(stem(name)) :])


def _reject_others(
    parts: Sequence[Part],
    builder: Builder,
    sides: Mapping[str, Mapping[Place, Key]],
    names: tuple[str, str],
    pairs: Mapping[Place, Place],
    unclear: Mapping[Place, str],
) -> None:
    """Reject the pictures of both sides that are in no pair, in their order."""
    paired = {*pairs, *pairs.values()}
    for name, other in (names, names[::-1]):
        for place in sides[name]:
            if place not in paired:
                why = unclear.get(place) or f"has no partner: no picture in {printable(other)} has its name"
                builder.reject(parts[place.part].name(place.row), why)


def _reject_strays(parts: Sequence[Part], builder: Builder, strays: Iterable[_Picture], targets: set[Key]) -> None:
    names = {key.name for key in targets}
    for picture in strays:
        shown = parts[picture.place.part].name(picture.place.row)
        if plain(stem(picture.name)) in names:
            builder.reject(shown, f"a third picture of the name of a pair: it {_NOT_ON_A_SIDE}")
        else:
            builder.leave_out(shown, _NOT_ON_A_SIDE, lost=True)
