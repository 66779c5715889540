"""Every file below the data: pictures, what packs pictures, tables, and what is left out with the reason."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ...workspace.text import shown
from ..parts import Builder, Note, may_be_followed
from ..tables import Text
from .kinds import Kind, is_litter, is_litter_folder, is_promised, kind_of_file

_LITTER = "made by a system or a program, not a picture of the data"
_OUTSIDE = "a link that leads out of the data (preprocess.follow_links reads what it points to)"


class Picture(NamedTuple):
    """A picture on the disk: its name below the data, and its size."""

    name: bytes
    size: int


class Packed(NamedTuple):
    """A file that holds many images, its name below the data, and what it is."""

    path: Path
    name: str
    kind: Kind
    size: int


@dataclass
class Listed:
    """What lies below the data. `foreign`: files that hold images in a way that is not read, with the name of it."""

    pictures: list[Picture] = field(default_factory=list)
    files: list[Packed] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    foreign: list[tuple[str, str]] = field(default_factory=list)


class _Waiting(NamedTuple):
    path: str
    name: bytes
    size: int
    depth: int


_FOLDER, _GONE = -1, -2


def listed(data: Path, builder: Builder) -> Listed:
    """List `data`, a folder or one file, in the order of names; what is no picture goes to the builder's tables.

    Without recursion, for folders may lie in each other more deeply than Python calls functions.
    """
    found = Listed()
    if not data.is_dir():
        _take(data, data.name, data.stat().st_size, builder, found)
        return found
    walk = _Walk(data, builder)
    waiting = walk.below(os.fspath(data), b"", 1)
    while waiting:
        at = waiting.pop()
        if at.size == _GONE:
            continue
        if at.size == _FOLDER:
            if at.depth > builder.limits.depth:
                builder.reject(at.name, f"lies in more than {builder.limits.depth} folders (preprocess.limits.depth)")
            else:
                waiting += walk.below(at.path, at.name, at.depth + 1)
        else:
            name = at.name.decode("utf-8", "surrogateescape")
            if is_promised(name) and not is_litter(name):
                found.pictures.append(Picture(at.name, at.size))
            else:
                _take(Path(at.path), name, at.size, builder, found)
    return found


def _take(path: Path, name: str, size: int, builder: Builder, found: Listed) -> None:
    """Put a file where it belongs by its content."""
    kind, why = kind_of_file(path, name)
    if kind == "picture" and not why:
        found.pictures.append(Picture(os.fsencode(name), size))
    elif kind == "picture":
        builder.reject(name, why)
    elif kind == "table":
        found.texts.append(Text(name, size, path.read_bytes))
    elif kind == "foreign":
        found.foreign.append((name, why))
    elif kind in ("left out", "litter"):
        builder.leave_out(name, why)
    else:
        found.files.append(Packed(path, name, kind, size))


class _Walk:
    """Lists folders, and decides about links: what is in `data/`, or in DVC's cache, is data."""

    def __init__(self, data: Path, builder: Builder) -> None:
        self._builder, self._root = builder, os.fsencode(os.path.realpath(data))
        self._seen: set[tuple[int, int]] = set()

    def below(self, folder: str, name: bytes, depth: int) -> list[_Waiting]:
        """Return what lies in a folder, the last name first."""
        try:
            with os.scandir(folder) as entries:
                ordered = sorted(entries, key=lambda entry: os.fsencode(entry.name), reverse=True)
        except OSError as error:
            self._builder.reject(name, (error.strerror or "cannot be read").lower())
            return []
        if not ordered and name:
            self._builder.leave_out(name + b"/", "an empty folder", lost=True)
            self._builder.note_once(Note(f"folders are empty, the first: {shown(name)}"))
        return [
            self._looked(entry, name + b"/" + os.fsencode(entry.name) if name else os.fsencode(entry.name), depth)
            for entry in ordered
        ]

    def _looked(self, entry: os.DirEntry[str], name: bytes, depth: int) -> _Waiting:
        try:
            if entry.is_symlink():
                return self._link(entry, name, depth)
            if entry.is_dir(follow_symlinks=False):
                if is_litter_folder(entry.name):
                    self._builder.leave_out(name + b"/", _LITTER)
                    return _Waiting(entry.path, name, _GONE, depth)
                return _Waiting(entry.path, name, _FOLDER, depth)
            return _Waiting(entry.path, name, entry.stat().st_size, depth)
        except OSError as error:
            self._builder.reject(name, (error.strerror or "cannot be read").lower())
            return _Waiting(entry.path, name, _GONE, depth)

    def _link(self, entry: os.DirEntry[str], name: bytes, depth: int) -> _Waiting:
        target = os.fsencode(os.path.realpath(entry.path))
        gone = _Waiting(entry.path, name, _GONE, depth)
        if not entry.is_dir() and not entry.is_file():
            self._builder.reject(name, "a link that leads nowhere")
            return gone
        inside = target == self._root or target.startswith(self._root + b"/")
        if not (inside or self._builder.follow_links or may_be_followed(target, self._root)):
            self._builder.leave_out(name, _OUTSIDE, lost=True)
            self._builder.note_once(
                Note("links that lead out of the data are left out; preprocess.follow_links reads them")
            )
            return gone
        if entry.is_file():
            return _Waiting(entry.path, name, entry.stat().st_size, depth)
        status = entry.stat()
        if inside or (status.st_dev, status.st_ino) in self._seen:
            self._builder.leave_out(name, "a link to a folder that is read already")
            return gone
        self._seen.add((status.st_dev, status.st_ino))
        return _Waiting(entry.path, name, _FOLDER, depth)
