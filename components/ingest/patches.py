"""Pieces of the training resolution, cut from whole photos: what image tasks learn from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from ..workspace.params import Preprocess
from .identity import Pixels


def patches(photo: Pixels, identity: bytes, options: Preprocess) -> Iterator[Pixels]:
    """Yield pieces (h, w, C) of a photo (H, W, C): at most `options.patches_per_file`, evenly over it.

    They are cells of a grid in the photo's middle, in its order, so that none overlaps another one. Where there are
    more than wanted, the cells are parted into as many runs of equal length, and a hash of `identity` draws one of
    each: other photos, and the order of files, change nothing.

    Raises:
        ValueError: the photo is smaller than a piece.
    """
    height, width = options.shape
    rows, columns = photo.shape[0] // height, photo.shape[1] // width
    cells = rows * columns
    if not cells:
        shrunk = f" after preprocess.reduce = {options.reduce}" if options.reduce > 1 else ""
        raise ValueError(f"{photo.shape[1]}x{photo.shape[0]}{shrunk}, smaller than a piece of {width}x{height}")
    top, left = (photo.shape[0] - rows * height) // 2, (photo.shape[1] - columns * width) // 2
    wanted = min(cells, options.patches_per_file)
    for number in range(wanted):
        first, end = number * cells // wanted, (number + 1) * cells // wanted
        row, column = divmod(first + _drawn(identity, number) % (end - first), columns)
        y, x = top + row * height, left + column * width
        # A copy, which does not keep the photo in memory.
        yield photo[y : y + height, x : x + width].copy()


def _drawn(identity: bytes, number: int) -> int:
    digest = hashlib.blake2b(number.to_bytes(8, "little"), key=identity, digest_size=8).digest()
    return int.from_bytes(digest, "little")
