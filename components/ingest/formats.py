"""Finds raw images in whatever users have, by its content.

Known are: a table `labels.csv` (path, label, split); IDX pairs (the format of MNIST, plain or gzipped); zip and tar
archives of images; WebDataset tar shards; Parquet with image bytes; folders of images, one for each class or without
classes. Here is one function for each kind.
"""

from __future__ import annotations

import gzip
import json
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from ..gan.errors import UserError
from .parts import BY_CONTENT, DEFLATED, ENCRYPTED, SPLITS, STORED, UNKNOWN_METHOD, Builder, Source

# A gzipped archive that grows more than this is taken for a bomb.
MAX_GROWTH = 200
WEBDATASET_LABELS = ("cls", "json")
IMAGE_ENDINGS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm", "pgm", "pbm", "npy")
IMAGE_COLUMNS = ("image", "img", "images", "jpg", "png", "picture", "pixel_values")
LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "category", "target", "cls")


def find_raw_images(data: Path, scratch: Path, size: int) -> Source:
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
        raise UserError(f"there is no {data}: name a folder or a file with images")
    found: dict[str, list[Path]] = {}
    for path in files:
        found.setdefault(_kind(path), []).append(path)
    builder = Builder(data if data.is_dir() else data.parent, size)
    if "table" in found:
        return _table(found["table"][0], builder)
    if "IDX images" in found or "IDX labels" in found:
        return _idx(found.get("IDX images", []), found.get("IDX labels", []), scratch, builder)
    packed = [kind for kind in ("zip", "tar", "Parquet") if kind in found]
    if len(packed) > 1:
        raise UserError(f"{data} holds files of several kinds ({', '.join(packed)}): keep one kind")
    if packed:
        read = {"zip": _zip, "tar": _tar, "Parquet": _parquet}[packed[0]]
        return read(found[packed[0]], scratch, builder)
    return _folder(data, files, builder)


def _ending(name: str) -> str:
    return PurePosixPath(name).name.partition(".")[2].lower()


def _split_of(path: Path) -> int:
    """Return the split that a file's name begins with, such as `train-00000.parquet` or `t10k-images-idx3-ubyte`."""
    return SPLITS.get(path.name.partition("-")[0].lower(), BY_CONTENT)


def _hidden(name: str) -> bool:
    return any(piece.startswith(".") or piece == "__MACOSX" for piece in PurePosixPath(name).parts)


def _kind(path: Path) -> str:
    """Return what a file is, by its first bytes; a table by its name."""
    if path.name == "labels.csv":
        return "table"
    try:
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


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path, "rb")) if gzipped else path.open("rb")


def _unpacked(path: Path, scratch: Path, name: str) -> Path:
    """`path` itself, or what is gzipped in it in a file of its own.

    Raises:
        UserError: it is damaged, or grows without measure.
    """
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return path
    plain = scratch / name
    if plain.exists():
        return plain
    staged, limit = plain.with_suffix(".tmp"), max(path.stat().st_size * MAX_GROWTH, 2**20)
    try:
        with gzip.open(path, "rb") as source, staged.open("wb") as target:
            while block := source.read(2**20):
                target.write(block)
                if target.tell() > limit:
                    raise UserError(f"{path.name} grows more than {MAX_GROWTH}-fold when it is unpacked: not used")
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(f"{path.name} is damaged ({error}): fetch it again") from None
    return staged.replace(plain)


def _idx(images: Sequence[Path], labels: Sequence[Path], scratch: Path, builder: Builder) -> Source:
    if len(images) != len(labels):
        raise UserError(f"found {len(images)} IDX files of images but {len(labels)} of labels: each needs the other")
    for number, (image_path, label_path) in enumerate(zip(images, labels, strict=True)):
        raw = _unpacked(image_path, scratch, f"{number}.idx")
        try:
            with _open(label_path) as packed:
                _, count = struct.unpack(">II", packed.read(8))
                values = packed.read()
            with raw.open("rb") as plain:
                _, rows, height, width = struct.unpack(">IIII", plain.read(16))
        except (gzip.BadGzipFile, zlib.error, EOFError, struct.error) as error:
            raise UserError(f"{image_path.name} or {label_path.name} is damaged ({error}): fetch them again") from None
        if raw.stat().st_size != 16 + rows * height * width or len(values) != count:
            raise UserError(f"{image_path.name} or {label_path.name} is cut short: fetch them again")
        if rows != count:
            raise UserError(f"{image_path.name} holds {rows} images but {label_path.name} holds {count} labels")
        size, split = height * width, _split_of(image_path)
        for row, label in enumerate(values):
            name = f"{image_path.name}#{row}".encode()
            builder.add(raw, name, size, 16 + row * size, label=str(label), split=split, shape=(height, width))
    return builder.source("IDX files")


