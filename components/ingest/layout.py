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
from .masks import Way, masked_folders
from .names import PICTURE_FOLDERS, piece_name, stem
from .parts import BY_CONTENT, Note
from .split_names import role_of, roles_of

LabelReading = Literal["auto", "none", "folders", "innermost", "names", "table"]

# What cameras and programs call every picture.
_COMMON_NAMES = frozenset(
    (
        *(
            "img",
            "image",
            "images",
            "imag",
            "cimg",
            "pict",
            "pic",
            "picture",
            "photo",
            "foto",
            "dsc",
            "dscn",
            "dscf",
            "dsci",
        ),
        *(
            "pxl",
            "mvimg",
            "gopr",
            "vid",
            "sam",
            "p",
            "x",
            "a",
            "screenshot",
            "untitled",
            "file",
            "page",
            "scan",
            "frame",
        ),
        *("thumb", "sample", "train", "test", "val"),
    )
)
# Why a folder of masks is left out, before the name of its pictures.
MASKS = "masks of the pictures in "
_CAMERA = re.compile(r"\d{3}[A-Z_][A-Z0-9_]{4}")
_YEAR, _DATE = re.compile(r"(19|20)\d\d"), re.compile(r"(19|20)\d\d([-_.]?)[01]\d(\2[0-3]\d)?")
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
    by_way = {folder.way: folder for folder in found}
    for masks, pictures in masked_folders(by_way, lambda way: names(by_way[way].name)).items():
        by_way[masks].why = f"{MASKS}{_shown(by_way[pictures].name)}"
    _pass_over_archives(found, archives)
    if with_splits:
        _take_splits(found, layout)
    used = [folder for folder in found if not folder.why]
    above = _pass_over_common(used)
    if labels == "auto" and _pass_over_pieces(used, layout):
        above = _pass_over_common(used) or above
    if above and not PICTURE_FOLDERS.fullmatch(above):
        layout.alone = above
    _take_classes(used, names, labels, layout)
    for folder in found:
        if folder.why:
            layout.placed[folder.name] = Placed(why=folder.why)
    return layout


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
    if len(names) > 1 and roles_of(name[-1] for name in names):
        return
    for folder in found:
        for name in names:
            if folder.way[: len(name)] == name:
                folder.way = name[:-1] + folder.way[len(name) :]
                break


# --- splits ---


def _take_splits(found: list[_Folder], layout: Layout) -> None:
    """Take folders called `train` and `test` and the like for splits, at the first level where there are such."""
    children: dict[Way, set[str]] = defaultdict(set)
    for folder in found:
        for depth, piece in enumerate(folder.way):
            if not folder.why:
                children[folder.way[:depth]].add(piece)
    roles = {above: roles for above, below in children.items() if (roles := roles_of(below))}
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
    return len(tops) == 1 and bool(PICTURE_FOLDERS.fullmatch(top) or role_of(top))


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
        if len(last) > 1 or not PICTURE_FOLDERS.fullmatch(next(iter(last))):
            break
        for folder in deep:
            folder.way = folder.way[:-1]
    return above


def _pass_over_pieces(used: list[_Folder], layout: Layout) -> bool:
    """Take off folders that data were cut into, as images_001 and images_002, or fold_1 and fold_2."""
    tops = {folder.way[0] if folder.way else "" for folder in used}
    names = {piece_name(top) for top in tops}
    if len(tops) < 2 or len(names) > 1 or "" in names or tops & names:
        return False
    for folder in used:
        folder.way = folder.way[1:]
    listed = ", ".join(sorted(map(_shown, tops))[:3])
    layout.notes.append(
        Note(f"the folders {listed} ... are pieces of the data and no classes; `preprocess.labels: folders` takes them")
    )
    return True


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
    elif labels == "auto" and classes and _are_of_cameras(used):
        listed = ", ".join(sorted(map(_shown, classes))[:3])
        layout.notes.append(
            Note(
                f"the folders {listed} ... are dates or a camera's and no classes; `preprocess.labels: folders` takes "
                "them"
            )
        )
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
        layout.alone, classes = layout.alone if PICTURE_FOLDERS.fullmatch(one) else one, set()
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


def _are_of_cameras(used: list[_Folder]) -> bool:
    """Whether all folders are as cameras name them, 100APPLE, or are dates; years alone may be classes."""
    pieces = {piece for folder in used for piece in folder.way}
    if all(_CAMERA.fullmatch(piece) for piece in pieces):
        return True
    dates = {piece for piece in pieces if _DATE.fullmatch(piece)}
    return bool(dates) and all(_YEAR.fullmatch(piece) for piece in pieces - dates)


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
