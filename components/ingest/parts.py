"""Raw images as stages see them: some bytes at a place, with a name, a label and perhaps a split, cut into parts.

`formats.py` finds them in whatever users have.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..gan.errors import UserError
from ..workspace.params import Limits
from ..workspace.text import printable, shortened, shown

# Of images as they are read, unpacked: whoever reads a part may hold all of it.
PART_BYTES = 64 * 2**20
BY_CONTENT, TRAINING, HOLDOUT, DEVELOPMENT = range(4)
SPLITS = (
    {"train": TRAINING, "training": TRAINING}
    | dict.fromkeys(("val", "valid", "validation", "dev", "development"), DEVELOPMENT)
    | dict.fromkeys(("test", "eval", "holdout", "t10k"), HOLDOUT)
)
STORED, DEFLATED = 0, 8
ENCRYPTED, UNKNOWN_METHOD = 256, 257


@dataclass(frozen=True)
class Part:
    """Some raw images in one folder or one file; a few packed bytes for each, because there may be millions.

    `path` is a folder, below which `names` are files of `sizes` bytes; or a file, where image i lies in `sizes[i]`
    bytes at `offsets[i]`, packed by `methods[i]` from `unpacked[i]` bytes. `shape` is that of bare pixels (height,
    width), for IDX.
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

    def __len__(self) -> int:
        return len(self.labels)

    def raw_names(self) -> list[bytes]:
        return _split(self.names)

    def name(self, index: int) -> str:
        """How the table of rejected files calls an image."""
        return shown(self.raw_names()[index])


@lru_cache(maxsize=16)
def _split(names: bytes) -> list[bytes]:
    """Return the names; of the last few parts, as others ask for one at a time."""
    return names.split(b"\0")


@dataclass
class Source:
    """Raw images of one kind: class names, parts, and the names of those that cannot be used with the reason."""

    kind: str
    classes: tuple[str, ...]
    parts: list[Part]
    rejected: list[tuple[str, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(map(len, self.parts))


class Builder:
    """Collects images and cuts them into parts; labels are names until the end.

    What is beyond a limit is rejected here, from sizes alone.
    """

    def __init__(self, root: Path, size: int, limits: Limits) -> None:
        self.root = root
        self.limits = limits
        self.rejected: list[tuple[str, str]] = []
        self._size = size
        self._count = 0
        self._parts: list[Part] = []
        self._ids: dict[str, int] = {}
        self._where: tuple[str, tuple[int, int] | None] = ("", None)
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

    def add(
        self,
        path: Path,
        name: bytes,
        size: int,
        offset: int = -1,
        method: int = STORED,
        *,
        unpacked: int | None = None,
        label: str = "",
        split: int = BY_CONTENT,
        shape: tuple[int, int] | None = None,
    ) -> None:
        """Take an image of `size` bytes, `unpacked` if that is more, or reject it."""
        plain = size if unpacked is None else unpacked
        if plain > self.limits.file_bytes or size > self.limits.file_bytes:
            return self.reject(name, "too large a file")
        if plain > max(2**20, self.limits.growth * size):
            return self.reject(name, f"grows more than {self.limits.growth}-fold when it is unpacked")
        label = printable(label)
        if len(label) > self.limits.label_length:
            return self.reject(name, f"its class has a name of {len(label):,} letters")
        self.count()
        if (str(path), shape) != self._where or len(self._rows) >= self._size or self._bytes >= PART_BYTES:
            self._cut()
            self._where = str(path), shape
        identity = self._ids.setdefault(label, len(self._ids))
        self._rows.append((name.replace(b"\0", b"?"), size, offset, method, plain, identity, split))
        self._bytes += plain
        return None

    def _cut(self) -> None:
        if not self._rows:
            return
        names, *columns = zip(*self._rows, strict=True)
        sizes, offsets, methods, unpacked, labels, splits = (np.array(column) for column in columns)
        path, shape = self._where
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
            )
        )
        self._clear()

    def source(self, kind: str, order: Sequence[str] | None = None) -> Source:
        """Return the images with their labels; classes are sorted by name, numbers as numbers, or stand in `order`."""
        self._cut()
        self._check_any(self._parts)
        classes = list(order) if order else sorted(self._ids, key=_natural)
        places = {name: place for place, name in reversed([*enumerate(classes)])}
        position = np.array([places[name] for name in self._ids], np.int32)
        parts = [replace(part, labels=position[part.labels]) for part in self._parts]
        return Source(kind, tuple(name or "image" for name in classes), parts, self.rejected)

    def _check_any(self, parts: Sequence[Part]) -> None:
        """Make sure that there are images.

        Raises:
            UserError: there are none; what was refused is named.
        """
        if parts:
            return
        refused = ""
        if self.rejected:
            name, reason = self.rejected[0]
            refused = f" ({len(self.rejected):,} refused, the first: {shortened(name)}: {reason})"
        raise UserError(f"there are no images in {self.root}{refused}")

    def source_by_folder(self, kind: str) -> Source:
        """Return the images, labelled by the folders in their names.

        Folders that hold all images tell nothing and are passed over; then `train`, `test` and the like are splits;
        the next folder is the class. Images beside class folders have none and are left out.
        """
        self._cut()
        depth, above, tops = 0, "", self._components(0)
        while len(tops) == 1 and b"" not in tops:
            above = shown(next(iter(tops)))
            depth, tops = depth + 1, self._components(depth + 1)
        split_depth = depth if tops and all(shown(top).lower() in SPLITS for top in tops) else None
        if split_depth is not None:
            depth, tops = depth + 1, self._components(depth + 1)
        if tops <= {b""}:
            classes = [above if split_depth is None and above else "image"]
        else:
            classes = sorted({shown(top) for top in tops if top}, key=_natural)
        index = {name: number for number, name in enumerate(classes)}
        parts: list[Part] = []
        for part in self._parts:
            labels, splits, keep = [], [], []
            for row, name in enumerate(part.raw_names()):
                folders = name.split(b"/")[:-1]
                label = shown(folders[depth]) if len(folders) > depth else ""
                if not label and len(classes) > 1:
                    self.rejected.append((shown(name), "lies beside the class folders"))
                    continue
                keep.append(row)
                labels.append(index[label] if label else 0)
                splits.append(SPLITS[shown(folders[split_depth]).lower()] if split_depth is not None else BY_CONTENT)
            if keep:
                parts.append(_rows_of(part, len(parts), keep, labels, splits))
        self._check_any(parts)
        return Source(kind, tuple(classes), parts, self.rejected)

    def _components(self, depth: int) -> set[bytes]:
        """Return the folders at `depth` of all names; an empty one for images that lie higher."""
        found = set()
        for part in self._parts:
            for name in part.raw_names():
                folders = name.split(b"/")[:-1]
                found.add(folders[depth] if len(folders) > depth else b"")
        return found


