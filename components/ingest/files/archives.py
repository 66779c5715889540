"""Images in zip and tar archives, and in WebDataset's shards. Nothing is unpacked by its name, no link followed."""

from __future__ import annotations

import json
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ..names import LABEL_COLUMNS, ending_of, piece_name
from ..parts import DEFLATED, ENCRYPTED, STORED, UNKNOWN_METHOD, Builder, in_archive
from ..tables import Text
from .arrays import read_arrays
from .kinds import HEAD_BYTES, Kind, is_litter, is_promised, kind_of
from .unpacking import container, unpacked

WEBDATASET_LABELS = ("cls", "json")
LABEL_BYTES = 2**20
_LINK = "a link, which is not followed"
_DAMAGED = "is damaged inside its archive"
_SPECIAL = "not a regular file"
_OUTSIDE = "its name leads out of the archive"
_NESTED = "an archive within an archive within an archive: unpack it"
_HEADER = 30
_BLOCK = 512
# Masks and the like of WebDataset samples: `seg` of `0001.seg.png`.
_MASK_PARTS = frozenset(("seg", "mask", "segmentation", "label", "gt", "depth", "normal", "edge", "alpha", "matte"))


class Entry(NamedTuple):
    """A file in an archive: its name as a path, and how its beginning, or all of it, is read."""

    name: str
    size: int
    read: Callable[[int], bytes]


