"""The content of image files -> pixels of one size: modes, transparency, frames, and what hostile files do."""

from __future__ import annotations

import hashlib
import io
import math
import struct
import warnings
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from ..workspace.params import Preprocess
from .parts import Part

Pixels = npt.NDArray[np.uint8]

MAX_PIXELS = 89_478_485
MAX_FRAMES = 1_000
_ORIENTATION = 0x0112


class PartTable(NamedTuple):
    """What became of a part.

    For each image made: the row of its file, its digest (16 bytes), and for each channel the sums of its pixels
    and of their squares. And which files were rejected.
    """

    rows: npt.NDArray[np.int32]
    digests: npt.NDArray[np.uint64]
    sums: npt.NDArray[np.int64]
    squares: npt.NDArray[np.int64]
    channels: int
    reasons: dict[int, str]


def make_part(part: Part, contents: Iterable[bytes | str], options: Preprocess) -> tuple[PartTable, Pixels]:
    """Decode and fit the images of `part`, whose `contents` come in order; pixels are (n, H, W, C) uint8."""
    # Its limit is ours, and told in the table of rejected files. For the whole process, as threads share filters.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    rows: list[int] = []
    made: list[Pixels] = []
    reasons: dict[int, str] = {}
    wanted = options.channels if isinstance(options.channels, int) else None
    for row, content in enumerate(contents):
        for pixels in decoded(content, options, part.shape) if isinstance(content, bytes) else [content]:
            if isinstance(pixels, str):
                reasons[row] = pixels
            elif wanted and pixels.shape[2] != wanted:
                reasons[row] = f"{pixels.shape[2]} channels, not {wanted}"
            else:
                made.append(pixels)
                rows.append(row)
    channels = max((pixels.shape[2] for pixels in made), default=1)
    packed = np.empty((len(made), *options.shape, channels), np.uint8)
    keep: list[int] = []
    digests: list[bytes] = []
    for index, pixels in enumerate(made):
        if pixels.shape[2] in (1, channels):
            packed[len(keep)] = pixels
            keep.append(index)
            digests.append(hashlib.sha256(pixels.tobytes()).digest()[:16])
        else:
            reasons[rows[index]] = f"{pixels.shape[2]} channels where others have {channels}"
    packed = packed[: len(keep)]
    table = PartTable(
        np.array(rows, np.int32)[keep],
        np.frombuffer(b"".join(digests), "<u8").reshape(-1, 2),
        *_moments(packed),
        channels,
        reasons,
    )
    return table, packed


