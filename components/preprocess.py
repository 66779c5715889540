"""Stage: raw images -> Dataset.

The work is cut into parts, one pure function call each, which write their pixels to disk, so that memory stays bounded;
a second pass drops duplicates, splits and packs.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image
from tqdm import tqdm

from .artifacts import Dataset, Workspace, staging
from .gan.options import ImageFormat, UserError
from .keys import data_content, key_of
from .params import Preprocess
from .raw_images import Part, Source, decoded, find_raw_images
from .services import cluster

PART_BYTES = 32 * 2**20
SHARD_BYTES = 256 * 2**20
MIN_TRAINING_IMAGES = 32
Pixels = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int32]


class PartTable(NamedTuple):
    """What became of a part: for each image its digest (None: rejected), and the reasons of the rejected."""

    digests: list[bytes | None]
    reasons: dict[int, str]
    colour: bool


def preprocess(options: Preprocess, data: Path, out: Path) -> Dataset:
    """Raw images under `data` -> square uint8 shards of two splits, and a table of what was rejected.

    Raises:
        UserError: no images were found, too many cannot be read, or too few are left for a class.
    """
    home = Workspace.around(out)
    source_hash = data_content(data, home.state)
    key = key_of("preprocess", options, source_hash)
    if found := Dataset.find(out, key):
        return found
    with staging(out) as folder:
        scratch = folder / "scratch"
        scratch.mkdir()
        source = find_raw_images(data, scratch, max(64, PART_BYTES // (3 * options.resolution**2)))
        tables = _run(source, options.resolution, scratch)
        facts = _pack(source, tables, options, scratch, folder)
        shutil.rmtree(scratch)
        Dataset.describe(folder, key, source=source_hash, **facts)
    return Dataset.load(out)


def _run(source: Source, resolution: int, scratch: Path) -> list[PartTable]:
    total = sum(len(part.labels) for part in source.parts)
    tables = []
    with tqdm(total=total, desc="preprocess", unit="img", disable=None, leave=False) as bar:
        calls = [(part, resolution, str(scratch)) for part in source.parts]
        for part, table in zip(source.parts, cluster.run_parts(process_part, calls), strict=True):
            tables.append(table)
            bar.update(len(part.labels))
    return tables


# --- one part: a pure function of its files ---


def process_part(part: Part, resolution: int, scratch: str) -> PartTable:
    """Decode, crop and scale the images of `part`, and write them to `scratch` as (n, H, W, 1 or 3) uint8."""
    digests: list[bytes | None] = []
    reasons: dict[int, str] = {}
    made: list[Pixels] = []
    for index, image in enumerate(decoded(part)):
        if isinstance(image, str):
            digests.append(None)
            reasons[index] = image
            continue
        pixels = _one_channel_if_grey(np.asarray(_square(image, resolution)))
        made.append(pixels)
        digests.append(hashlib.sha256(pixels.tobytes()).digest()[:16])
    colour = any(pixels.shape[2] == 3 for pixels in made)
    packed = np.empty((len(made), resolution, resolution, 3 if colour else 1), np.uint8)
    for row, pixels in enumerate(made):
        packed[row] = pixels
    np.save(Path(scratch, f"part-{part.number:05d}.npy"), packed)
    return PartTable(digests, reasons, colour)


def _square(image: Image.Image, resolution: int) -> Image.Image:
    """The centre square of `image`, scaled by Lanczos."""
    if image.size == (resolution, resolution):
        return image
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    # Cropped first: the filter would reach beyond a box.
    square = image if image.width == image.height else image.crop((left, top, left + side, top + side))
    return square.resize((resolution, resolution), Image.Resampling.LANCZOS)


def _one_channel_if_grey(pixels: Pixels) -> Pixels:
    """(H, W) or (H, W, 3) -> (H, W, 1) if all channels are equal, else (H, W, 3)."""
    if pixels.ndim == 2:
        return pixels[:, :, None]
    red = pixels[:, :, :1]
    return red if (pixels == red).all() else pixels


# --- duplicates, splits, shards ---


def _pack(
    source: Source, tables: Sequence[PartTable], options: Preprocess, scratch: Path, folder: Path
) -> dict[str, object]:
    """Write shards, labels and `rejected.csv` to `folder`; the facts of the data set's JSON."""
    limit = int(options.holdout * 2**64)
    # Millions of these are held at once, so they are packed: digest -> part and index in one number.
    seen: dict[bytes, int] = {}
    rejected: list[tuple[str, str]] = []
    duplicates = 0
    # For each part: which of its decoded images go to which split, and their labels.
    rows: dict[str, list[Rows]] = {"training": [], "holdout": []}
    labels: dict[str, list[int]] = {"training": [], "holdout": []}
    for part, table in zip(source.parts, tables, strict=True):
        chosen: dict[str, list[int]] = {"training": [], "holdout": []}
        row = 0
        for index, (label, digest) in enumerate(zip(part.labels, table.digests, strict=True)):
            if digest is None:
                rejected.append((part.name(index), table.reasons[index]))
                continue
            if digest in seen:
                number, first = divmod(seen[digest], 2**32)
                rejected.append((part.name(index), f"same pixels as {source.parts[number].name(first)}"))
                duplicates += 1
            else:
                seen[digest] = part.number * 2**32 + index
                split = "holdout" if int.from_bytes(digest[:8], "big") < limit else "training"
                chosen[split].append(row)
                labels[split].append(label)
            row += 1
        for split, indices in chosen.items():
            rows[split].append(np.array(indices, np.int32))
    pd.DataFrame(rejected, columns=["path", "reason"]).to_csv(folder / "rejected.csv", index=False)
    unreadable = len(rejected) - duplicates
    total = sum(len(part.labels) for part in source.parts)
    if unreadable > options.max_rejected * total:
        name, reason = next(entry for entry in rejected if not entry[1].startswith("same pixels"))
        raise UserError(
            f"{unreadable} of {total} files cannot be used (the first: {name}: {reason}), more than "
            f"preprocess.max_rejected = {options.max_rejected:g} allows: mend them or raise it"
        )
    counts = _counts(source, labels, options)
    channels = 3 if any(table.colour for table in tables) else 1
    for split in rows:
        np.save(folder / f"{split}-labels.npy", np.array(labels[split], np.int64))
    mean, std = _write_shards(rows, len(source.parts), options.resolution, channels, scratch, folder)
    image = ImageFormat(resolution=options.resolution, channels=3 if channels == 3 else 1, classes=source.classes)
    return {
        "image": image,
        "splits": {split: len(values) for split, values in labels.items()},
        "class_counts": counts,
        "mean": mean,
        "std": std,
        "rejected": unreadable,
        "duplicates": duplicates,
    }


