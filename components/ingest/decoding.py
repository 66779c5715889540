"""The content of image files -> pixels of one size: modes, transparency, frames, and what hostile files do."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..pictures.opening import NotReadError, check_share, opened, upright
from ..workspace.params import Preprocess
from ..workspace.text import printable, shortened
from .identity import Pixels, Traits, in_8_bits, traits_of, traits_of_array
from .patches import patches

Array = npt.NDArray[Any]
_ARRAY = b"\x93NUMPY"
# The header of an array of three axes has about a hundred.
_HEADER_BYTES = 1_000
# Of 15 bits are dark images of 16, rather than a camera's or a scanner's.
MOST_BITS = 14


class Given(NamedTuple):
    """The input of an image (H, W, C) as options ask for it, and what it is whatever they ask for."""

    pixels: Pixels
    identity: bytes


class Decoded(NamedTuple):
    """One image (H, W, C) as options ask for it, and what it is whatever they ask for.

    A piece of a photo has the traits of the photo. `largest`: the largest value of its source where that has 16 bits,
    else 0. `given`: its input, of data in pairs.
    """

    pixels: Pixels
    traits: Traits
    largest: int = 0
    given: Given | None = None


def used_bits(largest: int) -> int:
    """Return how many bits images of 16 use whose largest value of all is `largest`."""
    bits = max(8, largest.bit_length())
    return bits if largest and bits <= MOST_BITS else 16


def assumed_bits(options: Preprocess) -> int:
    """How many bits of images of 16 are used, before all images were seen: all of them."""
    return 16 if options.bits == "auto" else options.bits


def digest_of(pixels: Pixels) -> bytes:
    """Return 16 bytes of the hash of an image as options made it."""
    return hashlib.sha256(pixels.tobytes()).digest()[:16]


class Look(NamedTuple):
    """What an image file holds, before it is made to fit: (width, height), its mode, whether it is one of many frames.

    The modes are Pillow's, `grey` for bare pixels, and `array of 3 channels`.
    """

    size: tuple[int, int]
    mode: str
    animated: bool = False


def decoded(content: bytes, options: Preprocess, shape: tuple[int, int] | None = None) -> Iterator[Decoded | str]:
    """Yield the images in a file as (H, W, C) uint8 of the size that `options` ask for, or why there are none.

    `shape`: the content is bare grey pixels of (height, width). Whatever is wrong with a file is a reason, for
    decoders and NumPy raise whatever they happen to meet.
    """
    try:
        for image in _fitting(content, options, shape):
            if options.fit != "patches" or isinstance(image, str):
                yield image
                continue
            for piece in patches(image.pixels, image.traits.identity, options):
                yield image._replace(pixels=piece)
    except Exception as error:
        yield reason_of(error)


def _fitting(content: bytes, options: Preprocess, shape: tuple[int, int] | None) -> Iterator[Decoded | str]:
    """Yield the images in a file, made to fit or, of those that are to be cut, whole."""
    if shape is not None:
        yield _made(Image.frombytes("L", shape[::-1], content), options)
    elif content.startswith(_ARRAY):
        yield whole_of(_array(content, options), options).made(options)
    else:
        yield from _pictures(content, options)


def whole_photo(content: bytes, options: Preprocess, shape: tuple[int, int] | None = None) -> Pixels | str:
    """Return the first picture of a file (H, W, C), upright and not scaled, or why there is none."""
    whole = options.model_copy(update={"fit": "patches", "frames": "first", "reduce": 1})
    try:
        image = next(_fitting(content, whole, shape))
    except Exception as error:
        return reason_of(error)
    return image if isinstance(image, str) else image.pixels


def look(content: bytes, options: Preprocess, shape: tuple[int, int] | None = None) -> Look | str:
    """Tell what a file holds, or why it cannot be told; its pixels are not decoded."""
    try:
        if shape is not None:
            return Look(shape[::-1], "grey")
        if content.startswith(_ARRAY):
            (height, width, *rest), _, _ = _array_header(content, options)
            return Look((width, height), f"array of {rest[0] if rest else 1} channels")
        with _opened(content, options) as image:
            return Look(image.size, image.mode, getattr(image, "is_animated", False))
    except Exception as error:
        return reason_of(error)


def reason_of(error: Exception) -> str:
    """Return why a file is not used, in half a sentence."""
    if isinstance(error, Image.DecompressionBombError):
        return "too many pixels to decode safely"
    return shortened(printable(" ".join(str(error).split()))) or type(error).__name__


def _opened(content: bytes, options: Preprocess) -> Image.Image:
    return opened(content, options.limits.pixels, options.limits.pixels_per_byte, options.heic)


def _pictures(content: bytes, options: Preprocess) -> Iterator[Decoded | str]:
    limits = options.limits
    with _opened(content, options) as image:
        if options.frames == "first" or not getattr(image, "is_animated", False):
            yield _large_photo(content, options) if _shrinks_on_load(image, options) else _made(upright(image), options)
            return
        pixels = 0
        # Not counted beforehand: a file of a few bytes may claim any number.
        for frame in range(limits.frames + 1):
            try:
                image.seek(frame)
            except EOFError:
                return
            if frame == limits.frames:
                yield f"frames after the first {limits.frames:,} are left out"
                return
            pixels += image.width * image.height
            if image.width * image.height > limits.pixels:
                raise NotReadError(f"frame {frame} has too many pixels to decode safely")
            check_share(pixels, len(content), limits.pixels_per_byte)
            yield _made(upright(image.copy()), options)


def _made(image: Image.Image, options: Preprocess) -> Decoded:
    """Return an upright picture as options ask for it."""
    return whole_of(image, options).made(options)


class Whole(NamedTuple):
    """A picture before it is made to fit: its channels as one picture, or each of an array by itself."""

    bands: tuple[Image.Image, ...]
    traits: Traits
    largest: int

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.bands[0].size

    def scaled(self, size: tuple[int, int]) -> Whole:
        """Return it at another (width, height), by Lanczos."""
        return self._replace(bands=tuple(band.resize(size, Image.Resampling.LANCZOS) for band in self.bands))

    def made(self, options: Preprocess) -> Decoded:
        fitted = [_fitted(band, options) for band in self.bands]
        return Decoded(fitted[0] if len(fitted) == 1 else np.concatenate(fitted, 2), self.traits, self.largest)


def whole_of(source: Image.Image | Array, options: Preprocess) -> Whole:
    """Return what a source is, in the mode and with the channels that options ask for."""
    if isinstance(source, Image.Image):
        deep = source.mode.startswith("I")
        return Whole((_in_mode(source, options),), traits_of(source), int(np.asarray(source).max()) if deep else 0)
    deep = source.dtype != np.uint8
    bands = (
        Image.fromarray(np.ascontiguousarray(_in_8_bits(band, options) if deep else band))
        for band in np.moveaxis(source, 2, 0)
    )
    return Whole(tuple(bands), traits_of_array(source), int(source.max()) if deep else 0)


def read_source(content: bytes, options: Preprocess) -> Image.Image | Array:
    """Return the first picture of a file, upright, or the array (H, W, C) that it holds.

    Raises:
        Exception: whatever decoders and NumPy raise where something is wrong with it.
    """
    if content.startswith(_ARRAY):
        return _array(content, options)
    with _opened(content, options) as image:
        picture = upright(image)
        picture.load()
        return picture


def _large_photo(content: bytes, options: Preprocess) -> Decoded:
    """Decode a photo twice: whole for its identity, and halved by the JPEG decoder for its pixels.

    So are its pixels what they always were, by which models that were registered without identities know it; and to
    scale the whole one would take longer than to decode it again.
    """
    with _opened(content, options) as whole:
        traits = traits_of(upright(whole))
    with _opened(content, options) as image:
        scale = _halvings(image, options)
        image.draft(image.mode, (math.ceil(image.width / scale), math.ceil(image.height / scale)))
        return Decoded(_fitted(_in_mode(upright(image), options), options), traits)


def _shrinks_on_load(image: Image.Image, options: Preprocess) -> bool:
    """Whether a photo is so much larger than needed that the JPEG decoder may halve it."""
    return options.fit != "patches" and image.format == "JPEG" and _halvings(image, options) >= 2


def _halvings(image: Image.Image, options: Preprocess) -> float:
    side = max(options.shape)
    return min(image.width / side, image.height / side) / 2


def _in_mode(image: Image.Image, options: Preprocess) -> Image.Image:
    """`image` in mode L, RGB or RGBA: 16 bits scaled to 8, transparency laid on the background unless it is wanted."""
    image.load()
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("integer pixels beyond 16 bits")
        image = Image.fromarray(_in_8_bits(values, options))
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


def _array_header(content: bytes, options: Preprocess) -> tuple[tuple[int, ...], np.dtype, int]:
    """Return shape (H, W) or (H, W, C), kind and the place of the values of a NumPy file of uint8 or uint16."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    one = version == (1, 0)
    # Before it is parsed, as Python source.
    if int.from_bytes(content[8 : 10 if one else 12], "little") > _HEADER_BYTES:
        raise ValueError("an array whose header is too long")
    shape, _, kind = (np.lib.format.read_array_header_1_0 if one else np.lib.format.read_array_header_2_0)(file)
    if kind not in (np.uint8, np.dtype("<u2"), np.dtype(">u2")) or len(shape) not in (2, 3) or not min(shape) > 0:
        raise ValueError(f"an array {shape} of {kind}: (H, W) or (H, W, C) of uint8 or uint16 is read")
    shape, limits = _channels_last(shape), options.limits
    if math.prod(shape[2:]) > limits.channels:
        raise ValueError(f"an array of {shape[2]:,} channels, more than preprocess.limits.channels = {limits.channels}")
    # Checked first: memory is taken for what the header says.
    if math.prod(shape) * kind.itemsize != len(content) - file.tell() or math.prod(shape[:2]) > limits.pixels:
        raise ValueError("an array that is cut short or too large")
    return shape, kind, file.tell()


