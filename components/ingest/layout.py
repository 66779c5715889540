"""What the folders that images lie in say: classes, splits, masks, or nothing.

All of it is told from names alone, so that folders on a disk and in archives are read alike. An archive counts as a
folder of its name.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from ..workspace.text import printable, shortened
from .parts import BY_CONTENT, SPLITS, TRAINING, Note

Way = tuple[str, ...]
LabelReading = Literal["auto", "none", "folders", "innermost", "names", "table"]

# Folders that hold pictures and say nothing of them, and those that hold masks or what belongs to annotations.
_PICTURES = re.compile(r"(color_?)?(images?|imgs?|pictures?|photos?|jpe?g(images)?|png|rgb|data|train_images)", re.I)
_MASKS = re.compile(
    r"masks?|labels?|annotations?|anns?|segmentations?|segmentation(class|object)(aug|raw)?|seg|gt|ground_?truths?|"
    r"trimaps?|labelmaps?|semantic|instance|depth|edges?|mattes?|alpha",
    re.I,
)
_MASK_SUFFIX = re.compile(
    r"[._\-](mask|masks|seg|segmentation|gt|label|labels|labelids|trimap|groundtruth|annotation|depth|alpha|matte)$",
    re.I,
)
# What cameras and programs call every picture.
_COMMON_NAMES = frozenset(
    [
        "img",
        "image",
        "images",
        "dsc",
        "dscn",
        "dscf",
        "dsci",
        "pict",
        "pic",
        "picture",
        "photo",
        "foto",
        "frame",
        "screenshot",
        "pxl",
        "mvimg",
        "gopr",
        "vid",
        "p",
        "sam",
        "cimg",
        "imag",
        "untitled",
        "file",
        "page",
        "scan",
        "thumb",
        "sample",
        "train",
        "test",
        "val",
        "x",
        "a",
    ]
)
_NUMBERED = re.compile(r"\d{4,}")
# Classes told by the names of files have as many pictures each at least.
_LEAST_BY_NAME = 5


class Placed(NamedTuple):
    """What a folder says of the images in it: None is no class; `why` they are left out, if they are."""

    label: str | None = None
    split: int = BY_CONTENT
    why: str = ""


@dataclass
class Layout:
    """What is read from folders, by their names; `alone`: how images are called where there are no classes."""

    placed: dict[str, Placed]
    alone: str = "image"
    notes: list[Note] = field(default_factory=list)
    by_name: bool = False


@dataclass
class _Folder:
    name: str
    way: Way
    images: int
    split: int = BY_CONTENT
    why: str = ""
    # Of a split that also tells a class, as trainA.
    domain: str = ""


Names = Callable[[str], Iterable[str]]


def read_layout(
    folders: Mapping[str, int], names: Names, labels: LabelReading, with_splits: bool, archives: Sequence[str] = ()
) -> Layout:
    """Read the layout of `folders`, each with its number of images; `names` yields the files of a folder.

    `archives`: those of the folders' beginnings that are archives.
    """
    found = [_Folder(name, tuple(name.split("/")) if name else (), count) for name, count in sorted(folders.items())]
    layout = Layout({})
    _leave_out_masks(found, names, layout)
    _pass_over_archives(found, archives)
    if with_splits:
        _take_splits(found, layout)
    used = [folder for folder in found if not folder.why]
    above = _pass_over_common(used)
    if above and not _PICTURES.fullmatch(above):
        layout.alone = above
    _take_classes(used, names, labels, layout)
    for folder in found:
        if folder.why:
            layout.placed[folder.name] = Placed(why=folder.why)
    return layout


def stem(name: str) -> str:
    """Return the name of a file without folders and ending."""
    last = name.rpartition("/")[2]
    return last.rpartition(".")[0] or last


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


# --- masks ---


def _leave_out_masks(found: list[_Folder], names: Names, layout: Layout) -> None:
    """Leave out folders whose pictures have the names of those in a folder of pictures beside them."""
    ways = {folder.way: folder for folder in found}
    stems: dict[str, set[str]] = {}

    def stems_of(folder: _Folder) -> set[str]:
        if folder.name not in stems:
            stems[folder.name] = {stem(name) for name in names(folder.name)}
        return stems[folder.name]

    for folder in found:
        for place, piece in enumerate(folder.way):
            if not _MASKS.fullmatch(piece) or folder.why:
                continue
            for other in _beside(folder, place, ways):
                mine = {unmasked(name) or name for name in stems_of(folder)} | stems_of(folder)
                if sum(name in stems_of(other) for name in stems_of(folder) | mine) >= 0.9 * len(stems_of(folder)):
                    folder.why = f"masks of the pictures in {_shown(other.name)}"
                    break


def _beside(folder: _Folder, place: int, ways: Mapping[Way, _Folder]) -> list[_Folder]:
    """Folders of pictures that stand where this one does, but for the piece that says that it holds masks."""
    head, tail = folder.way[:place], folder.way[place + 1 :]
    return [
        other
        for way, other in ways.items()
        if other is not folder
        and (
            way == head + tail
            or (
                len(way) == len(folder.way)
                and way[:place] == head
                and way[place + 1 :] == tail
                and _PICTURES.fullmatch(way[place])
            )
        )
    ]


# --- archives ---


def _pass_over_archives(found: list[_Folder], archives: Sequence[str]) -> None:
    """Take the name of an archive for a class or split only where the archive holds no folders that may be such."""
    names = [tuple(name.split("/")) for name in archives if name]
    inside: dict[Way, set[str]] = {name: set() for name in names}
    for folder in found:
        for name in names:
            if folder.way[: len(name)] == name and len(folder.way) > len(name):
                inside[name].add(folder.way[len(name)])
    if not any(len(tops) > 1 for tops in inside.values()):
        return
    if len(names) > 1 and _roles(name[-1] for name in names):
        return
    for folder in found:
        for name in names:
            if folder.way[: len(name)] == name:
                folder.way = name[:-1] + folder.way[len(name) :]
                break


# --- splits ---


def role_of(name: str) -> tuple[int, Way, str] | None:
    """Return the split that a folder's name states, the rest of the name, and the domain of `trainA`."""
    if match := re.fullmatch(r"(train|test|val)([A-Z])", name):
        return SPLITS[match[1]], (), match[2]
    pieces = [piece for piece in re.split(r"[_\-. ]+", name.lower()) if piece]
    words = [re.sub(r"(set|data|images?|imgs?)?\d*$", "", piece) for piece in pieces]
    stated = [place for place, word in enumerate(words) if word in SPLITS]
    if len(stated) != 1:
        return None
    place = stated[0]
    rest = tuple(piece for at, piece in enumerate(pieces) if at != place and not _PICTURES.fullmatch(piece))
    return SPLITS[words[place]], rest, ""


