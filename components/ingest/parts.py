"""Raw images as stages see them: some bytes at a place, with a name, a label and perhaps a split, cut into parts.

`formats.py` finds them in whatever users have.
"""

from __future__ import annotations

import os
import re
import stat
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..gan.errors import UserError
from ..workspace.params import Limits
from ..workspace.text import printable, shown
from .names import piece_name

# How DVC's cache calls a file by its content.
_IN_DVC_CACHE = re.compile(rb".*/files/md5/[0-9a-f]{2}/[0-9a-f]{30}")
# What a part says of an image's class before the layout is read.
NO_LABEL = -1
# Of images as they are read, unpacked: whoever reads a part may hold all of it.
PART_BYTES = 64 * 2**20
BY_CONTENT, TRAINING, HOLDOUT, DEVELOPMENT = range(4)
STORED, DEFLATED = 0, 8
ENCRYPTED, UNKNOWN_METHOD = 256, 257


@dataclass(frozen=True)
class Part:
    """Some raw images in one folder or one file; a few packed bytes for each, because there may be millions.

    `path` is a folder, below which `names` are files of `sizes` bytes; or a file, where image i lies in `sizes[i]`
    bytes at `offsets[i]`, packed by `methods[i]` from `unpacked[i]` bytes. `shape` is that of bare pixels (height,
    width), for IDX. `archive`: the path of the file below the data that the names lie in, where that counts as a
    folder. `follow_links`: links in the folder may lead anywhere. `inputs`: the pictures that the images belong to in
    pairs, row by row.
    """

    number: int
    path: str
    names: bytes
    labels: npt.NDArray[np.int32]
    splits: npt.NDArray[np.uint8]
    sizes: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64] | None
    methods: npt.NDArray[np.uint16] | None
    unpacked: npt.NDArray[np.int64] | None
    shape: tuple[int, int] | None
    archive: str = ""
    follow_links: bool = False
    inputs: Part | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> int:
        """Bytes of all its images, and of their inputs."""
        return int(self.sizes.sum()) + (0 if self.inputs is None else self.inputs.size)

    def raw_names(self) -> list[bytes]:
        return _split(self.names)

    def name(self, index: int) -> str:
        """How the table of rejected files calls an image."""
        return shown(in_archive(self.archive, self.raw_names()[index]))

    def paths(self) -> Iterator[str]:
        """Yield where each image lies below the data, an archive taken for a folder."""
        above = piece_name(self.archive)
        above = f"{above}/" if above else ""
        for name in self.raw_names():
            yield above + name.decode("utf-8", "surrogateescape")


def in_archive(archive: str, name: bytes) -> bytes:
    """Return how an entry of an archive, or a row of a table (`#7`), is called."""
    between = b"/" if archive and not name.startswith(b"#") else b""
    return os.fsencode(archive) + between + name


@lru_cache(maxsize=16)
def _split(names: bytes) -> list[bytes]:
    """Return the names; of the last few parts, as others ask for one at a time."""
    return names.split(b"\0")


@dataclass
class Source:
    """Raw images: class names, parts, what cannot be used and what is left out, with reasons, and what was assumed.

    `tables`: those that tell classes. `pairs`: how pictures were put together, of data in pairs.
    """

    kind: str
    classes: tuple[str, ...]
    parts: list[Part]
    rejected: list[tuple[str, str]] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    lost: int = 0
    tables: list[str] = field(default_factory=list)
    pairs: str = ""

    def __len__(self) -> int:
        return sum(map(len, self.parts))


class PairContent(NamedTuple):
    """What lies at the two places of a pair: the content of a file, or the reason why it cannot be read."""

    target: bytes | str
    input: bytes | str


Content = bytes | str | PairContent


class Note(NamedTuple):
    """What was assumed or is not used, in a sentence; `guess`: somebody else might read the data otherwise."""

    text: str
    guess: bool = True