def _channels_last(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of an image with its channels last, where it has them first as networks do: (3, H, W)."""
    first = len(shape) == 3 and shape[0] in (1, 3, 4) and min(shape[1:]) > 4
    return (*shape[1:], shape[0]) if first else shape


def _array(content: bytes, options: Preprocess) -> Array:
    """Read a NumPy file, as (H, W, C) of uint8 or uint16."""
    shape, _, _ = _array_header(content, options)
    values = np.load(io.BytesIO(content), allow_pickle=False)
    return np.atleast_3d(values if values.shape == shape else np.moveaxis(values, 0, 2))


def _in_8_bits(values: npt.NDArray[np.integer], options: Preprocess) -> Pixels:
    bits = assumed_bits(options)
    if values.max() >= 2**bits:
        raise ValueError(f"the value {values.max():,}, which is beyond preprocess.bits = {bits}")
    return in_8_bits(values, bits)


def _fitted(image: Image.Image, options: Preprocess) -> Pixels:
    """`image` at the wanted size (H, W, C), by Lanczos; colour of equal channels becomes grey in `auto`."""
    height, width = options.shape
    if options.fit == "patches":
        width, height = (max(1, side // options.reduce) for side in image.size)
    if image.size != (width, height):
        image = _scaled(image, width, height, options)
    pixels = np.atleast_3d(np.asarray(image))
    if pixels.shape[2] == 3 and options.channels == "auto" and (pixels == pixels[:, :, :1]).all():
        return pixels[:, :, :1]
    return pixels


def _scaled(image: Image.Image, width: int, height: int, options: Preprocess) -> Image.Image:
    lanczos = Image.Resampling.LANCZOS
    if options.fit in ("stretch", "patches"):
        return image.resize((width, height), lanczos)
    if options.fit == "pad":
        inner = between_bars(image.size, (width, height))
        sheet = Image.new(image.mode, (width, height), options.background)
        sheet.paste(image.resize(inner, lanczos), ((width - inner[0]) // 2, (height - inner[1]) // 2))
        return sheet
    # Cropped before it is scaled: the filter would reach beyond a box.
    cut = cut_out(image.size, (width, height))
    left, top = (image.width - cut[0]) // 2, (image.height - cut[1]) // 2
    if cut != image.size:
        image = image.crop((left, top, left + cut[0], top + cut[1]))
    return image.resize((width, height), lanczos)


def cut_out(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int]:
    """Return (width, height) of the centre of a picture of this size that has the shape of the wanted one."""
    scale = max(wanted[0] / size[0], wanted[1] / size[1])
    return max(1, round(wanted[0] / scale)), max(1, round(wanted[1] / scale))


def between_bars(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int]:
    """Return (width, height) that a picture of this size takes of the wanted one if nothing of it is cut off."""
    scale = min(wanted[0] / size[0], wanted[1] / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
