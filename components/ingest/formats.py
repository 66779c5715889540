"""Finds raw images in whatever users have, by its content.

Known are: a table `labels.csv` (path, label, split); IDX pairs (the format of MNIST, plain or gzipped); zip and tar
archives of images; WebDataset tar shards; Parquet with image bytes; folders of images, one for each class or without
classes. Here are folders, tables and IDX; `archives.py` and `parquet.py` read the others.
"""

from __future__ import annotations

import gzip
import os
import stat
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

from ..gan.errors import UserError
from ..workspace.params import Limits
from ..workspace.text import printable, shortened
from .archives import read_tar, read_zip
from .names import IMAGE_ENDINGS, split_of
from .parquet import read_parquet
from .parts import BY_CONTENT, SPLITS, Builder, Source
from .unpacking import container, opened, unpacked


def find_raw_images(data: Path, scratch: Path, size: int, limits: Limits) -> Source:
    """Look at the content of `data`, a folder or one file, and list its images in parts of at most `size`.

    What has to be unpacked to be read in parts goes to `scratch`, and is found there the next time.

    Raises:
        UserError: nothing known was found, or it is damaged.
    """
    if data.is_dir():
        files = sorted(p for p in data.iterdir() if p.is_file() and not p.name.startswith("."))
    elif data.is_file():
        files = [data]
    else:
        raise UserError(f"there is no {printable(str(data))}: name a folder or a file with images")
    found: dict[str, list[Path]] = {}
    for path in files:
        found.setdefault(_kind(path), []).append(path)
    builder = Builder(data if data.is_dir() else data.parent, size, limits)
    if "table" in found:
        return _table(found["table"][0], builder)
    if "IDX images" in found or "IDX labels" in found:
        return _idx(found.get("IDX images", []), found.get("IDX labels", []), scratch, builder)
    packed = [kind for kind in ("zip", "tar", "Parquet") if kind in found]
    if len(packed) > 1:
        raise UserError(f"{printable(str(data))} holds files of several kinds ({', '.join(packed)}): keep one kind")
    if packed:
        read = {"zip": read_zip, "tar": read_tar, "Parquet": read_parquet}[packed[0]]
        return read(found[packed[0]], scratch, builder)
    return _folder(data, files, builder)


def _kind(path: Path) -> str:
    """Return what a file is, by its first bytes; a table by its name."""
    if path.name == "labels.csv":
        return "table"
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "other"
        with path.open("rb") as file:
            head = file.read(512)
        if head.startswith(b"\x1f\x8b"):
            with gzip.open(path, "rb") as file:
                head = file.read(512)
    except (OSError, EOFError, zlib.error):
        return "damaged"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if head[257:262] == b"ustar":
        return "tar"
    starts = {b"PAR1": "Parquet", b"\0\0\x08\x03": "IDX images", b"\0\0\x08\x01": "IDX labels"}
    return starts.get(head[:4], "other")


def _idx(images: Sequence[Path], labels: Sequence[Path], scratch: Path, builder: Builder) -> Source:
    if len(images) != len(labels):
        raise UserError(f"found {len(images)} IDX files of images but {len(labels)} of labels: each needs the other")
    for number, (image_path, label_path) in enumerate(zip(images, labels, strict=True)):
        raw = unpacked(image_path, scratch, f"{number}.idx", builder.limits)
        names = printable(image_path.name), printable(label_path.name)
        try:
            with raw.open("rb") as plain:
                _, rows, height, width = struct.unpack(">IIII", plain.read(16))
            with opened(label_path) as packed:
                _, count = struct.unpack(">II", packed.read(8))
                # One more than there may be; whatever else is packed there is not unpacked.
                values = packed.read(min(count, builder.limits.entries) + 1)
        except (gzip.BadGzipFile, zlib.error, EOFError, struct.error) as error:
            raise UserError(f"{names[0]} or {names[1]} is damaged ({error}): fetch them again") from None
        if raw.stat().st_size != 16 + rows * height * width or len(values) != count or not height * width:
            raise UserError(f"{names[0]} or {names[1]} is cut short: fetch them again")
        if rows != count:
            raise UserError(f"{names[0]} holds {rows} images but {names[1]} holds {count} labels")
        if height * width > builder.limits.pixels:
            raise UserError(f"{names[0]} holds images of {width}x{height} pixels, which are too many to decode safely")
        size, split = height * width, split_of(image_path)
        for row, label in enumerate(values):
            name = os.fsencode(f"{image_path.name}#{row}")
            builder.add(raw, name, size, 16 + row * size, label=str(label), split=split, shape=(height, width))
    return builder.source("IDX files")


