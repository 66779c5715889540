"""Stage: raw images -> Dataset.

The work is cut into parts, one pure function call each, whose pixels are kept on disk, so that memory stays bounded and
interrupted work goes on where it was; a second pass drops duplicates, splits and packs.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from .gan.errors import UserError
from .gan.options import ImageFormat
from .ingest.decoding import PartTable, Pixels, make_part
from .ingest.formats import find_raw_images
from .ingest.parts import BY_CONTENT, HOLDOUT, TRAINING, Part, Source, read
from .services.cluster import tasks
from .workspace.artifacts import Dataset, Key
from .workspace.files import disk_errors, staging
from .workspace.params import Preprocess
from .workspace.text import write_table
from .workspace.workspace import Workspace

PIXEL_BYTES = 8 * 2**20
# So much to decode is worth the start of processes, which share two cores better than threads.
PROCESS_BYTES = 100 * 2**20
SHARD_BYTES = 256 * 2**20
# As many frames as an animation often has.
FRAMES = 32
MIN_TRAINING_IMAGES = 32
MAX_TABLE = 1_000_000
SAME_PIXELS = "same pixels as "
Split = str


def preprocess(options: Preprocess, data: str, key: Key, workspace: Workspace) -> Dataset:
    """Raw images -> uint8 shards of two splits, and a table of what was rejected. `data`: the hash of the raw images.

    Raises:
        UserError: no images were found, too many cannot be read, or too few are left for a class.
    """
    scratch = workspace.state / "preprocess" / key.id
    with disk_errors(scratch):
        scratch.mkdir(parents=True, exist_ok=True)
        height, width = options.shape
        images = max(64, PIXEL_BYTES // (3 * height * width))
        # Files may then hold many images each.
        size = images if options.frames == "first" else max(1, images // FRAMES)
        source = find_raw_images(workspace.data, scratch, size, options.limits)
        _make_parts(source, options, scratch)
        with staging(workspace.dataset) as folder:
            facts = _pack(source, options, scratch, folder)
            Dataset.describe(folder, key, source=data, **facts)
        # What interrupted runs with other parameters left goes too.
        shutil.rmtree(scratch.parent)
    return Dataset.load(workspace.dataset)


# --- parts ---


def _make_parts(source: Source, options: Preprocess, scratch: Path) -> None:
    """Make the parts that `scratch` lacks, here or on the cluster."""
    with tqdm(total=len(source), desc="preprocess", unit="img", unit_scale=True, disable=None, leave=False) as bar:
        missing = [part for part in source.parts if _load_table(scratch, part) is None]
        bar.update(len(source) - sum(map(len, missing)))
        # Contents are read here and travel with the task, so that nodes need not see this disk.
        encoded = sum(int(part.sizes.sum()) for part in missing if part.shape is None)
        work = partial(make_part, options=options)
        made = tasks.run_parts(work, read, missing, processes=encoded > PROCESS_BYTES)
        for part, (table, pixels) in zip(missing, made, strict=True):
            _save_part(scratch, part, table, pixels)
            bar.update(len(part))


def _save_part(scratch: Path, part: Part, table: PartTable, pixels: Pixels) -> None:
    """Pixels first, then the table in one rename: a part is whole as soon as its table is there."""
    with (scratch / f"part-{part.number:06d}.npy").open("wb") as file:
        _write_header(file, pixels.shape)
        # Not by NumPy, whose error for a full disk does not say so.
        file.write(pixels.data)
    reasons = np.frombuffer(json.dumps(table.reasons).encode(), np.uint8)
    staged = scratch / f"part-{part.number:06d}.tmp"
    with staged.open("wb") as file:
        np.savez(file, **{**table._asdict(), "reasons": reasons})
    staged.replace(scratch / f"part-{part.number:06d}.npz")


def _load_table(scratch: Path, part: Part) -> PartTable | None:
    try:
        with np.load(scratch / f"part-{part.number:06d}.npz", allow_pickle=False) as saved:
            reasons = {int(row): text for row, text in json.loads(saved["reasons"].tobytes()).items()}
            values = {name: saved[name] for name in ("rows", "digests", "sums", "squares")}
            return PartTable(**values, channels=int(saved["channels"]), reasons=reasons)
    except (OSError, ValueError, KeyError, EOFError):
        return None


# --- duplicates, splits, shards ---


class _Rejected:
    """The table of rejected images, and how many there were of each kind."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str]] = []
        self.unreadable = self.duplicates = 0
        self.first = ""

    def add(self, name: str, reason: str) -> None:
        if reason.startswith(SAME_PIXELS):
            self.duplicates += 1
        else:
            self.unreadable += 1
            self.first = self.first or f"{name}: {reason}"
        if len(self.rows) < MAX_TABLE:
            self.rows.append((name, reason))


