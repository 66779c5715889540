"""Images and what is known of each, as files of one split."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from .identity import Pixels

# What stands in the names of files of inputs.
INPUTS = "-input"
SHARD_BYTES = 256 * 2**20
# Rows of a table that are copied at a time.
_ROWS = 2**16


def write_rows(file: Path, rows: npt.NDArray[np.generic], chosen: npt.NDArray[np.bool_]) -> None:
    """Write the chosen rows of an array in NumPy's format, some at a time."""
    index = np.flatnonzero(chosen)
    with file.open("wb") as out:
        shape, kind = (len(index), *rows.shape[1:]), np.lib.format.dtype_to_descr(rows.dtype)
        np.lib.format.write_array_header_1_0(out, {"descr": kind, "fortran_order": False, "shape": shape})
        for start in range(0, len(index), _ROWS):
            out.write(np.ascontiguousarray(rows[index[start : start + _ROWS]]).data)


def write_shards(
    chosen: Mapping[str, npt.NDArray[np.bool_]],
    lengths: Sequence[int],
    shape: tuple[int, int, int],
    scratch: Path,
    folder: Path,
    suffix: str = "",
) -> None:
    """Copy the chosen images of all parts, or with the suffix INPUTS their inputs, to shards of at most SHARD_BYTES."""
    per_shard = max(1, SHARD_BYTES // math.prod(shape))
    # Plain files: a memory map that outgrows the disk kills the process instead of raising.
    writers = {
        split: _ShardWriter(folder, f"{split}{suffix}", per_shard, int(mask.sum()), shape)
        for split, mask in chosen.items()
    }
    start = 0
    for number, length in enumerate(tqdm(lengths, desc="pack", unit="part", disable=None, leave=False)):
        part = np.load(part_file(scratch, number, suffix), allow_pickle=False)
        for split, mask in chosen.items():
            pixels = part[mask[start : start + length]]
            writers[split].add(np.broadcast_to(pixels, (len(pixels), *shape)))
        start += length


def part_file(scratch: Path, number: int, suffix: str) -> Path:
    """Return where the pixels of a part lie until they are packed."""
    return scratch / f"part-{number:06d}{suffix}.npy"


def write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    """Write what a file of uint8 pixels in NumPy's format begins with."""
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


class _ShardWriter:
    """Appends images to `<split>-00000.npy`, `<split>-00001.npy`, ... of at most `per_shard` images each."""

    def __init__(self, folder: Path, split: str, per_shard: int, count: int, shape: tuple[int, int, int]) -> None:
        self._folder, self._split, self._per_shard = folder, split, per_shard
        self._left, self._room, self._index, self._shape = count, 0, 0, shape

    def add(self, pixels: Pixels) -> None:
        while len(pixels):
            if not self._room:
                self._room = min(self._per_shard, self._left)
                self._path = self._folder / f"{self._split}-{self._index:05d}.npy"
                with self._path.open("wb") as file:
                    write_header(file, (self._room, *self._shape))
                self._index += 1
            taken = min(len(pixels), self._room)
            with self._path.open("ab") as file:
                file.write(np.ascontiguousarray(pixels[:taken]).data)
            self._room -= taken
            self._left -= taken
            pixels = pixels[taken:]