def _moments(images: Pixels) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return sums of the values and of their squares (N, C), by histograms: several times faster than sums of int64."""
    values = np.arange(256)
    counts = np.empty((len(images), images.shape[3], 256), np.int64)
    for image, row in zip(images, counts, strict=True):
        for channel, count in enumerate(row):
            count[:] = np.bincount(image[:, :, channel].ravel(), minlength=256)
    return counts @ values, counts @ values**2


def decoded(content: bytes, options: Preprocess, shape: tuple[int, int] | None = None) -> Iterator[Pixels | str]:
    """Yield the images in a file as (H, W, C) uint8 of the size that `options` ask for, or why there are none.

    `shape`: the content is bare grey pixels of (height, width).
    """
    try:
        if shape is not None:
            yield _fitted(Image.frombytes("L", shape[::-1], content), options)
        elif content.startswith(b"\x93NUMPY"):
            yield _array(content, options)
        else:
            yield from _pictures(content, options)
    except UnidentifiedImageError:
        yield "not an image" if content else "empty file"
    except Image.DecompressionBombError:
        yield "too many pixels to decode safely"
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, OverflowError, MemoryError) as error:
        yield " ".join(str(error).split()) or type(error).__name__


def _pictures(content: bytes, options: Preprocess) -> Iterator[Pixels | str]:
    with Image.open(io.BytesIO(content)) as image:
        if image.width * image.height > MAX_PIXELS:
            yield f"{image.width}x{image.height} pixels are too many to decode safely"
            return
        if options.frames == "first" or getattr(image, "n_frames", 1) == 1:
            _shrink_on_load(image, options)
            yield _fitted(_in_mode(_upright(image), options), options)
            return
        for frame in range(min(image.n_frames, MAX_FRAMES)):  # type: ignore[attr-defined]
            image.seek(frame)
            yield _fitted(_in_mode(_upright(image.copy()), options), options)
        if image.n_frames > MAX_FRAMES:  # type: ignore[attr-defined]
            yield f"frames after the first {MAX_FRAMES:,} are left out"


def _shrink_on_load(image: Image.Image, options: Preprocess) -> None:
    """Let the JPEG decoder halve a photo that is much larger than needed, which is several times faster."""
    height, width = options.shape
    scale = min(image.width / max(height, width), image.height / max(height, width)) / 2
    if image.format == "JPEG" and scale >= 2:
        image.draft(image.mode, (math.ceil(image.width / scale), math.ceil(image.height / scale)))


def _upright(image: Image.Image) -> Image.Image:
    return ImageOps.exif_transpose(image) if image.getexif().get(_ORIENTATION, 1) != 1 else image


def _in_mode(image: Image.Image, options: Preprocess) -> Image.Image:
    """`image` in mode L, RGB or RGBA: 16 bits scaled to 8, transparency laid on the background unless it is wanted."""
    image.load()
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("integer pixels beyond 16 bits")
        image = Image.fromarray(np.rint(values / 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose range is unknown")
    if options.channels == 4:
        return image.convert("RGBA")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, options.background), rgba).convert("RGB")
    wanted = {1: "L", 3: "RGB"}.get(options.channels) if isinstance(options.channels, int) else None
    wanted = wanted or (image.mode if image.mode in ("L", "RGB") else "L" if image.mode == "1" else "RGB")
    return image if image.mode == wanted else image.convert(wanted)


def _array(content: bytes, options: Preprocess) -> Pixels:
    """Read a NumPy file, (H, W) or (H, W, C), uint8 or uint16 (scaled), and resize each channel by itself."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = header(file)
    if kind not in (np.uint8, np.dtype("<u2"), np.dtype(">u2")) or len(shape) not in (2, 3) or not all(shape):
        raise ValueError(f"an array {shape} of {kind}: (H, W) or (H, W, C) of uint8 or uint16 is read")
    # Checked first: memory is taken for what the header says.
    if math.prod(shape) * kind.itemsize != len(content) - file.tell() or math.prod(shape[:2]) > MAX_PIXELS:
        raise ValueError("an array that is cut short or too large")
    values = np.atleast_3d(np.load(io.BytesIO(content), allow_pickle=False))
    if kind.itemsize == 2:
        values = np.rint(values / 257).astype(np.uint8)
    bands = [
        _fitted(Image.fromarray(np.ascontiguousarray(values[:, :, band])), options) for band in range(values.shape[2])
    ]
    return np.concatenate(bands, axis=2)


def _fitted(image: Image.Image, options: Preprocess) -> Pixels:
    """`image` at the wanted size (H, W, C), by Lanczos; colour of equal channels becomes grey in `auto`."""
    height, width = options.shape
    if image.size != (width, height):
        image = _scaled(image, width, height, options)
    pixels = np.atleast_3d(np.asarray(image))
    if pixels.shape[2] == 3 and options.channels == "auto" and (pixels == pixels[:, :, :1]).all():
        return pixels[:, :, :1]
    return pixels


def _scaled(image: Image.Image, width: int, height: int, options: Preprocess) -> Image.Image:
    lanczos = Image.Resampling.LANCZOS
    if options.fit == "stretch":
        return image.resize((width, height), lanczos)
    if options.fit == "pad":
        scale = min(width / image.width, height / image.height)
        inner = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        sheet = Image.new(image.mode, (width, height), options.background)
        sheet.paste(image.resize(inner, lanczos), ((width - inner[0]) // 2, (height - inner[1]) // 2))
        return sheet
    # Cropped before it is scaled: the filter would reach beyond a box.
    scale = max(width / image.width, height / image.height)
    cut = max(1, round(width / scale)), max(1, round(height / scale))
    left, top = (image.width - cut[0]) // 2, (image.height - cut[1]) // 2
    if cut != image.size:
        image = image.crop((left, top, left + cut[0], top + cut[1]))
    return image.resize((width, height), lanczos)
