"""What an image is, whatever options it is processed with: a hash of its decoded source, and a small rendering of it.

Both are made before any resizing. The hash is equal for lossless re-saves of one image in any format; the rendering,
its *signature*, is nearly equal for lossy ones, for other sizes and other tones.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]
# Of uint8 or uint16.
Source = npt.NDArray[Any]

SIDE = 16
# The whole image, and the square in its middle, which is what cropping leaves.
VIEWS = 2
_BLOCK = 2**20


class Traits(NamedTuple):
    """The first 16 bytes of the hash of an image's source, and its signature (VIEWS, SIDE * SIDE) uint8."""

    identity: bytes
    signature: Pixels


def traits_of(image: Image.Image) -> Traits:
    """Return the traits of an upright picture.

    Raises:
        ValueError: its pixels have no known range.
    """
    if image.mode not in ("L", "RGB") or image.has_transparency_data:
        return traits_of_array(source_of(image))
    # The most frequent kinds, without a copy.
    return Traits(_identity(np.asarray(image)), _signature(image.convert("L")))


def traits_of_array(values: Source) -> Traits:
    """Return the traits of bare values (H, W) or (H, W, C), of which a second or fourth channel is transparency."""
    return Traits(_identity(values), _signature(_grey(values)))


def source_of(image: Image.Image) -> Source:
    """Return all that a picture says, (H, W) or (H, W, C): grey, RGB or RGBA of 8 bits, or grey of 16.

    Raises:
        ValueError: its pixels have no known range.
    """
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose range is unknown")
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("integer pixels beyond 16 bits")
        return values.astype(np.uint16)
    if image.has_transparency_data:
        return np.asarray(image.convert("RGBA"))
    mode = "L" if image.mode in ("1", "L") else "RGB"
    return np.asarray(image if image.mode == mode else image.convert(mode))


def in_8_bits(values: npt.NDArray[np.integer], bits: int = 16) -> Pixels:
    """Return `values` of `bits` bits, divided to 8 and rounded; some at a time, which spares memory."""
    flat, scaled, most = values.reshape(-1), np.empty(values.size, np.uint8), 2**bits - 1
    for start in range(0, values.size, _BLOCK):
        scaled[start : start + _BLOCK] = (flat[start : start + _BLOCK].astype(np.uint32) * 255 + most // 2) // most
    return scaled.reshape(values.shape)


def _identity(values: Source) -> bytes:
    canonical = np.ascontiguousarray(_canonical(values))
    kind = "<u2" if canonical.dtype.itemsize == 2 else "|u1"
    digest = hashlib.sha256(f"{canonical.shape}{kind}".encode())
    digest.update(canonical.astype(kind, copy=False).data)
    return digest.digest()[:16]


def _canonical(values: Source) -> Source:
    """Return the shortest form of what the values say: what a format adds or leaves out makes no other image."""
    values = np.atleast_3d(values)
    # 8 bits that were stored in 16.
    if values.dtype.itemsize == 2 and not (values.reshape(-1)[:_BLOCK] % 257).any() and not (values % 257).any():
        values = (values // 257).astype(np.uint8)
    colours, alpha = values, None
    if values.shape[2] in (2, 4):
        colours, alpha = values[:, :, :-1], values[:, :, -1:]
        if (alpha == np.iinfo(values.dtype).max).all():
            alpha = None
        elif not alpha.all():
            # Of what is not seen formats keep what they like.
            colours = np.where(alpha > 0, colours, np.zeros_like(colours))
    if colours.shape[2] == 3 and _is_grey(colours):
        colours = colours[:, :, :1]
    return colours if alpha is None else np.concatenate([colours, alpha], 2)


def _is_grey(colours: Source) -> bool:
    # Some rows at a time: of a photo the first ones tell.
    blocks = (colours[start : start + 64] for start in range(0, len(colours), 64))
    return all(bool((rows == rows[:, :, :1]).all()) for rows in blocks)


def _grey(values: Source) -> Image.Image:
    """Return the values in grey of 8 bits, on white; what is darker than others stays so."""
    values = np.atleast_3d(values)
    if values.dtype.itemsize == 2:
        least, most = int(values.min()), int(values.max())
        # Of 12 bits in 16, say, all levels are needed.
        values = in_8_bits(((values - least) * (65535.0 / max(1, most - least))).astype(np.uint16))
    channels = values.shape[2]
    if channels == 2:
        values = np.concatenate([values[:, :, :1].repeat(3, 2), values[:, :, 1:]], 2)
    if channels in (2, 4):
        rgba = Image.fromarray(np.ascontiguousarray(values))
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("L")
    if channels == 3:
        return Image.fromarray(np.ascontiguousarray(values)).convert("L")
    return Image.fromarray(values[:, :, 0] if channels == 1 else values.mean(2).round().astype(np.uint8))


def _signature(grey: Image.Image) -> Pixels:
    width, height = grey.size
    edge = min(width, height)
    left, top = (width - edge) // 2, (height - edge) // 2
    whole = _small(grey, (0, 0, width, height))
    return np.stack([whole, whole if width == height else _small(grey, (left, top, left + edge, top + edge))])


def _small(grey: Image.Image, box: tuple[int, int, int, int]) -> Pixels:
    # Of another size of the same image this filter makes the same, which a box does not.
    scaled = grey.resize((SIDE, SIDE), Image.Resampling.HAMMING, box, reducing_gap=3.0)
    return np.asarray(scaled).reshape(-1)