def _folder(data: Path, top: Sequence[Path], builder: Builder) -> Source:
    folders = sorted(p for p in data.iterdir() if p.is_dir() and not p.name.startswith(".")) if data.is_dir() else []
    if folders:
        for folder in folders:
            before = len(builder.rejected)
            if not _walk(data, folder, builder) and len(builder.rejected) == before:
                raise UserError(f"the class folder {folder} is empty: put images there or remove it")
    pictures = [path for path in top if path.suffix[1:].lower() in IMAGE_ENDINGS]
    for path in pictures:
        builder.add(data, os.fsencode(path.name), path.stat().st_size)
    if not folders and not pictures:
        names = ", ".join(path.name for path in top[:5]) or "nothing"
        raise UserError(
            f"{data} holds no images that ganflow can read (found {names}): put folders of images, an IDX pair, a zip "
            "or tar of images, Parquet files with image bytes, or a labels.csv there"
        )
    return builder.source_by_folder("folder of images")


def _walk(data: Path, folder: Path, builder: Builder) -> int:
    """Add the files below `folder`, in the order of their names; how many."""
    count = 0
    with os.scandir(folder) as entries:
        listed = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: os.fsencode(e.name))
    for entry in listed:
        if entry.is_dir(follow_symlinks=False):
            count += _walk(data, Path(entry.path), builder)
            continue
        try:
            size = entry.stat().st_size
        except OSError:
            size = 0  # a link that leads nowhere; reading it will say so
        builder.add(data, os.fsencode(os.path.relpath(entry.path, data)), size)
        count += 1
    return count


def _table(path: Path, builder: Builder) -> Source:
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a table that can be read: {' '.join(str(error).split())[:200]}") from None
    unknown = sorted(set(table.columns) - {"path", "label", "split"})
    if "path" not in table or unknown:
        raise UserError(f"{path} must have the column path, may have label and split, and has {list(table.columns)}")
    root = path.parent
    inside = root.resolve()
    labels = table["label"] if "label" in table else [""] * len(table)
    splits = table["split"] if "split" in table else [""] * len(table)
    listed = set()
    for name, label, split in zip(table["path"], labels, splits, strict=True):
        file = root / name
        if split and split.lower() not in SPLITS:
            raise UserError(f"{path}: {name} has the split {split!r}; use train, test or nothing")
        if not file.resolve().is_relative_to(inside):
            builder.rejected.append((name, "lies outside the data"))
        elif name in listed:
            builder.rejected.append((name, "listed twice"))
        elif not file.is_file():
            builder.rejected.append((name, "listed in labels.csv, but there is no such file"))
        elif "label" in table and not label:
            builder.rejected.append((name, "has no label"))
        else:
            code = SPLITS[split.lower()] if split else BY_CONTENT
            builder.add(root, os.fsencode(name), file.stat().st_size, label=label, split=code)
        listed.add(name)
    return builder.source("files listed in labels.csv")


def _zip(paths: Sequence[Path], scratch: Path, builder: Builder) -> Source:
    for path in paths:
        suffix = f" in {path.name}" if len(paths) > 1 else ""
        try:
            with zipfile.ZipFile(path) as archive, path.open("rb") as file:
                entries = sorted(archive.infolist(), key=lambda entry: entry.filename)
                for entry in entries:
                    if entry.is_dir() or _hidden(entry.filename) or not _ending(entry.filename).endswith(IMAGE_ENDINGS):
                        continue
                    # What the local header says of names and fields may differ in length from the directory.
                    file.seek(entry.header_offset + 26)
                    name_length, extra_length = struct.unpack("<HH", file.read(4))
                    offset = entry.header_offset + 30 + name_length + extra_length
                    method = ENCRYPTED if entry.flag_bits & 1 else entry.compress_type
                    method = method if method in (STORED, DEFLATED, ENCRYPTED) else UNKNOWN_METHOD
                    name = _in_archive(entry.filename, suffix)
                    builder.add(path, name, entry.compress_size, offset, method)
        except (zipfile.BadZipFile, struct.error, OSError, ValueError, NotImplementedError) as error:
            raise UserError(f"{path.name} is not a zip archive that can be read ({error}): fetch it again") from None
    return builder.source_by_folder("zip archive")


def _tar(paths: Sequence[Path], scratch: Path, builder: Builder) -> Source:
    labelled = False
    for number, path in enumerate(paths):
        plain = _unpacked(path, scratch, f"{number}.tar")
        suffix = f" in {path.name}" if len(paths) > 1 else ""
        try:
            with tarfile.open(plain, "r:") as archive:
                labelled |= _tar_members(archive, plain, suffix, builder)
        except (tarfile.TarError, EOFError, ValueError) as error:
            raise UserError(f"{path.name} is not a tar archive that can be read ({error}): fetch it again") from None
    return builder.source("WebDataset shards") if labelled else builder.source_by_folder("tar archive")