def _pack(source: Source, options: Preprocess, scratch: Path, folder: Path) -> dict[str, object]:
    """Write shards, labels and `rejected.csv` to `folder`; the facts of the data set's JSON."""
    tables = [table for part in source.parts if (table := _load_table(scratch, part))]
    rejected = _Rejected()
    for name, reason in source.rejected:
        rejected.add(name, reason)
    channels = _channels(tables)
    kept = _without_duplicates(source, tables, rejected)
    given = any((part.splits == HOLDOUT).any() for part in source.parts)
    holdout = _in_holdout(source, tables, options.holdout, given)
    labels = np.concatenate([part.labels[table.rows] for part, table in zip(source.parts, tables, strict=True)])
    write_table(folder / "rejected.csv", ("path", "reason"), rejected.rows)
    total = len(source) + len(source.rejected)
    if rejected.unreadable > options.max_rejected * total:
        raise UserError(
            f"{rejected.unreadable} of {total} files cannot be used (the first: {rejected.first}), more than "
            f"preprocess.max_rejected = {options.max_rejected:g} allows: mend them or raise it"
        )
    chosen = {"training": kept & ~holdout, "holdout": kept & holdout}
    classes = source.classes
    counted = {split: np.bincount(labels[mask], minlength=len(classes)) for split, mask in chosen.items()}
    counts = _counts(classes, counted, None if given else options.holdout)
    for split, mask in chosen.items():
        np.save(folder / f"{split}-labels.npy", labels[mask].astype(np.int64))
    shape = (*options.shape, channels)
    _write_shards(chosen, [len(table.rows) for table in tables], shape, scratch, folder)
    mean, std = _mean_std(tables, chosen["training"], shape)
    image = ImageFormat(height=shape[0], width=shape[1], channels=channels, classes=classes)
    return {
        "image": image,
        "splits": {split: int(mask.sum()) for split, mask in chosen.items()},
        "class_counts": counts,
        "mean": mean,
        "std": std,
        "rejected": rejected.unreadable,
        "duplicates": rejected.duplicates,
    }


def _channels(tables: Sequence[PartTable]) -> int:
    found = sorted({table.channels for table in tables if len(table.rows)} - {1})
    if len(found) > 1:
        raise UserError(
            f"images have {' and '.join(map(str, found))} channels: set preprocess.channels to one of them, and "
            "the others are rejected"
        )
    return found[0] if found else 1