def _counts(source: Source, labels: dict[str, list[int]], options: Preprocess) -> dict[str, dict[str, int]]:
    """Images of each class in each split, checked to be enough and to be shared as asked for."""
    counted = {split: Counter(values) for split, values in labels.items()}
    counts = {split: {name: counted[split][label] for label, name in enumerate(source.classes)} for split in counted}
    training, holdout = len(labels["training"]), len(labels["holdout"])
    if len(source.classes) < 2:
        raise UserError("all images are of one class: evaluation learns to judge from labels and needs two or more")
    if training < MIN_TRAINING_IMAGES or holdout < 2:
        raise UserError(
            f"only {training} distinct images for training and {holdout} held out: "
            f"at least {MIN_TRAINING_IMAGES} and 2 are needed, so add images"
        )
    for name in source.classes:
        kept, held = counts["training"][name], counts["holdout"][name]
        if not kept:
            raise UserError(
                f"class {name} has no image in the training split ({held} held out): add images or remove it"
            )
        share, size = options.holdout, kept + held
        if abs(held - share * size) > 5 * (share * (1 - share) * size) ** 0.5 + 1:
            raise UserError(f"class {name} has {held} of {size} images held out, too far from a share of {share:g}")
    return counts


def _write_shards(
    rows: dict[str, list[Rows]], parts: int, resolution: int, channels: int, scratch: Path, folder: Path
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Copy the chosen rows of all parts to shards of at most SHARD_BYTES; mean and std of training in [0, 1]."""
    per_shard = max(1, SHARD_BYTES // (resolution**2 * channels))
    # Plain files: a memory map that outgrows the disk kills the process instead of raising.
    writers = {
        split: _ShardWriter(folder, split, per_shard, sum(map(len, indices)), (resolution, resolution, channels))
        for split, indices in rows.items()
    }
    total, squares, values = np.zeros(channels, np.int64), np.zeros(channels, np.int64), 0
    for number in range(parts):
        part = np.load(scratch / f"part-{number:05d}.npy", mmap_mode="r", allow_pickle=False)
        for split, indices in rows.items():
            pixels = np.broadcast_to(part[indices[number]], (len(indices[number]), resolution, resolution, channels))
            writers[split].add(pixels)
            if split == "training":
                total += pixels.sum((0, 1, 2), dtype=np.int64)
                squares += np.square(pixels, dtype=np.uint16).sum((0, 1, 2), dtype=np.int64)
                values += len(pixels) * resolution**2
    mean = total / values
    std = np.sqrt(squares / values - mean**2)
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())


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
                header = {"descr": "|u1", "fortran_order": False, "shape": (self._room, *self._shape)}
                with self._path.open("wb") as file:
                    np.lib.format.write_array_header_1_0(file, header)
                self._index += 1
            taken = min(len(pixels), self._room)
            with self._path.open("ab") as file:
                file.write(np.ascontiguousarray(pixels[:taken]).data)
            self._room -= taken
            self._left -= taken
            pixels = pixels[taken:]
