"""Pictures that say what is where in other pictures: masks, depth and the like, by their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from .names import PICTURE_FOLDERS, stem
from .split_names import role_of

Way = tuple[str, ...]

# Folders that hold masks, or what belongs to annotations.
_MASKS = re.compile(
    r"masks?(_(machine|human|instances))?|labels?|annotations?|anns?|segmentations?|segmentation(class|object)(aug|raw)?|"
    r"seg|gt(fine|coarse)?|ground_?truths?|trimaps?|labelmaps?|semantic|instance|depth|edges?|mattes?|alpha",
    re.I,
)
_MASK_SUFFIX = re.compile(
    r"[._\-](mask|masks|seg|segmentation|gt|label|labels|labelids|trimap|groundtruth|annotation|depth|alpha|matte)"
    r"([_\-]?\d{1,2})?$",
    re.I,
)
# What Cityscapes puts behind the name that a picture and its masks share.
_CITYSCAPES = re.compile(r"_(leftImg8bit|gt(Fine|Coarse)_\w+)$")
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
            stems[way] = {_CITYSCAPES.sub("", stem(name)) for name in names(way)}
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
        subject = _subject(piece, _MASKS)
        if subject is None:
            continue
        head, tails = way[:place], {way[place + 1 :]}
        # Each kind of masks may have a folder of its own there, as annotations/trimaps.
        if place + 1 < len(way) and _MASKS.fullmatch(way[place + 1]):
            tails.add(way[place + 2 :])
        for other in ways:
            if other != way and other[:place] == head and any(_is_of(subject, other[place:], tail) for tail in tails):
                yield other


def _is_of(subject: str, other: Way, tail: Way) -> bool:
    """Whether `other` is where the pictures of a subject lie: `train_images`, or `images` or nothing for no subject."""
    if other == tail:
        return not subject
    if not other or other[1:] != tail:
        return False
    return _subject(other[0], PICTURE_FOLDERS) == subject or (other[0] == subject and role_of(subject) is not None)


def _subject(piece: str, kind: re.Pattern[str]) -> str | None:
    """Return what stands before a word of this kind, as `train` of `train_masks`; None where there is no such word."""
    if kind.fullmatch(piece):
        return ""
    match = re.fullmatch(r"(.+)[_\- ]([^_\- ]+)", piece)
    return match[1] if match and kind.fullmatch(match[2]) else None