def _roles(names: Iterable[str]) -> dict[str, tuple[int, str]]:
    """Which of the folders beside each other are splits, and the class that their names tell beside; at least two are.

    One of them is for training: there are classes called `train` and `val`.
    """
    groups: dict[Way, dict[str, tuple[int, str]]] = defaultdict(dict)
    for name in names:
        if role := role_of(name):
            split, rest, domain = role
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


def _take_splits(found: list[_Folder], layout: Layout) -> None:
    """Take folders called `train` and `test` and the like for splits, at the first level where there are such."""
    children: dict[Way, set[str]] = defaultdict(set)
    for folder in found:
        for depth, piece in enumerate(folder.way):
            if not folder.why:
                children[folder.way[:depth]].add(piece)
    roles = {above: roles for above, below in children.items() if (roles := _roles(below))}
    strays: Counter[str] = Counter()
    for folder in found:
        above = next((folder.way[:depth] for depth in range(len(folder.way) + 1) if folder.way[:depth] in roles), None)
        if above is None or folder.why:
            continue
        piece = folder.way[len(above)] if len(folder.way) > len(above) else ""
        if piece in roles[above]:
            folder.split, folder.domain = roles[above][piece]
            folder.way = above + folder.way[len(above) + 1 :]
        else:
            folder.why = "lies beside the folders of the splits"
            strays[folder.name] += folder.images
    if strays:
        listed = shortened(", ".join(f"{_shown(name)} {count:,}" for name, count in strays.most_common(5)))
        layout.notes.append(Note(f"images beside the folders of the splits are left out: {listed}"))
    # A test set whose images nobody labelled.
    lonely = {piece for below in children.values() for piece in below if role_of(piece)} - {
        name for names in roles.values() for name in names
    }
    if lonely and not roles and any(len(below) > 1 for below in children.values()):
        listed = ", ".join(sorted(map(_shown, lonely))[:5])
        layout.notes.append(
            Note(f"{listed}: taken for no split, because training and held-out images need a folder each")
        )
    # A split's folder within itself, as archives are often unpacked.
    inside = [folder for folder in found if folder.split != BY_CONTENT and folder.way and _same_inside(folder, found)]
    for folder in inside:
        folder.way = folder.way[1:]


def _same_inside(folder: _Folder, found: list[_Folder]) -> bool:
    """Whether all of a split lies in one folder that says no more than the split or that there are pictures."""
    tops = {other.way[:1] for other in found if other.split == folder.split and not other.why}
    top = folder.way[0]
    return len(tops) == 1 and bool(_PICTURES.fullmatch(top) or role_of(top))


