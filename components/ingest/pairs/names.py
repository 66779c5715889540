"""What names say of pictures in pairs: on which side of a pair a folder stands, and which pictures are called alike."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from ..names import stem
from ..split_names import SPLITS

# How people call the sides: that of the inputs, and those of what is made of them.
SIDES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("a", ("b",)),
    ("input", ("target", "output", "gt", "groundtruth", "edited", "label", "reference")),
    ("inputs", ("targets", "outputs", "gt", "labels")),
    ("source", ("target", "destination", "dst")),
    ("src", ("dst", "tgt", "target")),
    ("lr", ("hr",)),
    ("lq", ("gt", "hq")),
    ("low", ("high", "normal")),
    ("sketch", ("photo", "image")),
    ("sketches", ("photos", "images")),
    ("edges", ("photos", "images")),
    ("label", ("photo", "img", "image")),
    ("labels", ("photos", "images")),
    ("gray", ("color",)),
    ("grey", ("colour",)),
    ("blur", ("sharp",)),
    ("noisy", ("clean", "gt")),
    ("hazy", ("clear", "gt")),
    ("rainy", ("clean", "norain", "gt")),
    ("rain", ("norain", "clean", "gt")),
    ("data", ("gt",)),
    ("before", ("after",)),
    ("input_image", ("edited_image", "target_image", "output_image")),
    ("source_image", ("target_image", "edited_image")),
    ("original_image", ("edited_image", "target_image")),
    ("conditioning_image", ("image", "target_image")),
    ("condition", ("image", "target")),
)
_SPLIT = "|".join(sorted(SPLITS, key=len, reverse=True))
_WITH_SPLIT = re.compile(rf"({_SPLIT})[_\-. ]?(.+)|(.+?)[_\-. ]?({_SPLIT})", re.IGNORECASE)
# As of DIV2K_train_LR_bicubic.
_AROUND_SPLIT = re.compile(rf"(.+?)[_\-. ]({_SPLIT})[_\-. ](.+)", re.IGNORECASE)
# As of 0001x4.png beside 0001.png.
_SCALE = re.compile(r"[_\-. ]?x\d{1,2}", re.IGNORECASE)
_SIDE_WORDS = {word for given, targets in SIDES for word in (given, *targets) if len(word) > 1}


def input_sides(target_or_input: str) -> Iterator[tuple[str, str]]:
    """Yield what may stand beside a side: names of (input, target), of which it is one."""
    name = plain(target_or_input)
    for given, targets in SIDES:
        for target in targets:
            if name in (given, target):
                yield given, target


def others_of(side: str) -> list[str]:
    """Return the names that the other side may have, whichever of both is the input."""
    return [*dict.fromkeys(target if plain(side) == given else given for given, target in input_sides(side))]


def plain(name: str) -> str:
    """Return a name in one normal form and small letters."""
    return unicodedata.normalize("NFC", name).casefold()


@lru_cache(maxsize=4096)
def without_split(piece: str) -> tuple[str, str]:
    """Return the split that a folder's name states beside a side, or nothing, and the side: `train_A` -> train, A."""
    if (around := _AROUND_SPLIT.fullmatch(piece)) is not None:
        return around[2].lower(), f"{around[1]}_{around[3]}"
    match = _WITH_SPLIT.fullmatch(piece)
    if match is None:
        return "", piece
    split, side = (match[1], match[2]) if match[1] else (match[4], match[3])
    return split.lower(), side


def words_of(name: str) -> list[str]:
    """Return the words that a folder's name consists of, but no single letters: div2k, lr and bicubic."""
    return [word for word in re.split(r"[_\-. ]+", plain(name)) if len(word) > 1]


class Place(NamedTuple):
    """Where a picture lies: the number of its part, and its row there."""

    part: int
    row: int


Pairs = Mapping[Place, Sequence[Place]]


class Key(NamedTuple):
    """What the two pictures of a pair have in common: the folders around, and the name without its ending.

    `side`: how the folder is called that stands for the side, as it is written and without a split.
    """

    folders: tuple[str, ...]
    name: str
    side: tuple[str, ...] = ()

    def exact(self) -> Key:
        return Key(self.folders, self.name)

    def folded(self) -> Key:
        """Return it without the difference of capitals and of normal forms."""
        return Key(tuple(map(plain, self.folders)), plain(self.name))

    def without_scale(self) -> Key:
        """Return it without the factor that names of reduced pictures end in, and folders of these are called."""
        folded = self.folded()
        match = re.fullmatch(rf"(.+?){_SCALE.pattern}", folded.name, re.IGNORECASE)
        folders = tuple(folder for folder in folded.folders if not _SCALE.fullmatch(folder))
        return Key(folders, match[1] if match else folded.name)

    def without_side(self) -> Key:
        """Return it also without what says the side once more: rain-1 beside norain-1, A/A/1, low001, 1_A."""
        folders, name, _ = self.without_scale()
        own = {plain(name) for name in self.side}
        for word in sorted(own | _SIDE_WORDS, key=len, reverse=True):
            if (shorter := _without_word(name, word)) is not None:
                name = shorter
                break
        return Key(tuple(folder for folder in folders if folder not in own), name)


def _without_word(name: str, word: str) -> str | None:
    """Return a name without the word at its beginning or end; None where it has none there, or is no more than that.

    A single letter stands apart from the rest, a longer word also beside a number.
    """
    before, behind = (r"[_\-. ]", r"[_\-. ]") if len(word) == 1 else (r"([_\-. ]|(?=\d))", r"([_\-. ]|(?<=\d))")
    match = re.fullmatch(rf"{re.escape(word)}{before}(?P<first>.+)|(?P<last>.+?){behind}{re.escape(word)}", name)
    return match and (match["first"] or match["last"])


# In the order in which names are compared.
LOOSER = (Key.exact, Key.folded, Key.without_scale, Key.without_side)


def stands_on(folders: Iterable[str], side: str) -> int | None:
    """Return the place of the first of these folders that is called like the side, maybe with a split."""
    wanted = plain(side)
    return next((at for at, f in enumerate(folders) if wanted in (plain(f), plain(without_split(f)[1]))), None)


def key_of(folders: tuple[str, ...], at: int, name: str, side: str) -> Key:
    """Return what a picture has in common with its partner, whose side has another name at the same place."""
    split = "" if plain(folders[at]) == plain(side) else without_split(folders[at])[0]
    around = (*folders[:at], *([split] if split else []), *folders[at + 1 :])
    return Key(around, stem(name), (side, folders[at]))
