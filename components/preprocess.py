"""Stage: raw images -> Dataset.

The work is cut into parts, one pure function call each, whose pixels are kept on disk, so that memory stays bounded and
interrupted work goes on where it was; a second pass drops duplicates, splits and packs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from .gan.errors import UserError
from .gan.options import ImageFormat
from .ingest.class_sizes import Classes, counted, large_enough, with_every_class
from .ingest.decoding import PartTable, make_part, used_bits
from .ingest.duplicates import Index, groups_of, near_pairs
from .ingest.formats import find_raw_images
from .ingest.identity import VIEWS, Pixels
from .ingest.parts import Part, Source, read
from .ingest.shards import write_header, write_rows, write_shards
from .ingest.splits import LEFT_OUT, SPLIT_NAMES, Known, Named, Shares, Sides, decide, file_pairs, files_of
from .ingest.summary import summary
from .services.cluster import tasks
from .workspace.artifacts import Dataset, Key
from .workspace.files import disk_errors, staging
from .workspace.params import Preprocess
from .workspace.text import shortened, write_table
from .workspace.workspace import Workspace

PIXEL_BYTES = 8 * 2**20
# So much to decode is worth the start of processes, which share two cores better than threads.
PROCESS_BYTES = 100 * 2**20
# As many frames as an animation often has.
FRAMES = 32
MAX_TABLE = 1_000_000
SAME_PIXELS, NEARLY_THE_SAME = "same pixels as ", "nearly the same as "
OF_A_SMALL_CLASS = "its class has fewer than preprocess.min_class_images images"


def preprocess(options: Preprocess, data: str, key: Key, workspace: Workspace) -> Dataset:
    """Raw images -> uint8 shards of three splits, and a table of what was rejected. `data`: hash of the raw images.

    Near-duplicates that came later stand where those stand that the workspace's data set holds already.

    Raises:
        UserError: no images were found, too many cannot be read, or too few are left for a class.
    """
    scratch = workspace.state / "preprocess" / key.id
    with disk_errors(scratch):
        scratch.mkdir(parents=True, exist_ok=True)
        height, width = options.shape
        images = max(64, PIXEL_BYTES // (3 * height * width))
        # Files may hold many images each.
        of_a_file = options.patches_per_file if options.fit == "patches" else FRAMES if options.frames == "all" else 1
        size = max(1, images // of_a_file)
        source = find_raw_images(workspace.data, scratch, size, options)
        print("\n".join(summary(source)), flush=True)
        _make_parts(source, options, scratch)
        bits = _bits(source, options, scratch)
        _make_parts(source, options.model_copy(update={"bits": bits}), scratch)
        known = Known.of(workspace.dataset)
        with staging(workspace.dataset) as folder:
            facts = _pack(source, options, known, scratch, folder)
            Dataset.describe(folder, key, source=data, bits=bits, **facts)
        # What interrupted runs with other parameters left goes too.
        shutil.rmtree(scratch.parent)
    return Dataset.load(workspace.dataset)


# --- parts ---


def _make_parts(source: Source, options: Preprocess, scratch: Path) -> None:
    """Make the parts that `scratch` lacks, or has with another number of bits, here or on the cluster."""
    with tqdm(total=len(source), desc="preprocess", unit="img", unit_scale=True, disable=None, leave=False) as bar:
        missing = [part for part in source.parts if not _is_made(_load_table(scratch, part), options)]
        bar.update(len(source) - sum(map(len, missing)))
        # Contents are read here and travel with the task, so that nodes need not see this disk.
        encoded = sum(int(part.sizes.sum()) for part in missing if part.shape is None)
        work = partial(make_part, options=options)
        made = tasks.run_parts(work, read, missing, processes=encoded > PROCESS_BYTES)
        for part, (table, pixels) in zip(missing, made, strict=True):
            _save_part(scratch, part, table, pixels)
            bar.update(len(part))


def _is_made(table: PartTable | None, options: Preprocess) -> bool:
    return table is not None and (not table.largest or options.bits in ("auto", table.bits))


def _bits(source: Source, options: Preprocess, scratch: Path) -> int:
    """Return how many bits images of 16 bits use, as asked for or as all of them say, which is told.

    Raises:
        UserError: `preprocess.strict` allows no guess.
    """
    if options.bits != "auto":
        return options.bits
    largest = max(table.largest for part in source.parts if (table := _load_table(scratch, part)))
    bits = used_bits(largest)
    if bits == 16:
        return bits
    if options.strict:
        raise UserError(
            f"preprocess.strict refuses: images of 16 bits seem to use {bits} of them (the largest value is "
            f"{largest:,}): set preprocess.bits to {bits} or 16"
        )
    print(
        f"{'assumed':<13}images of 16 bits use {bits} of them (the largest value is {largest:,}): these are scaled to "
        f"8. preprocess.bits: {bits} says so for good, 16 takes them as they are",
        flush=True,
    )
    return bits


def _save_part(scratch: Path, part: Part, table: PartTable, pixels: Pixels) -> None:
    """Pixels first, then the table in one rename: a part is whole as soon as its table is there."""
    with (scratch / f"part-{part.number:06d}.npy").open("wb") as file:
        write_header(file, pixels.shape)
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
            values = {name: saved[name] for name in ("rows", "digests", "identities", "sums", "squares")}
            # Of a million images they would take half of the memory there is.
            signatures = np.empty((len(values["rows"]), 0, 0), np.uint8)
            channels, largest, bits = (int(saved[name]) for name in ("channels", "largest", "bits"))
            return PartTable(
                **values, signatures=signatures, channels=channels, reasons=reasons, largest=largest, bits=bits
            )
    except (OSError, ValueError, KeyError, EOFError):
        return None


def _load_signatures(scratch: Path, source: Source) -> Pixels:
    """Return the signatures of all images (N, views, values): one view of each where all are square."""
    views = 1
    parts: list[Pixels] = []
    for part in source.parts:
        with np.load(scratch / f"part-{part.number:06d}.npz", allow_pickle=False) as saved:
            signatures = saved["signatures"]
        if views == 1 and (signatures[:, 1:] != signatures[:, :1]).any():
            views, parts = VIEWS, [np.repeat(one, VIEWS, 1) for one in parts]
        parts.append(np.ascontiguousarray(signatures[:, :views]))
    return np.concatenate(parts)


# --- duplicates, splits ---


class _Rejected:
    """The tables of rejected images and of what is left out, and how many there were."""

    def __init__(self, source: Source) -> None:
        self.rows: list[tuple[str, str]] = []
        self.left_out = list(source.left_out)
        self.unreadable = self.duplicates = self.between_sides = 0
        self.first = ""
        for name, reason in source.rejected:
            self.add(name, reason)

    def add(self, name: str, reason: str) -> None:
        if reason.startswith(SAME_PIXELS):
            self.duplicates += 1
        elif reason.startswith(NEARLY_THE_SAME):
            self.between_sides += 1
        elif reason != OF_A_SMALL_CLASS:
            self.unreadable += 1
            self.first = self.first or f"{name}: {reason}"
            self.rows.append((name, reason))
            return
        self.left_out.append((name, reason))

    def write(self, folder: Path) -> None:
        """Write both tables, as far as somebody may want to read them."""
        write_table(folder / "rejected.csv", ("path", "reason"), self.rows[:MAX_TABLE])
        write_table(folder / "left_out.csv", ("path", "reason"), self.left_out[:MAX_TABLE])


def _pack(source: Source, options: Preprocess, known: Known, scratch: Path, folder: Path) -> dict[str, object]:
    """Write shards, labels, what images are known by and `rejected.csv` to `folder`; the facts of the data set's JSON.

    `known`: what the workspace's data set held before.
    """
    tables = [table for part in source.parts if (table := _load_table(scratch, part))]
    _require_any(source, tables)
    channels = _channels(tables)
    signatures = _load_signatures(scratch, source)
    files = files_of(tables)
    patches = options.fit == "patches"
    first_of = _first_of_equal_photos(tables, files) if patches else _first_of_equal(tables)
    repeated = _repeated(tables, first_of) if patches else np.zeros(len(files), bool)
    labels = np.concatenate([part.labels[table.rows] for part, table in zip(source.parts, tables, strict=True)])
    rivals = _rivals(first_of, labels)
    distinct = (first_of == np.arange(len(first_of))) & (rivals < 0) & ~repeated
    classes = large_enough(source.classes, labels, distinct, options.min_class_images)
    kept = distinct & ~classes.dropped
    near = np.empty((0, 2), np.int64)
    if options.near_duplicates:
        # All pieces of a photo have its signature.
        shown = _firsts(files) if patches else np.arange(len(files))
        near = shown[near_pairs(signatures[shown] if patches else signatures)]
    copies = np.stack([first_of, np.arange(len(first_of))], 1)[~distinct]
    named = Named.of(source, tables)
    shares = Shares(options.holdout, options.development)
    sides = decide(tables, named, kept, np.concatenate([file_pairs(files), copies, near]), known, shares)
    rejected = _rejected(source, tables, first_of, rivals, sides, classes)
    rejected.left_out += _of_pieces(source, tables, repeated)
    rejected.write(folder)
    total = len(source) + len(source.rejected)
    if rejected.unreadable > options.max_rejected * total:
        raise UserError(
            f"{rejected.unreadable} of {total} files cannot be used (the first: {rejected.first}), more than "
            f"preprocess.max_rejected = {options.max_rejected:g} allows: mend them or raise it"
        )
    sides, moved = with_every_class(sides, classes, kept, named, shares)
    _say(classes.small, moved, options)
    chosen = {name: kept & (sides.codes == code) for code, name in SPLIT_NAMES.items()}
    alike = _alike(files, near, kept)
    counts = counted(classes, chosen, sides.groups, None if named.holdout else options.holdout, alike.largest)
    shape = (*options.shape, channels)
    for name, mask in chosen.items():
        np.save(folder / f"{name}-labels.npy", classes.labels[mask].astype(np.int64))
        np.save(folder / f"{name}-identities.npy", np.concatenate([table.identities for table in tables])[mask])
        np.save(folder / f"{name}-places.npy", sides.places[mask])
        np.save(folder / f"{name}-groups.npy", sides.groups[mask])
        write_rows(folder / f"{name}-signatures.npy", signatures, mask)
    write_shards(chosen, [len(table.rows) for table in tables], shape, scratch, folder)
    mean, std = _mean_std(tables, chosen["training"], shape)
    image = ImageFormat(height=shape[0], width=shape[1], channels=channels, classes=classes.names)
    return {
        "image": image,
        "splits": {split: int(mask.sum()) for split, mask in chosen.items()},
        "photos": {split: len(np.unique(files[mask])) for split, mask in chosen.items()} if patches else {},
        "class_counts": counts,
        "mean": mean,
        "std": std,
        "rejected": rejected.unreadable,
        "duplicates": rejected.duplicates,
        "near_duplicates": alike.images,
        "near_groups": alike.groups,
        "between_sides": rejected.between_sides,
    }


def _require_any(source: Source, tables: Sequence[PartTable]) -> None:
    if any(len(table.rows) for table in tables):
        return
    told = [*source.rejected]
    told += [
        (part.name(row), why)
        for part, table in zip(source.parts, tables, strict=True)
        for row, why in table.reasons.items()
    ]
    raise UserError(
        f"none of {len(told):,} files can be used (the first: {told[0][0]}: {told[0][1]}): put others into data/"
    )


def _channels(tables: Sequence[PartTable]) -> int:
    found = sorted({table.channels for table in tables if len(table.rows)} - {1})
    if len(found) > 1:
        raise UserError(
            f"images have {' and '.join(map(str, found))} channels: set preprocess.channels to one of them, and "
            "the others are rejected"
        )
    return found[0] if found else 1


def _first_of_equal(tables: Sequence[PartTable]) -> Index:
    """Return for each image the first one with the same pixels, as they came or as they were made."""
    digests = np.concatenate([table.digests for table in tables])
    identities = np.concatenate([table.identities for table in tables])
    first = _first_with(digests)
    return first[_first_with(identities)[first]]


def _first_of_equal_photos(tables: Sequence[PartTable], files: Index) -> Index:
    """Return for each piece itself, or the same piece of the first photo that is the same as its own."""
    firsts = _firsts(files)
    earliest = _first_with(np.concatenate([table.identities for table in tables])[firsts])
    return firsts[earliest[files]] + np.arange(len(files)) - firsts[files]


def _repeated(tables: Sequence[PartTable], first_of: Index) -> npt.NDArray[np.bool_]:
    """Whether a piece of a photo that counts equals an earlier one, as those of a black border do.

    That connects no photos: a white sky is in many.
    """
    counted = np.flatnonzero(first_of == np.arange(len(first_of)))
    first = _first_with(np.concatenate([table.digests for table in tables])[counted])
    repeated = np.zeros(len(first_of), bool)
    repeated[counted] = first != np.arange(len(counted))
    return repeated


def _firsts(files: Index) -> Index:
    """Return the place of the first image of each file."""
    return np.flatnonzero(np.diff(files, prepend=-1))


def _first_with(keys: npt.NDArray[np.uint64]) -> Index:
    """Return for each of the keys (N, 2) the place of the first that equals it."""
    # A stable sort puts the first of equal keys first.
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    ordered = keys[order]
    new = np.ones(len(order), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(1)
    first_of = np.empty(len(order), np.int64)
    first_of[order] = order[np.flatnonzero(new)[np.cumsum(new) - 1]]
    return first_of


def _rivals(first_of: Index, labels: npt.NDArray[np.int32]) -> Index:
    """Return for each image one with the same pixels and another label, by which neither can be used; -1 for none."""
    rivals = np.full(len(first_of), -1)
    other = np.flatnonzero(labels != labels[first_of])
    rivals[first_of[other]] = other
    rivals[other] = first_of[other]
    alike = (rivals < 0) & (rivals[first_of] >= 0)
    rivals[alike] = rivals[first_of[alike]]
    return rivals


def _say(small: Mapping[str, int], moved: Mapping[str, int], options: Preprocess) -> None:
    """Say which classes are left out, and which have so few images that one was taken back for training.

    Raises:
        UserError: the first, where `preprocess.strict` allows no loss.
    """
    if small:
        listed = shortened(", ".join(f"{name} {count:,}" for name, count in small.items()))
        least = options.min_class_images
        words = f"fewer than {least} images (preprocess.min_class_images)" if least > 1 else "no image that can be used"
        if options.strict:
            raise UserError(f"preprocess.strict refuses: {len(small):,} classes have {words}: {listed}")
        print(f"{'left out':<13}{len(small):,} classes with {words}: {listed}", flush=True)
    if moved:
        listed = shortened(", ".join(f"{name} {count:,}" for name, count in moved.items()))
        print(
            f"{'assumed':<13}{len(moved):,} classes are so small that chance left them none for training, which got "
            f"back: {listed}. preprocess.min_class_images leaves small classes out",
            flush=True,
        )


def _rejected(
    source: Source, tables: Sequence[PartTable], first_of: Index, rivals: Index, sides: Sides, classes: Classes
) -> _Rejected:
    """Return the table of all that is left out, in the order of the source."""
    rejected = _Rejected(source)
    starts = np.cumsum([0, *(len(table.rows) for table in tables)])
    out = (first_of != np.arange(len(first_of))) | (rivals >= 0) | (sides.codes == LEFT_OUT) | classes.dropped

    def name_of(index: int) -> str:
        number = int(np.searchsorted(starts, index, side="right")) - 1
        return source.parts[number].name(int(tables[number].rows[index - starts[number]]))

    def reason_of(index: int) -> str:
        if rivals[index] >= 0:
            return f"{SAME_PIXELS}{name_of(int(rivals[index]))}, under another label: both are left out"
        if first_of[index] != index:
            return f"{SAME_PIXELS}{name_of(int(first_of[index]))}"
        if classes.dropped[index]:
            return OF_A_SMALL_CLASS
        return f"{NEARLY_THE_SAME}{name_of(sides.rivals[index])}, which stands on another side"

    for part, table, start in zip(source.parts, tables, starts[:-1], strict=True):
        found = {int(table.rows[i]): int(start + i) for i in np.flatnonzero(out[start : start + len(table.rows)])}
        if not found and not table.reasons:
            continue
        for row in sorted(found.keys() | table.reasons.keys()):
            if row in table.reasons:
                rejected.add(part.name(row), table.reasons[row])
            if row in found:
                rejected.add(part.name(row), reason_of(found[row]))
    return rejected


def _of_pieces(
    source: Source, tables: Sequence[PartTable], repeated: npt.NDArray[np.bool_]
) -> Iterator[tuple[str, str]]:
    """Yield the photos that have pieces which equal others, and how many."""
    start = 0
    for part, table in zip(source.parts, tables, strict=True):
        rows, counts = np.unique(table.rows[repeated[start : start + len(table.rows)]], return_counts=True)
        for row, count in zip(rows.tolist(), counts.tolist(), strict=True):
            of = int((table.rows == row).sum())
            yield part.name(row), f"{count} of its {of} pieces: same pixels as other pieces"
        start += len(table.rows)


class _Alike(NamedTuple):
    """How many images have near-duplicates, in how many groups, and how many the largest of these has."""

    images: int
    groups: int
    largest: int


def _alike(files: Index, near: Index, kept: npt.NDArray[np.bool_]) -> _Alike:
    """Count the images kept of files (N,) that are alike, and of one file only with those of others."""
    images = np.bincount(files[kept], minlength=int(files.max(initial=-1)) + 1)
    pairs = files[near]
    pairs = pairs[(images[pairs] > 0).all(1) & (pairs[:, 0] != pairs[:, 1])]
    groups = groups_of(pairs, len(images))
    sizes = np.bincount(groups, images)[np.bincount(groups) > 1].astype(np.int64)
    return _Alike(int(sizes.sum()), len(sizes), int(sizes.max(initial=0)))


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