class Builder:
    """Collects images and cuts them into parts; labels that the data state beside an image are kept with it.

    What is beyond a limit is rejected here, from sizes alone.
    """

    def __init__(self, root: Path, size: int, limits: Limits, follow_links: bool = False) -> None:
        self.root, self.follow_links = root, follow_links
        self.limits = limits
        self.rejected: list[tuple[str, str]] = []
        self.left_out: list[tuple[str, str]] = []
        # How many of those are pictures or labels that somebody may miss.
        self.lost = 0
        self.notes: list[Note] = []
        # How pictures were put together, of data in pairs.
        self.pairs = ""
        # Names of classes that images were added with, and the order that a file states for them.
        self.labels: dict[str, int] = {}
        self.order: list[str] | None = None
        # Archives whose images have labels beside them, so that one without is none that can be used.
        self.stating: set[str] = set()
        self._size = size
        self._count = 0
        self._parts: list[Part] = []
        self._where: tuple[str, tuple[int, int] | None, str] = ("", None, "")
        self._clear()

    def _clear(self) -> None:
        self._rows: list[tuple[bytes, int, int, int, int, int, int]] = []
        self._bytes = 0

    def count(self) -> None:
        """Count a file, entry or row, whether it is an image or not.

        Raises:
            UserError: there are more than the limit.
        """
        self._count += 1
        if self._count > self.limits.entries:
            raise UserError(
                f"{shown(os.fsencode(self.root))} holds more than {self.limits.entries:,} files, entries and rows: "
                "raise preprocess.limits.entries"
            )

    def reject(self, name: str | bytes, reason: str) -> None:
        """Put a row into the table of rejected files."""
        self.count()
        text = shown(name) if isinstance(name, bytes) else printable(name)
        self.rejected.append((text or "(without a name)", reason))

    def leave_out(self, name: str | bytes, reason: str, lost: bool = False) -> None:
        """Put a row into the table of what is no picture of the data, or not used; `lost`: it might have been meant."""
        self.count()
        self.lost += lost
        text = shown(name) if isinstance(name, bytes) else printable(name)
        self.left_out.append((text or "(without a name)", reason))

    def note_once(self, note: Note) -> None:
        """Keep a note, unless it is there already."""
        if note not in self.notes:
            self.notes.append(note)

    def add(
        self,
        path: Path,
        name: bytes,
        size: int,
        offset: int = -1,
        method: int = STORED,
        *,
        unpacked: int | None = None,
        label: str | None = None,
        split: int = BY_CONTENT,
        shape: tuple[int, int] | None = None,
        archive: str = "",
    ) -> None:
        """Take an image of `size` bytes, `unpacked` if that is more, or reject it."""
        plain = size if unpacked is None else unpacked
        if plain > self.limits.file_bytes or size > self.limits.file_bytes:
            return self.reject(in_archive(archive, name), "too large a file")
        if plain > max(2**20, self.limits.growth * size):
            return self.reject(
                in_archive(archive, name), f"grows more than {self.limits.growth}-fold when it is unpacked"
            )
        identity = NO_LABEL
        if label is not None:
            label = printable(label)
            if len(label) > self.limits.label_length:
                return self.reject(in_archive(archive, name), f"its class has a name of {len(label):,} letters")
            identity = self.labels.setdefault(label, len(self.labels))
        self.count()
        if (str(path), shape, archive) != self._where or len(self._rows) >= self._size or self._bytes >= PART_BYTES:
            self._cut()
            self._where = str(path), shape, archive
        self._rows.append((name.replace(b"\0", b"?"), size, offset, method, plain, identity, split))
        self._bytes += plain
        return None

    def _cut(self) -> None:
        if not self._rows:
            return
        names, *columns = zip(*self._rows, strict=True)
        sizes, offsets, methods, unpacked, labels, splits = (np.array(column) for column in columns)
        path, shape, archive = self._where
        inside = offsets[0] >= 0
        self._parts.append(
            Part(
                len(self._parts),
                path,
                b"\0".join(names),
                labels.astype(np.int32),
                splits.astype(np.uint8),
                sizes.astype(np.int64),
                offsets.astype(np.int64) if inside else None,
                methods.astype(np.uint16) if inside else None,
                unpacked.astype(np.int64) if inside else None,
                shape,
                archive,
                self.follow_links,
            )
        )
        self._clear()

    def parts(self) -> list[Part]:
        """Return all images that were added, in parts; their labels are places in `labels`, or NO_LABEL."""
        self._cut()
        return self._parts