def _rows_of(part: Part, number: int, keep: Sequence[int], labels: Sequence[int], splits: Sequence[int]) -> Part:
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
    )


def _natural(name: str) -> tuple[bool, int, str, str]:
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
            chosen.append(_rows_of(part, part.number, rows, part.labels[keep].tolist(), part.splits[keep].tolist()))
    return chosen


def read(part: Part) -> Iterator[bytes | str]:
    """Yield the content of each image of `part` as it lies there, or the reason why it cannot be read."""
    if part.offsets is None or part.methods is None or part.unpacked is None:
        for name, size in zip(part.raw_names(), part.sizes.tolist(), strict=True):
            yield _file(os.path.join(os.fsencode(part.path), name), os.fsencode(part.path), size)  # noqa: PTH118
        return
    columns = part.offsets.tolist(), part.sizes.tolist(), part.methods.tolist(), part.unpacked.tolist()
    with Path(part.path).open("rb") as file:
        for offset, size, method, unpacked in zip(*columns, strict=True):
            if method in (ENCRYPTED, UNKNOWN_METHOD):
                yield "is encrypted" if method == ENCRYPTED else "is packed by a method that is not known"
            else:
                content = os.pread(file.fileno(), size, offset)
                yield content if method == STORED else _inflated(content, unpacked)


def _file(path: bytes, folder: bytes, size: int) -> bytes | str:
    """Read a regular file of `size` bytes."""
    try:
        if os.path.islink(path) and not _is_inside(os.path.realpath(path), os.path.realpath(folder)):  # noqa: PTH114
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


def _is_inside(path: bytes, folder: bytes) -> bool:
    return path.startswith(folder.rstrip(b"/") + b"/")


def _inflated(content: bytes, size: int) -> bytes | str:
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        # No more than the archive's list says.
        plain = unpacker.decompress(content, size + 1)
    except zlib.error:
        return "is damaged inside its archive"
    return plain if len(plain) == size else "is damaged inside its archive"
