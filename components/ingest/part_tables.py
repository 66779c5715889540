"""What becomes of a part of the raw images: its pixels, and a table of what each of them is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..pictures.opening import hush
from ..workspace.params import Preprocess
from .decoding import Decoded, assumed_bits, digest_of
from .identity import SIDE, VIEWS, Pixels
from .pairs.decoding import images_of
from .parts import Content, Part


class PartTable(NamedTuple):
    """What became of a part.

    For each image made: the row of its file, the digest of its pixels (16 bytes), its identity and signature, of one
    that has an input the identity of that (else no columns), and for each channel the sums of its pixels and of their
    squares. And which files were rejected.

    `largest`: the largest value in images of 16 bits, 0 without any; `bits`: how many of these were used.
    """

    rows: npt.NDArray[np.int32]
    digests: npt.NDArray[np.uint64]
    identities: npt.NDArray[np.uint64]
    inputs: npt.NDArray[np.uint64]
    signatures: Pixels
    sums: npt.NDArray[np.int64]
    squares: npt.NDArray[np.int64]
    channels: int
    reasons: dict[int, str]
    largest: int
    bits: int


class MadePart(NamedTuple):
    """The table of a part, its images (n, H, W, C) uint8, and their inputs of the same shape, if they have such."""

    table: PartTable
    pixels: Pixels
    inputs: Pixels | None


def make_part(part: Part, contents: Iterable[Content], options: Preprocess) -> MadePart:
    """Decode and fit the images of `part`, whose `contents` come in order."""
    hush()
    rows: list[int] = []
    made: list[Decoded] = []
    reasons: dict[int, str] = {}
    wanted = options.channels if isinstance(options.channels, int) else None
    for row, content in enumerate(contents):
        for image in images_of(content, options, part.shape):
            if isinstance(image, str):
                reasons[row] = image
            elif wanted and _channels(image) != {wanted}:
                reasons[row] = f"{max(_channels(image) - {wanted})} channels, not {wanted}"
            else:
                made.append(image)
                rows.append(row)
    channels = max((max(_channels(image)) for image in made), default=1)
    keep = []
    for index, image in enumerate(made):
        others = _channels(image) - {1, channels}
        if others:
            reasons[rows[index]] = f"{max(others)} channels where others have {channels}"
        else:
            keep.append(index)
    kept = [made[index] for index in keep]
    packed = _packed([image.pixels for image in kept], options, channels)
    given = [image.given for image in kept if image.given is not None]
    table = PartTable(
        np.array(rows, np.int32)[keep],
        _as_numbers(digest_of(image.pixels) for image in kept),
        _as_numbers(image.traits.identity for image in kept),
        _as_numbers(each.identity for each in given) if _is_paired(part, options) else np.empty((len(kept), 0), "<u8"),
        np.stack([image.traits.signature for image in kept]) if kept else np.empty((0, VIEWS, SIDE * SIDE), np.uint8),
        *_moments(packed),
        channels,
        reasons,
        max((image.largest for image in made), default=0),
        assumed_bits(options),
    )
    inputs = _packed([each.pixels for each in given], options, channels) if _is_paired(part, options) else None
    return MadePart(table, packed, inputs)


def _is_paired(part: Part, options: Preprocess) -> bool:
    return part.inputs is not None or options.halves


def _channels(image: Decoded) -> set[int]:
    """Return how many channels an image has, and its input."""
    return {image.pixels.shape[2]} | ({image.given.pixels.shape[2]} if image.given is not None else set())


def _packed(images: Sequence[Pixels], options: Preprocess, channels: int) -> Pixels:
    packed = np.empty((len(images), *options.shape, channels), np.uint8)
    for place, pixels in zip(packed, images, strict=True):
        place[:] = pixels
    return packed


def _as_numbers(digests: Iterable[bytes]) -> npt.NDArray[np.uint64]:
    return np.frombuffer(b"".join(digests), "<u8").reshape(-1, 2)


def _moments(images: Pixels) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return sums of the values and of their squares (N, C), by histograms: several times faster than sums of int64."""
    values = np.arange(256)
    counts = np.empty((len(images), images.shape[3], 256), np.int64)
    for image, row in zip(images, counts, strict=True):
        for channel, count in enumerate(row):
            count[:] = np.bincount(image[:, :, channel].ravel(), minlength=256)
    return counts @ values, counts @ values**2