class Reader:
    """Reads archives into a builder, and gathers the tables in them; `scratch` is for what must be unpacked."""

    def __init__(self, builder: Builder, scratch: Path) -> None:
        self.builder, self.scratch = builder, scratch
        self.texts: list[Text] = []
        self._unpacked = 0

    def read(self, path: Path, kind: str, within: str, nested: bool = False) -> None:
        """List the images of an archive, whose images count as lying in the folder `within`."""
        called = within if nested else ""
        if kind == "zip":
            with container(path, "a zip archive", called), zipfile.ZipFile(path) as archive, path.open("rb") as file:
                self._zip(archive, path, file, within, nested)
        else:
            plain = unpacked(path, self.scratch, self._next("tar"), self.builder.limits)
            with container(path, "a tar archive", called):
                for members in _tars(plain):
                    self._tar(members, plain, within, nested)

    def _next(self, last: str) -> str:
        self._unpacked += 1
        return f"{self._unpacked}.{last}"

    # --- zip ---

    def _zip(self, archive: zipfile.ZipFile, path: Path, file: BinaryIO, within: str, nested: bool) -> None:
        entries = [entry for entry in archive.infolist() if not entry.filename or not entry.filename.endswith("/")]
        shared = _overlapping(entries)
        # As some versions of Windows pack.
        turn = any("\\" in entry.filename for entry in entries) and not any("/" in e.filename for e in entries)
        for entry in sorted(entries, key=lambda entry: entry.filename):
            name = entry.filename.replace("\\", "/") if turn else entry.filename
            place = _place_of(entry, file)
            packed = _ZipContent(entry, file, place)
            kind, why = _kind(name, packed.head)
            shown = _named(name, within)
            if kind != "picture":
                self._other(Entry(_clean(name), entry.file_size, packed.read), kind, why, within, nested)
            elif why:
                self.builder.reject(shown, why)
            elif stat.S_ISLNK(entry.external_attr >> 16):
                self.builder.reject(shown, _LINK)
            elif entry.header_offset in shared:
                self.builder.reject(shown, "shares its bytes with another entry of the archive")
            elif place is None or not entry.filename:
                self.builder.reject(shown, _DAMAGED)
            elif ".." in name.split("/"):
                self.builder.reject(shown, _OUTSIDE)
            else:
                method = ENCRYPTED if entry.flag_bits & 1 else entry.compress_type
                method = method if method in (STORED, DEFLATED, ENCRYPTED) else UNKNOWN_METHOD
                size = entry.file_size if method == DEFLATED else entry.compress_size
                name_bytes = _clean(name).encode("utf-8", "surrogateescape")
                self.builder.add(path, name_bytes, entry.compress_size, place, method, unpacked=size, archive=within)

    # --- tar ---

    def _tar(self, archive: tarfile.TarFile, path: Path, within: str, nested: bool) -> None:
        """Add the images of one archive, with the labels that lie beside them in WebDataset's shards.

        WebDataset: files that share a name up to the first dot lie side by side and are one sample.
        """
        key, label, images = "", None, list[tuple[str, int, int]]()
        end, place = path.stat().st_size, -1

        def finish() -> None:
            for name, size, offset in images:
                inside = [*name.rpartition("/")[2].lower().split(".")[1:-1]]
                if label is not None and len(images) > 1 and _MASK_PARTS & {*inside}:
                    self.builder.leave_out(_named(name, within), "a mask, or the like, of the picture beside it")
                else:
                    encoded = _clean(name).encode("utf-8", "surrogateescape")
                    self.builder.add(path, encoded, size, offset, label=label, archive=within)
            if label is not None:
                self.builder.stating.add(within)

        while (member := archive.next()) is not None:
            # Not kept: a list of millions of members.
            archive.members = []  # type: ignore[attr-defined]
            if member.offset <= place or member.size < 0:
                raise tarfile.ReadError("its entries do not follow each other")
            place = member.offset
            name = member.name
            if member.isdir():
                self.builder.count()
                continue
            if not member.isreg() or member.issparse():
                linked = member.islnk() or member.issym()
                if is_promised(name) and not is_litter(name):
                    self.builder.reject(_named(name, within), _LINK if linked else _SPECIAL)
                else:
                    self.builder.leave_out(_named(name, within), _LINK if linked else _SPECIAL)
                continue
            content = _TarContent(path, member.offset_data, member.size)
            kind, why = _kind(name, content.head)
            last = ending_of(name)
            stem = name[: len(name) - len(last) - 1] if last else name
            if stem != key:
                finish()
                key, label, images = stem, None, []
            if kind == "picture":
                if why or ".." in name.split("/") or member.offset_data + member.size > end:
                    why = why or (_OUTSIDE if ".." in name.split("/") else _DAMAGED)
                    self.builder.reject(_named(name, within), why)
                else:
                    images.append((name, member.size, member.offset_data))
            elif (found := _webdataset_label(content, member.size, last)) is not None:
                label = found
                self.builder.count()
            else:
                self._other(Entry(_clean(name), member.size, content.read), kind, why, within, nested)
        finish()

    # --- what is no picture ---

    def _other(self, entry: Entry, kind: Kind, why: str, within: str, nested: bool) -> None:
        """Read an archive in the archive, keep a table for later, and leave out everything else."""
        name = _named(entry.name, within)
        path = f"{within}/{entry.name}" if within else entry.name
        if kind == "table":
            place = f"{piece_name(within)}/{entry.name}".strip("/")
            self.texts.append(Text(place, entry.size, lambda: entry.read(entry.size)))
            self.builder.count()
        elif kind in ("zip", "tar", "arrays") and not nested:
            self._nested(entry, kind, path)
        elif kind in ("zip", "tar", "arrays"):
            self.builder.leave_out(name, _NESTED)
        else:
            known = {"foreign": f"{why}, which is not read", "Parquet": "Parquet in an archive: unpack it"}
            self.builder.leave_out(name, known.get(kind, why) or "not read from archives: unpack it")

    def _nested(self, entry: Entry, kind: Kind, path: str) -> None:
        target = self.scratch / self._next("packed")
        limits = self.builder.limits
        if entry.size > limits.file_bytes * 8:
            self.builder.leave_out(entry.name, "an archive too large to be unpacked from an archive: unpack it")
            return
        content = entry.read(entry.size)
        if len(content) != entry.size:
            self.builder.reject(entry.name, _DAMAGED)
            return
        target.write_bytes(content)
        if kind == "arrays":
            read_arrays(target, self.scratch / self._next("images"), self.builder, path)
        else:
            self.read(target, kind, path, nested=True)


def _tars(path: Path) -> Iterator[tarfile.TarFile]:
    """Yield the archives that a file holds one after another, as `cat a.tar b.tar` leaves them."""
    with path.open("rb") as file:
        start: int | None = 0
        while start is not None:
            file.seek(start)
            with tarfile.open(fileobj=file, mode="r:") as archive:
                yield archive
            start = _behind(file, archive.offset)