def _without_duplicates(source: Source, tables: Sequence[PartTable], rejected: _Rejected) -> npt.NDArray[np.bool_]:
    """Which of all images made are the first with their pixels; the others, and the unreadable, go to the table."""
    digests = np.concatenate([table.digests for table in tables])
    # A stable sort puts the first of equal digests first.
    order = np.lexsort((digests[:, 1], digests[:, 0]))
    ordered = digests[order]
    new = np.ones(len(order), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(1)
    first_of = np.empty(len(order), np.int64)
    first_of[order] = order[np.flatnonzero(new)[np.cumsum(new) - 1]]
    kept = first_of == np.arange(len(order))
    starts = np.cumsum([0, *(len(table.rows) for table in tables)])

    def name_of(index: int) -> str:
        number = int(np.searchsorted(starts, index, side="right")) - 1
        return source.parts[number].name(int(tables[number].rows[index - starts[number]]))

    for part, table, start in zip(source.parts, tables, starts[:-1], strict=True):
        copies = {int(table.rows[i]): int(start + i) for i in np.flatnonzero(~kept[start : start + len(table.rows)])}
        if not copies and not table.reasons:
            continue
        for row in sorted(copies.keys() | table.reasons.keys()):
            if row in table.reasons:
                rejected.add(part.name(row), table.reasons[row])
            if row in copies:
                rejected.add(part.name(row), f"{SAME_PIXELS}{name_of(int(first_of[copies[row]]))}")
    return np.asarray(kept)


def _in_holdout(source: Source, tables: Sequence[PartTable], share: float, given: bool) -> npt.NDArray[np.bool_]:
    """Which of all images made are held out: as the data say, where a split is `given`, else by their content.

    The frames of one file go by the first of them.
    """
    limit = int(share * 2**64)
    masks = []
    for part, table in zip(source.parts, tables, strict=True):
        # Frames of one animation are too alike to be parted.
        _, first, inverse = np.unique(table.rows, return_index=True, return_inverse=True)
        # The digest's first eight bytes, as a number whose first byte counts most.
        by_content = table.digests[first, 0].byteswap()[inverse] < limit if len(table.rows) else np.zeros(0, bool)
        splits = part.splits[table.rows]
        asked = splits == (BY_CONTENT if given else splits)
        masks.append(np.where(asked, by_content, splits != TRAINING))
    return np.concatenate(masks)


def _counts(
    classes: Sequence[str], counted: dict[Split, npt.NDArray[np.int64]], share: float | None
) -> dict[Split, dict[str, int]]:
    """Images of each class in each split, checked to be enough, and shared as asked for (None: as the data say)."""
    training, holdout = (int(counted[split].sum()) for split in ("training", "holdout"))
    if training < MIN_TRAINING_IMAGES or holdout < 2:
        raise UserError(
            f"only {training} distinct images for training and {holdout} held out: "
            f"at least {MIN_TRAINING_IMAGES} and 2 are needed, so add images"
        )
    for name, kept, held in zip(classes, counted["training"].tolist(), counted["holdout"].tolist(), strict=True):
        if not kept:
            raise UserError(
                f"class {name} has no image in the training split ({held} held out): add images or remove it"
            )
        size = kept + held
        if share is not None and abs(held - share * size) > 5 * (share * (1 - share) * size) ** 0.5 + 1:
            raise UserError(f"class {name} has {held} of {size} images held out, too far from a share of {share:g}")
    return {split: dict(zip(classes, values.tolist(), strict=True)) for split, values in counted.items()}


def _mean_std(
    tables: Sequence[PartTable], chosen: npt.NDArray[np.bool_], shape: tuple[int, int, int]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of each channel of the chosen images, in [0, 1]."""
    height, width, channels = shape
    total, squares = (
        # Grey images of a part without colour count for every channel.
        np.concatenate([np.broadcast_to(part, (len(part), channels)) for part in parts])[chosen].sum(0)
        for parts in ([table.sums for table in tables], [table.squares for table in tables])
    )
    values = int(chosen.sum()) * height * width
    mean = total / values
    std = np.sqrt(squares / values - mean**2)
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())


def _write_shards(
    chosen: dict[Split, npt.NDArray[np.bool_]],
    lengths: Sequence[int],
    shape: tuple[int, int, int],
    scratch: Path,
    folder: Path,
) -> None:
    """Copy the chosen images of all parts to shards of at most SHARD_BYTES."""
    per_shard = max(1, SHARD_BYTES // math.prod(shape))
    # Plain files: a memory map that outgrows the disk kills the process instead of raising.
    writers = {split: _ShardWriter(folder, split, per_shard, int(mask.sum()), shape) for split, mask in chosen.items()}
    start = 0
    for number, length in enumerate(tqdm(lengths, desc="pack", unit="part", disable=None, leave=False)):
        part = np.load(scratch / f"part-{number:06d}.npy", allow_pickle=False)
        for split, mask in chosen.items():
            pixels = part[mask[start : start + length]]
            writers[split].add(np.broadcast_to(pixels, (len(pixels), *shape)))
        start += length


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    """Write what a file of uint8 pixels in NumPy's format begins with."""
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


class _ShardWriter:
    """Appends images to `<split>-00000.npy`, `<split>-00001.npy`, ... of at most `per_shard` images each."""

    def __init__(self, folder: Path, split: Split, per_shard: int, count: int, shape: tuple[int, int, int]) -> None:
        self._folder, self._split, self._per_shard = folder, split, per_shard
        self._left, self._room, self._index, self._shape = count, 0, 0, shape

    def add(self, pixels: Pixels) -> None:
        while len(pixels):
            if not self._room:
                self._room = min(self._per_shard, self._left)
                self._path = self._folder / f"{self._split}-{self._index:05d}.npy"
                with self._path.open("wb") as file:
                    _write_header(file, (self._room, *self._shape))
                self._index += 1
            taken = min(len(pixels), self._room)
            with self._path.open("ab") as file:
                file.write(np.ascontiguousarray(pixels[:taken]).data)
            self._room -= taken
            self._left -= taken
            pixels = pixels[taken:]