def _tar_members(archive: tarfile.TarFile, path: Path, suffix: str, builder: Builder) -> bool:
    """Add the images of one archive; whether it has WebDataset labels.

    WebDataset: files that share a name up to the first dot lie side by side and are one sample.
    """
    key, image, label, any_label = "", None, None, False

    def finish() -> None:
        if image is not None:
            name, size, offset = image
            builder.add(path, _in_archive(name, suffix), size, offset, label=label or "")

    while (member := archive.next()) is not None:
        # Not kept: a list of millions of members.
        archive.members = []  # type: ignore[attr-defined]
        if not member.isreg() or member.issparse() or _hidden(member.name):
            continue
        ending = _ending(member.name)
        stem = member.name[: len(member.name) - len(ending) - 1]
        if stem != key:
            finish()
            key, image, label = stem, None, None
        if ending.endswith(IMAGE_ENDINGS):
            if image is not None:
                finish()
            image = member.name, member.size, member.offset_data
        elif ending in WEBDATASET_LABELS and member.size < 2**20:
            content = archive.extractfile(member)
            label = _webdataset_label(content.read() if content else b"", ending)
            any_label |= label is not None
    finish()
    return any_label


def _webdataset_label(content: bytes, ending: str) -> str | None:
    text = content.decode("utf-8", "replace").strip()
    if ending == "cls":
        return text or None
    try:
        values = json.loads(text)
    except ValueError:
        return None
    found = [values[name] for name in LABEL_COLUMNS if name in values] if isinstance(values, dict) else []
    return str(found[0]) if found and isinstance(found[0], str | int) else None


def _in_archive(name: str, suffix: str) -> bytes:
    return (name.removeprefix("./") + suffix).encode("utf-8", "surrogateescape")


def _parquet(paths: Sequence[Path], scratch: Path, builder: Builder) -> Source:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names: list[str] | None = None
    for number, path in enumerate(paths):
        try:
            table = pq.ParquetFile(path)
            image, label = _parquet_columns(path, table.schema_arrow)
            names = _parquet_classes(table.schema_arrow, label) or names
            wanted = image, label, names, _split_of(path)
            _parquet_rows(path, table, scratch / f"{number}.images", wanted, builder)
        except (pa.ArrowException, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{path.name} is not a Parquet file that can be read ({reason}): fetch it again") from None
    return builder.source("Parquet files", names)


def _parquet_columns(path: Path, schema: Any) -> tuple[str, str | None]:
    """Return the columns of images (bytes, or a struct with them, as public hubs have it) and of labels."""
    import pyarrow.types as types

    def holds_bytes(kind: Any) -> bool:
        if types.is_struct(kind):
            return "bytes" in {kind.field(i).name for i in range(kind.num_fields)}
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    images = [column.name for column in schema if holds_bytes(column.type)]
    if not images:
        raise UserError(f"{path.name} has no column of image bytes; its columns: {', '.join(schema.names)}")
    image = next((name for name in IMAGE_COLUMNS if name in images), images[0])
    return image, next((name for name in LABEL_COLUMNS if name in schema.names), None)


def _parquet_classes(schema: Any, label: str | None) -> list[str] | None:
    """Return the names of the classes, where the file's metadata tell them."""
    try:
        described = json.loads((schema.metadata or {})[b"huggingface"])
        names = described["info"]["features"][label]["names"]
    except (KeyError, ValueError, TypeError):
        return None
    return [str(name) for name in names] if isinstance(names, list) else None


def _parquet_rows(
    path: Path, table: Any, plain: Path, wanted: tuple[str, str | None, list[str] | None, int], builder: Builder
) -> None:
    """Lay the image bytes one after another in the file `plain`, because rows of Parquet cannot be read singly."""
    image, label, names, split = wanted
    staged, row, offset = plain.with_suffix(".tmp"), 0, 0
    with staged.open("wb") as file:
        for batch in table.iter_batches(batch_size=256, columns=[name for name in (image, label) if name]):
            labels = batch.column(label).to_pylist() if label else [""] * len(batch)
            for value, text in zip(batch.column(image).to_pylist(), labels, strict=True):
                name, content = f"{path.name}#{row}", value
                if isinstance(value, dict):
                    content = value["bytes"]
                    name = f"{name} {value['path']}" if value.get("path") else name
                row += 1
                known = names is None or (isinstance(text, int) and 0 <= text < len(names))
                if not content or text is None or not known:
                    reason = (
                        "has no image bytes" if not content else "has no label" if text is None else "unknown label"
                    )
                    builder.rejected.append((name, reason))
                    continue
                written = names[text] if names is not None and isinstance(text, int) else str(text)
                builder.add(plain, name.encode(), len(content), offset, label=written, split=split)
                offset += file.write(content)
    staged.replace(plain)
