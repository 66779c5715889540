"""Pictures that say what is where in other pictures: masks, depth and the like, by their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from .names import PICTURE_FOLDERS, stem

Way = tuple[str, ...]

# Folders that hold masks, or what belongs to annotations.
_MASKS = re.compile(
    r"masks?|labels?|annotations?|anns?|segmentations?|segmentation(class|object)(aug|raw)?|seg|gt|ground_?truths?|"
    r"trimaps?|labelmaps?|semantic|instance|depth|edges?|mattes?|alpha",
    re.I,
)
_MASK_SUFFIX = re.compile(
    r"[._\-](mask|masks|seg|segmentation|gt|label|labels|labelids|trimap|groundtruth|annotation|depth|alpha|matte)$",
    re.I,
)
# Share of the pictures of a folder of masks that have a partner.
_PARTNERS = 0.9


def unmasked(name: str) -> str | None:
    """Return the stem of the picture that a mask of this name would belong to; None where it is no mask's name."""
    plain = stem(name)
    shorter = _MASK_SUFFIX.sub("", plain)
    return shorter if shorter != plain and shorter else None


def masks_beside(names: Iterable[str]) -> set[str]:
    """Which files of one folder are masks, or the like, of other files in it, by their names."""
    listed = list(names)
    suspects = [(name, of) for name in listed if (of := unmasked(name)) is not None]
    if not suspects:
        return set()
    stems = {stem(name) for name in listed}
    return {name for name, of in suspects if of in stems}


def masked_folders(ways: Iterable[Way], names: Callable[[Way], Iterable[str]]) -> dict[Way, Way]:
    """Return folders of masks, with the folder beside each whose pictures have the same names.

    `names` yields the files of a folder.
    """
    folders, stems = dict.fromkeys(ways), dict[Way, set[str]]()

    def stems_of(way: Way) -> set[str]:
        if way not in stems:
            stems[way] = {stem(name) for name in names(way)}
        return stems[way]

    found: dict[Way, Way] = {}
    for way in folders:
        for other in _beside(way, folders):
            mine = stems_of(way)
            partners = sum(not {name, unmasked(name)}.isdisjoint(stems_of(other)) for name in mine)
            if partners >= _PARTNERS * len(mine):
                found[way] = other
                break
    return found


def _beside(way: Way, ways: Mapping[Way, None]) -> Iterator[Way]:
    """Yield folders of pictures that stand where this one does, but for the piece that says that it holds masks."""
    for place, piece in enumerate(way):
        if not _MASKS.fullmatch(piece):
            continue
        head, tail = way[:place], way[place + 1 :]
        for other in ways:
            same = len(other) == len(way) and (other[:place], other[place + 1 :]) == (head, tail)
            if other != way and (other == head + tail or (same and PICTURE_FOLDERS.fullmatch(other[place]))):
                yield other
