"""Raw data as users have it: IDX pairs (the format of MNIST, plain or gzipped), or one folder of images for each class.

Told apart by content, cut into parts that are decoded one by one.
"""

from __future__ import annotations

import gzip
import os
import shutil
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .gan.options import UserError

MAX_PIXELS = 89_478_485


class IdxRows(NamedTuple):
    """Where a part's images lie in an IDX file that was unpacked to `path`."""

    path: str
    first: int
    height: int
    width: int


class Part(NamedTuple):
    """Some raw images: files below `root`, or rows of the IDX file `root`, unpacked; with a label for each."""

    number: int
    root: str
    labels: list[int]
    files: list[str]
    rows: IdxRows | None = None

    def name(self, index: int) -> str:
        """How the table of rejected files calls an image."""
        if self.rows is not None:
            return f"{Path(self.root).name}#{self.rows.first + index}"
        return os.fsencode(os.path.relpath(self.files[index], self.root)).decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class Source:
    """Raw images of one kind: class names, and parts of at most `size` images."""

    classes: tuple[str, ...]
    parts: list[Part]


def find_raw_images(data: Path, scratch: Path, size: int) -> Source:
    """Look at the content of `data` and list its images in parts of at most `size`."""
    files = sorted(path for path in data.iterdir() if path.is_file())
    magic = {path: _magic(path) for path in files}
    images = [path for path in files if magic[path] == b"\0\0\x08\x03"]
    labels = [path for path in files if magic[path] == b"\0\0\x08\x01"]
    folders = sorted(path for path in data.iterdir() if path.is_dir() and not path.name.startswith("."))
    if images:
        return _idx_source(images, labels, scratch, size)
    if folders:
        return _folder_source(folders, size)
    names = ", ".join(path.name for path in files[:5]) or "nothing"
    raise UserError(
        f"{data} holds neither an IDX pair (two files, plain or gzipped, one of which begins with 00000803 and the "
        f"other with 00000801) nor one folder of images for each class; found {names}"
    )


def _magic(path: Path) -> bytes:
    with _open(path) as file:
        try:
            return file.read(4)
        except (OSError, EOFError):
            return b""


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path, "rb")) if gzipped else path.open("rb")


def _idx_source(images: Sequence[Path], labels: Sequence[Path], scratch: Path, size: int) -> Source:
    if len(images) != len(labels):
        raise UserError(f"found {len(images)} IDX files of images but {len(labels)} of labels: each needs the other")
    parts: list[Part] = []
    largest = 0
    for image_path, label_path in zip(images, labels, strict=True):
        raw = scratch / f"{len(parts)}.idx"
        try:
            with _open(image_path) as packed, raw.open("wb") as plain:
                shutil.copyfileobj(packed, plain)
            with _open(label_path) as packed:
                _, count = struct.unpack(">II", packed.read(8))
                values = list(packed.read())
        except (gzip.BadGzipFile, zlib.error, EOFError, struct.error) as error:
            raise UserError(f"{image_path.name} or {label_path.name} is damaged ({error}): fetch them again") from None
        with raw.open("rb") as plain:
            _, rows, height, width = struct.unpack(">IIII", plain.read(16))
        if raw.stat().st_size != 16 + rows * height * width or len(values) != count:
            raise UserError(f"{image_path.name} or {label_path.name} is cut short: fetch them again")
        if rows != count:
            raise UserError(f"{image_path.name} holds {rows} images but {label_path.name} holds {count} labels")
        largest = max([largest, *values])
        for start in range(0, rows, size):
            stop = min(start + size, rows)
            place = IdxRows(str(raw), start, height, width)
            parts.append(Part(len(parts), str(image_path), values[start:stop], [], place))
    return Source(tuple(str(label) for label in range(largest + 1)), parts)


def _folder_source(folders: Sequence[Path], size: int) -> Source:
    files: list[tuple[str, int]] = []
    for label, folder in enumerate(folders):
        found = sorted(f"{at}/{name}" for at, _, names in os.walk(folder) for name in names if not name.startswith("."))
        if not found:
            raise UserError(f"the class folder {folder} is empty: put images there or remove it")
        files += [(path, label) for path in found]
    top = str(folders[0].parent)
    parts: list[Part] = []
    for start in range(0, len(files), size):
        paths, labels = zip(*files[start : start + size], strict=True)
        parts.append(Part(len(parts), top, list(labels), list(paths)))
    return Source(tuple(folder.name for folder in folders), parts)


def decoded(part: Part) -> Iterator[Image.Image | str]:
    """Each image in mode L or RGB, or the reason why it cannot be read."""
    if part.rows is not None:
        path, first, height, width = part.rows
        shape = (len(part.labels), height, width)
        rows = np.memmap(path, np.uint8, "r", offset=16 + first * height * width, shape=shape)
        yield from (Image.fromarray(row) for row in rows)
    for path in part.files:
        try:
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    yield f"{image.width}x{image.height} pixels are too many to decode safely"
                    continue
                yield _flat(ImageOps.exif_transpose(image))
        except UnidentifiedImageError:
            yield "not an image" if Path(path).stat().st_size else "empty file"
        except Image.DecompressionBombError:
            yield "too many pixels to decode safely"
        except (OSError, ValueError, SyntaxError, EOFError, struct.error) as error:
            # Pillow's texts may name the file by its full path.
            yield " ".join(str(error).replace(path, "").split()) or type(error).__name__


def _flat(image: Image.Image) -> Image.Image:
    """`image` in mode L or RGB: 16 bits scaled to 8, transparency laid on white."""
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("integer pixels beyond 16 bits")
        return Image.fromarray(np.rint(values / 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose range is unknown")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")
