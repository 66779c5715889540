"""What names of folders, archives and arrays say of splits."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

from .names import PICTURE_FOLDERS
from .parts import DEVELOPMENT, HOLDOUT, TRAINING

SPLITS = {
    **dict.fromkeys(("train", "training", "trainval"), TRAINING),
    **dict.fromkeys(("test", "testing", "eval", "holdout", "t10k"), HOLDOUT),
    **dict.fromkeys(("val", "valid", "validation", "dev", "development"), DEVELOPMENT),
}


def role_of(name: str) -> tuple[int, tuple[str, ...], str] | None:
    """Return the split that a folder's name states, the rest of the name, and the domain of `trainA`."""
    # As CycleGAN has it; of other letters capitals alone, for `tests` is a word.
    match = re.fullmatch(r"(train|test|val)([A-Z])", name) or re.fullmatch(r"(?i)(train|test|val)([AB])", name)
    if match:
        return SPLITS[match[1].lower()], (), match[2]
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().replace("train_val", "trainval")
    pieces = [piece for piece in re.split(r"[_\-. ]+", parted) if piece]
    words = [re.sub(r"(set|data|images?|imgs?)?\d*$", "", piece) for piece in pieces]
    stated = [place for place, word in enumerate(words) if word in SPLITS]
    if len(stated) != 1:
        return None
    place = stated[0]
    rest = tuple(piece for at, piece in enumerate(pieces) if at != place and not PICTURE_FOLDERS.fullmatch(piece))
    return SPLITS[words[place]], rest, ""


def roles_of(names: Iterable[str]) -> dict[str, tuple[int, str]]:
    """Which of the folders beside each other are splits, and the class that their names tell beside; at least two are.

    One of them is for training: there are classes called `train` and `val`.
    """
    roles = {name: role for name in names if (role := role_of(name))}
    found = _whole({name: rest for name, (_, rest, _) in roles.items()}, roles)
    if len(found) == len(roles):
        return found
    # Numbers count pieces, as of train-000, train-001 and val-000, or the splits, as of 01_train and 02_test.
    return _whole({name: _without_numbers(rest) for name, (_, rest, _) in roles.items()}, roles)


def _whole(
    rests: Mapping[str, tuple[str, ...]], roles: Mapping[str, tuple[int, tuple[str, ...], str]]
) -> dict[str, tuple[int, str]]:
    """Return split and class of the names that, with others of the same rest, are several splits."""
    groups: dict[tuple[str, ...], dict[str, tuple[int, str]]] = defaultdict(dict)
    for name, rest in rests.items():
        split, _, domain = roles[name]
        groups[rest][name] = split, domain
    whole = {
        rest: found
        for rest, found in groups.items()
        if len({split for split, _ in found.values()}) > 1 and any(split == TRAINING for split, _ in found.values())
    }
    told = len(whole) > 1
    return {
        name: (split, domain or ("_".join(rest) if told else ""))
        for rest, found in whole.items()
        for name, (split, domain) in found.items()
    }


def _without_numbers(rest: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word for piece in rest if (word := piece.rstrip("0123456789")))