# --- classes ---


def _pass_over_common(used: list[_Folder]) -> str:
    """Take off the folders that hold all images, and those of one name at the end of all; return the last of them."""
    above = ""
    while used and all(folder.way for folder in used) and len({folder.way[0] for folder in used}) == 1:
        above = used[0].way[0]
        for folder in used:
            folder.way = folder.way[1:]
    deep = [folder for folder in used if folder.way]
    while deep and all(len(folder.way) > 1 for folder in deep):
        last = {folder.way[-1] for folder in deep}
        if len(last) > 1 or not _PICTURES.fullmatch(next(iter(last))):
            break
        for folder in deep:
            folder.way = folder.way[:-1]
    return above


def _take_classes(used: list[_Folder], names: Names, labels: LabelReading, layout: Layout) -> None:
    if any(folder.domain for folder in used):
        for folder in used:
            folder.way = (folder.domain, *folder.way)
    classes = {folder.way[-1 if labels == "innermost" else 0] for folder in used if folder.way}
    flat = sum(folder.images for folder in used if not folder.way)
    foldered = sum(folder.images for folder in used if folder.way)
    if labels in ("none", "names", "table"):
        layout.by_name = labels == "names"
        classes = set()
    elif labels == "auto" and classes and _are_numbers(used, names):
        listed = ", ".join(sorted(map(_shown, classes))[:3])
        layout.notes.append(Note(f"the folders {listed} ... number the images and are no classes"))
        classes = set()
    elif labels == "auto" and flat > foldered:
        if classes:
            layout.notes.append(
                Note(
                    f"{flat:,} images lie beside {len(classes)} folders with {foldered:,}, which are taken for no "
                    "classes"
                )
            )
        classes = set()
        layout.by_name = not foldered and _names_tell(used, names, layout)
    if len(classes) == 1 and not flat:
        one = next(iter(classes))
        layout.alone, classes = layout.alone if _PICTURES.fullmatch(one) else one, set()
    for folder in used:
        if not classes:
            layout.placed[folder.name] = Placed(None, folder.split)
        elif folder.way:
            label = folder.way[-1 if labels == "innermost" else 0]
            layout.placed[folder.name] = Placed(label, folder.split)
        else:
            layout.placed[folder.name] = Placed(None, folder.split, "lies beside the class folders")
    if classes and flat:
        layout.notes.append(Note(f"{flat:,} images beside the class folders have no class and are left out"))
    deeper = {folder.way[1] for folder in used if len(folder.way) > 1}
    if classes and len(deeper) > 1 and labels != "innermost":
        layout.notes.append(
            Note(
                f"folders within the class folders ({', '.join(sorted(map(_shown, deeper))[:3])} ...) say nothing; "
                "`preprocess.labels: innermost` takes them for the classes"
            )
        )


def _are_numbers(used: list[_Folder], names: Names) -> bool:
    """Whether folders only cut a long row of pictures, as 00000/img00000001.png or 01000/01001.png."""
    numbered = [folder for folder in used if folder.way]
    if not all(_NUMBERED.fullmatch(folder.way[0]) for folder in numbered) or len(numbered) < len(used):
        return False
    for folder in numbered:
        number = int(folder.way[0])
        for name in names(folder.name):
            digits = re.findall(r"\d+", stem(name))
            if not digits or number not in (int(digits[-1]) // 1000, int(digits[-1]) // 1000 * 1000):
                return False
    return True


def class_in_name(name: str) -> str | None:
    """Return the word that a file's name begins with, before its number: `cat` of `cat.17.jpg`."""
    match = re.fullmatch(r"([^\W\d_]+(?:[ _\-][^\W\d_]+)*)[ _.\-]*\(?\d+\)?", stem(name))
    return match[1] if match else None


def _names_tell(used: list[_Folder], names: Names, layout: Layout) -> bool:
    """Whether the names of all files begin with a class; where they might, this is said."""
    words: Counter[str] = Counter()
    for folder in used:
        for name in names(folder.name):
            word = class_in_name(name)
            if word is None:
                return False
            words[word] += 1
            if len(words) > 1_000:
                return False
    if len(words) < 2 or min(words.values()) < _LEAST_BY_NAME:
        return False
    listed = ", ".join(f"{_shown(word)} {count:,}" for word, count in words.most_common(5))
    if any(word.lower() in _COMMON_NAMES for word in words):
        layout.notes.append(
            Note(f"names of files begin with {listed}; `preprocess.labels: names` takes that for the classes", False)
        )
        return False
    layout.notes.append(Note(f"classes are what the names of the files begin with: {listed}"))
    return True


def _shown(name: str) -> str:
    return shortened(printable(name), 60)