def _folder(data: Path, top: Sequence[Path], builder: Builder) -> Source:
    folders = sorted(p for p in data.iterdir() if p.is_dir() and not p.name.startswith(".")) if data.is_dir() else []
    if folders:
        for folder in folders:
            before = len(builder.rejected)
            if not _walk(data, folder, builder) and len(builder.rejected) == before:
                raise UserError(f"the class folder {printable(str(folder))} is empty: put images there or remove it")
    pictures = [path for path in top if path.suffix[1:].lower() in IMAGE_ENDINGS]
    for path in pictures:
        builder.add(data, os.fsencode(path.name), path.stat().st_size)
    if not folders and not pictures:
        names = shortened(", ".join(printable(path.name) for path in top[:5])) or "nothing"
        raise UserError(
            f"{printable(str(data))} holds no images that ganflow can read (found {names}): put folders of images, an "
            "IDX pair, a zip or tar of images, Parquet files with image bytes, or a labels.csv there"
        )
    return builder.source_by_folder("folder of images")


def _walk(data: Path, folder: Path, builder: Builder) -> int:
    """Add the files below `folder`, in the order of their names; how many.

    Without recursion, for folders may lie in each other more deeply than Python calls functions.
    """
    count, root = 0, len(os.fsencode(data)) + 1
    waiting: list[tuple[str, int, int]] = [*_listed(os.fspath(folder), 1, root, builder)]
    while waiting:
        path, size, depth = waiting.pop()
        name = os.fsencode(path)[root:]
        if size >= 0:
            builder.add(data, name, size)
            count += 1
        elif depth > builder.limits.depth:
            builder.reject(name, f"lies in more than {builder.limits.depth} folders (preprocess.limits.depth)")
        else:
            waiting += _listed(path, depth + 1, root, builder)
    return count


def _listed(folder: str, depth: int, root: int, builder: Builder) -> list[tuple[str, int, int]]:
    """Return path, size and depth of what lies in a folder, the last name first; of a folder the size is -1."""
    try:
        with os.scandir(folder) as entries:
            listed = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        builder.reject(os.fsencode(folder)[root:], (error.strerror or "cannot be read").lower())
        return []
    found = []
    for entry in sorted(listed, key=lambda entry: os.fsencode(entry.name), reverse=True):
        try:
            size = -1 if entry.is_dir(follow_symlinks=False) else entry.stat().st_size
        except OSError:
            size = 0  # a link that leads nowhere; reading it will say so
        found.append((entry.path, size, depth))
    return found


def _table(path: Path, builder: Builder) -> Source:
    import pandas as pd

    if path.stat().st_size > builder.limits.file_bytes:
        raise UserError(f"{path.name} is larger than preprocess.limits.file_bytes = {builder.limits.file_bytes} allow")
    with container(path, "a table"):
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        columns = [*map(str, table.columns)]
    if "path" not in columns or set(columns) - {"path", "label", "split"}:
        found = shortened(printable(str(columns)))
        raise UserError(f"{printable(str(path))} must have the column path, may have label and split, and has {found}")
    root = path.parent
    inside = root.resolve()
    labels = table["label"] if "label" in table else [None] * len(table)
    splits = table["split"] if "split" in table else [""] * len(table)
    listed: set[str] = set()
    for name, label, split in zip(table["path"], labels, splits, strict=True):
        if split and split.lower() not in SPLITS:
            raise UserError(
                f"{path.name}: {shortened(printable(name))} has the split {shortened(split)!r}; use train, test or "
                "nothing"
            )
        # `a.png` and `./a.png` are one.
        size, file = _size_of(root, name, inside), os.path.normpath(name)
        if isinstance(size, str):
            builder.reject(name, size)
        elif file in listed:
            builder.reject(name, "listed twice")
        elif label == "":
            builder.reject(name, "has no label")
        else:
            code = SPLITS[split.lower()] if split else BY_CONTENT
            builder.add(root, os.fsencode(name), size, label=label or "", split=code)
        listed.add(file)
    return builder.source("files listed in labels.csv")


def _size_of(root: Path, name: str, inside: Path) -> int | str:
    """Return the bytes of a file that a table lists, or why it cannot be used."""
    try:
        if not (root / name).resolve().is_relative_to(inside):
            return "lies outside the data"
        if not (root / name).is_file():
            return "listed in labels.csv, but there is no such file"
        return (root / name).stat().st_size
    # A NUL, more letters than a name may have, links that lead to each other.
    except (OSError, ValueError, RuntimeError) as error:
        return (getattr(error, "strerror", None) or "is no name of a file").lower()
