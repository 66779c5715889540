"""The content of an image file -> pixels of one size: modes, transparency, frames, and what hostile files do."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from .params import Preprocess

Pixels = npt.NDArray[np.uint8]

MAX_PIXELS = 89_478_485
MAX_FRAMES = 1_000
_ORIENTATION = 0x0112


def decoded(content: bytes, options: Preprocess, shape: tuple[int, int] | None = None) -> Iterator[Pixels | str]:
    """The images in a file as (H, W, C) uint8 of the size that `options` ask for, or why there are none.

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
    """A NumPy file (H, W) or (H, W, C) of uint8, or of uint16 which is scaled, each channel resized by itself."""
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