def rows_of(part: Part, number: int, keep: Sequence[int], labels: Sequence[int], splits: Sequence[int]) -> Part:
    names = part.raw_names()
    return replace(
        part,
        number=number,
        names=b"\0".join(names[row] for row in keep),
        labels=np.array(labels, np.int32),
        splits=np.array(splits, np.uint8),
        sizes=part.sizes[keep],
        offsets=None if part.offsets is None else part.offsets[keep],
        methods=None if part.methods is None else part.methods[keep],
        unpacked=None if part.unpacked is None else part.unpacked[keep],
        inputs=None if part.inputs is None else rows_of(part.inputs, number, keep, labels, splits),
    )


def natural(name: str) -> tuple[bool, int, str, str]:
    """Sort numbers as numbers, of any length, before names."""
    digits = name.isascii() and name.isdigit()
    number = name.lstrip("0") if digits else ""
    return not digits, len(number), number, name


def thinned(source: Source, count: int) -> list[Part]:
    """Parts with at most about `count` of the images, evenly spread."""
    step = max(1, len(source) // count)
    chosen, start = [], 0
    for part in source.parts:
        keep = np.arange(-start % step, len(part), step)
        start += len(part)
        if len(keep):
            rows = keep.tolist()
            chosen.append(rows_of(part, part.number, rows, part.labels[keep].tolist(), part.splits[keep].tolist()))
    return chosen


def read(part: Part) -> Iterator[Content]:
    """Yield the content of each image of `part` as it lies there, or the reason why it cannot be read; or of pairs."""
    if part.inputs is None:
        yield from contents_of(part)
    else:
        for target, given in zip(contents_of(part), contents_of(part.inputs), strict=True):
            yield PairContent(target, given)


def contents_of(part: Part) -> Iterator[bytes | str]:
    """Yield the same of the images alone."""
    if part.offsets is None or part.methods is None or part.unpacked is None:
        for name, size in zip(part.raw_names(), part.sizes.tolist(), strict=True):
            path = os.path.join(os.fsencode(part.path), name)  # noqa: PTH118
            yield _file(path, os.fsencode(part.path), size, part.follow_links)
        return
    columns = part.offsets.tolist(), part.sizes.tolist(), part.methods.tolist(), part.unpacked.tolist()
    with Path(part.path).open("rb") as file:
        for offset, size, method, unpacked in zip(*columns, strict=True):
            if method in (ENCRYPTED, UNKNOWN_METHOD):
                yield "is encrypted" if method == ENCRYPTED else "is packed by a method that is not known"
            else:
                content = os.pread(file.fileno(), size, offset)
                yield content if method == STORED else _inflated(content, unpacked)


def may_be_followed(target: bytes, folder: bytes) -> bool:
    """Whether a link in the data `folder` to the real path `target` is data: within it, or into DVC's cache."""
    return target.startswith(folder.rstrip(b"/") + b"/") or _IN_DVC_CACHE.fullmatch(target) is not None


def _file(path: bytes, folder: bytes, size: int, follow_links: bool) -> bytes | str:
    """Read a regular file of `size` bytes."""
    try:
        # It may have become a link since it was listed.
        if not follow_links and os.path.islink(path):  # noqa: PTH114
            target = os.path.realpath(path)
            if not may_be_followed(target, os.path.realpath(folder)):
                return "a link to a file outside the folder"
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116
            return "not a regular file"
        # Should it be another file by now, it may be one that nobody ever writes into.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        return (getattr(error, "strerror", None) or "cannot be read").lower()
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return "not a regular file"
        try:
            content = file.read(size + 1)
        except OSError as error:
            return (error.strerror or "cannot be read").lower()
    return content if len(content) == size else "changed while it was read"


def _inflated(content: bytes, size: int) -> bytes | str:
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        # No more than the archive's list says.
        plain = unpacker.decompress(content, size + 1)
    except zlib.error:
        return "is damaged inside its archive"
    return plain if len(plain) == size else "is damaged inside its archive"