def _behind(file: BinaryIO, offset: int) -> int | None:
    """Return where the next archive begins, behind the empty blocks that end one; None where there is none.

    Raises:
        ReadError: the archive did not end at `offset`, but its next header is damaged.
    """
    file.seek(offset)
    if file.read(_BLOCK).strip(b"\0"):
        raise tarfile.ReadError("the header of an entry is damaged")
    file.seek(offset)
    while block := file.read(2**20):
        filled = len(block) - len(block.lstrip(b"\0"))
        if filled < len(block):
            start = offset + filled // _BLOCK * _BLOCK
            file.seek(start)
            return start if file.read(_BLOCK)[257:262] == b"ustar" else None
        offset += len(block)
    return None


def _kind(name: str, head: Callable[[], bytes]) -> tuple[Kind, str]:
    """Return what an entry is; its beginning is read only where its name does not tell."""
    if is_litter(name):
        return kind_of(name, b"")
    return ("picture", "") if is_promised(name) else kind_of(name, head())


def _clean(name: str) -> str:
    """Return a name as a path below the archive."""
    return re.sub(r"^(\./|/+|[A-Za-z]:[/\\]+)+", "", name)


def _named(name: str, within: str) -> bytes:
    return in_archive(within, _clean(name).encode("utf-8", "surrogateescape"))


class _ZipContent:
    """The content of an entry of a zip archive, no more of it than its list says."""

    def __init__(self, entry: zipfile.ZipInfo, file: BinaryIO, place: int | None) -> None:
        self._entry, self._path, self._place = entry, file.name, place

    def head(self) -> bytes:
        return self.read(HEAD_BYTES)

    def read(self, count: int) -> bytes:
        if self._place is None or self._entry.flag_bits & 1:
            return b""
        with Path(self._path).open("rb") as file:
            size = self._entry.compress_size
            packed = os.pread(
                file.fileno(), size if count >= self._entry.file_size else min(size, 2 * count), self._place
            )
            if self._entry.compress_type == STORED:
                return packed[:count]
            if self._entry.compress_type != DEFLATED:
                return b""
            try:
                return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, count)
            except zlib.error:
                return b""


class _TarContent:
    def __init__(self, path: Path, offset: int, size: int) -> None:
        self._path, self._offset, self._size = path, offset, size

    def head(self) -> bytes:
        return self.read(HEAD_BYTES)

    def read(self, count: int) -> bytes:
        with self._path.open("rb") as file:
            return os.pread(file.fileno(), min(count, self._size), self._offset)


def _place_of(entry: zipfile.ZipInfo, file: BinaryIO) -> int | None:
    """Return where an entry's bytes begin; None where they do not lie in the archive."""
    # What the local header says of names and fields may differ in length from the directory.
    header = os.pread(file.fileno(), 4, entry.header_offset + 26) if 0 <= entry.header_offset < 2**62 else b""
    if len(header) < 4:
        return None
    name_length, extra_length = struct.unpack("<HH", header)
    offset: int = entry.header_offset + _HEADER + name_length + extra_length
    return None if offset + entry.compress_size > os.fstat(file.fileno()).st_size else offset


def _overlapping(entries: Sequence[zipfile.ZipInfo]) -> set[int]:
    """Return the places of entries that lie in others, by which a few bytes could be read any number of times."""
    found, end = set(), -1
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < end:
            found.add(entry.header_offset)
        end = max(end, entry.header_offset + _HEADER + entry.compress_size)
    return found


def _webdataset_label(content: _TarContent, size: int, ending: str) -> str | None:
    """Return the label of a WebDataset sample that a file says; None where it says none."""
    if ending not in WEBDATASET_LABELS or size >= LABEL_BYTES:
        return None
    text = content.read(size).decode("utf-8", "replace").strip()
    if ending == "cls":
        return text or None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    found = [values[name] for name in LABEL_COLUMNS if name in values] if isinstance(values, dict) else []
    return str(found[0]) if found and isinstance(found[0], str | int) else None
