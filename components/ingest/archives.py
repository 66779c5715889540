"""Images in zip and tar archives, and in WebDataset's shards. Nothing is unpacked by its name, no link followed."""

from __future__ import annotations

import json
import os
import stat
import struct
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from .names import IMAGE_ENDINGS, LABEL_COLUMNS, ending_of, is_hidden, leads_out
from .parts import DEFLATED, ENCRYPTED, STORED, UNKNOWN_METHOD, Builder, Source
from .unpacking import container, unpacked

WEBDATASET_LABELS = ("cls", "json")
LABEL_BYTES = 2**20
_LINK = "a link, which is not followed"
_ELSEWHERE = "its name leads out of the archive"
_DAMAGED = "is damaged inside its archive"
_SPECIAL = "not a regular file"
_HEADER = 30


def read_zip(paths: Sequence[Path], scratch: Path, builder: Builder) -> Source:
    """List the images of zip archives."""
    for path in paths:
        suffix = f" in {path.name}" if len(paths) > 1 else ""
        with container(path, "a zip archive"), zipfile.ZipFile(path) as archive, path.open("rb") as file:
            entries = archive.infolist()
            shared = _overlapping(entries)
            for entry in sorted(entries, key=lambda entry: entry.filename):
                if not entry.filename or _is_image(entry.filename):
                    _add_entry(entry, path, file, suffix, entry.header_offset in shared, builder)
                else:
                    builder.count()
    return builder.source_by_folder("zip archive")


def _overlapping(entries: Sequence[zipfile.ZipInfo]) -> set[int]:
    """Return the places of entries that lie in others, by which a few bytes could be read any number of times."""
    found, end = set(), -1
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < end:
            found.add(entry.header_offset)
        end = max(end, entry.header_offset + _HEADER + entry.compress_size)
    return found


def _add_entry(
    entry: zipfile.ZipInfo, path: Path, file: BinaryIO, suffix: str, overlaps: bool, builder: Builder
) -> None:
    name = _in_archive(entry.filename, suffix)
    if stat.S_ISLNK(entry.external_attr >> 16):
        return builder.reject(name, _LINK)
    if leads_out(entry.filename):
        return builder.reject(name, _ELSEWHERE)
    if overlaps:
        return builder.reject(name, "shares its bytes with another entry of the archive")
    # What the local header says of names and fields may differ in length from the directory.
    header = os.pread(file.fileno(), 4, entry.header_offset + 26) if 0 <= entry.header_offset < 2**62 else b""
    if len(header) < 4 or not entry.filename:
        return builder.reject(name, _DAMAGED)
    name_length, extra_length = struct.unpack("<HH", header)
    offset = entry.header_offset + _HEADER + name_length + extra_length
    if offset + entry.compress_size > os.fstat(file.fileno()).st_size:
        return builder.reject(name, _DAMAGED)
    method = ENCRYPTED if entry.flag_bits & 1 else entry.compress_type
    method = method if method in (STORED, DEFLATED, ENCRYPTED) else UNKNOWN_METHOD
    size = entry.file_size if method == DEFLATED else entry.compress_size
    return builder.add(path, name, entry.compress_size, offset, method, unpacked=size)


def read_tar(paths: Sequence[Path], scratch: Path, builder: Builder) -> Source:
    """List the images of tar archives, with the labels that lie beside them in WebDataset's shards."""
    labelled = False
    for number, path in enumerate(paths):
        plain = unpacked(path, scratch, f"{number}.tar", builder.limits)
        suffix = f" in {path.name}" if len(paths) > 1 else ""
        with container(path, "a tar archive"), tarfile.open(plain, "r:") as archive:
            labelled |= _tar_members(archive, plain, suffix, builder)
    return builder.source("WebDataset shards") if labelled else builder.source_by_folder("tar archive")


def _tar_members(archive: tarfile.TarFile, path: Path, suffix: str, builder: Builder) -> bool:
    """Add the images of one archive; whether it has WebDataset labels.

    WebDataset: files that share a name up to the first dot lie side by side and are one sample.
    """
    key, image, label, any_label = "", None, None, False
    end, place = path.stat().st_size, -1

    def finish() -> None:
        if image is not None:
            name, size, offset = image
            builder.add(path, _in_archive(name, suffix), size, offset, label=label or "")

    while (member := archive.next()) is not None:
        # Not kept: a list of millions of members.
        archive.members = []  # type: ignore[attr-defined]
        if member.offset <= place or member.size < 0:
            raise tarfile.ReadError("its entries do not follow each other")
        place = member.offset
        is_image = _is_image(member.name)
        if not is_image or member.isdir():
            builder.count()
        if is_hidden(member.name):
            continue
        if not member.isreg() or member.issparse():
            if is_image and not member.isdir():
                linked = member.islnk() or member.issym()
                builder.reject(_in_archive(member.name, suffix), _LINK if linked else _SPECIAL)
            continue
        if leads_out(member.name):
            if is_image:
                builder.reject(_in_archive(member.name, suffix), _ELSEWHERE)
            continue
        ending = ending_of(member.name)
        stem = member.name[: len(member.name) - len(ending) - 1]
        if stem != key:
            finish()
            key, image, label = stem, None, None
        if is_image:
            if image is not None:
                finish()
            image = None
            if member.offset_data + member.size > end:
                builder.reject(_in_archive(member.name, suffix), _DAMAGED)
            else:
                image = member.name, member.size, member.offset_data
        elif ending in WEBDATASET_LABELS and member.size < LABEL_BYTES:
            content = archive.extractfile(member)
            label = _webdataset_label(content.read() if content else b"", ending)
            any_label |= label is not None
    finish()
    return any_label


def _is_image(name: str) -> bool:
    return not is_hidden(name) and not name.endswith("/") and ending_of(name).endswith(IMAGE_ENDINGS)


def _webdataset_label(content: bytes, ending: str) -> str | None:
    text = content.decode("utf-8", "replace").strip()
    if ending == "cls":
        return text or None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    found = [values[name] for name in LABEL_COLUMNS if name in values] if isinstance(values, dict) else []
    return str(found[0]) if found and isinstance(found[0], str | int) else None


def _in_archive(name: str, suffix: str) -> bytes:
    return (name.removeprefix("./") + suffix).encode("utf-8", "surrogateescape")
