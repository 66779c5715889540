"""Stage: raw images -> Dataset.

The work is cut into parts, one pure function call each, whose pixels are kept on disk, so that memory stays bounded and
interrupted work goes on where it was; a second pass drops duplicates, splits and packs.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .gan.errors import UserError
from .gan.options import ImageFormat
from .ingest.class_sizes import counted, large_enough, with_every_class
from .ingest.duplicates import Index, groups_of, near_pairs
from .ingest.equal import first_of_equal, first_of_equal_photos, firsts, repeated_pieces, rivals_of, same_in_pairs
from .ingest.formats import find_raw_images
from .ingest.pairs.hidden import connected, subjects_of
from .ingest.part_files import load_signatures, load_table, make_parts, settled_bits
from .ingest.part_tables import PartTable
from .ingest.parts import Source
from .ingest.rejections import of_pieces, rejected_of
from .ingest.shards import INPUTS, write_rows, write_shards
from .ingest.splits import SPLIT_NAMES, Known, Named, Shares, decide, file_pairs, files_of
from .ingest.summary import summary
from .workspace.artifacts import Dataset, Key
from .workspace.files import disk_errors, staging
from .workspace.params import Preprocess
from .workspace.text import shortened
from .workspace.workspace import Workspace

PIXEL_BYTES = 8 * 2**20
# As many frames as an animation often has.
FRAMES = 32


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
        make_parts(source, options, scratch)
        bits = settled_bits(source, options, scratch)
        make_parts(source, options.model_copy(update={"bits": bits}), scratch)
        known = Known.of(workspace.dataset)
        with staging(workspace.dataset) as folder:
            facts = _pack(source, options, known, scratch, folder)
            Dataset.describe(folder, key, source=data, bits=bits, **facts)
        # What interrupted runs with other parameters left goes too.
        shutil.rmtree(scratch.parent)
    return Dataset.load(workspace.dataset)


def _pack(source: Source, options: Preprocess, known: Known, scratch: Path, folder: Path) -> dict[str, object]:
    """Write shards, labels, what images are known by and `rejected.csv` to `folder`; the facts of the data set's JSON.

    `known`: what the workspace's data set held before.
    """
    tables = [table for part in source.parts if (table := load_table(scratch, part))]
    _require_any(source, tables)
    channels = _channels(tables)
    signatures = load_signatures(scratch, source)
    files = files_of(tables)
    patches = options.fit == "patches"
    first_of = first_of_equal_photos(tables, files) if patches else first_of_equal(tables)
    repeated = repeated_pieces(tables, first_of) if patches else np.zeros(len(files), bool)
    labels = np.concatenate([part.labels[table.rows] for part, table in zip(source.parts, tables, strict=True)])
    rivals = rivals_of(first_of, labels)
    distinct = (first_of == np.arange(len(first_of))) & (rivals < 0) & ~repeated
    classes = large_enough(source.classes, labels, distinct, options.min_class_images)
    kept = distinct & ~classes.dropped
    near = np.empty((0, 2), np.int64)
    if options.near_duplicates:
        # All pieces of a photo have its signature.
        shown = firsts(files) if patches else np.arange(len(files))
        near = shown[near_pairs(signatures[shown] if patches else signatures)]
    together = [file_pairs(files), np.stack([first_of, np.arange(len(first_of))], 1)[~distinct], near]
    if source.pairs:
        together += _of_one_picture(tables, files, kept)
    subjects = subjects_of(source, tables, classes.labels, kept) if options.hidden_pairs else None
    if subjects is not None:
        together.append(connected(subjects))
    named = Named.of(source, tables)
    shares = Shares(options.holdout, options.development)
    sides = decide(tables, named, kept, np.concatenate(together), known, shares)
    rejected = rejected_of(source, tables, first_of, rivals, sides, classes)
    rejected.left_out += of_pieces(source, tables, repeated)
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
        if subjects is not None:
            np.save(folder / f"{name}-subjects.npy", subjects[mask])
    for suffix in ("", INPUTS) if source.pairs else ("",):
        write_shards(chosen, [len(table.rows) for table in tables], shape, scratch, folder, suffix)
    mean, std = _mean_std(tables, chosen["training"], shape)
    image = ImageFormat(
        height=shape[0], width=shape[1], channels=channels, classes=classes.names, paired=bool(source.pairs)
    )
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


def _of_one_picture(tables: Sequence[PartTable], files: Index, kept: npt.NDArray[np.bool_]) -> list[Index]:
    """Return pairs (P, 2) of images of files (N,) that have the same target, and of those that have the same input.

    They stand on one side: a network is asked what it makes of inputs that it never saw.

    Raises:
        UserError: most images have one and the same input, so that no such input would be left.
    """
    targets, inputs = same_in_pairs(tables)
    # Pieces of a photo are not counted.
    counted = np.flatnonzero(kept)[np.unique(files[kept], return_index=True)[1]]
    most, total = int(np.bincount(inputs[counted]).max(initial=0)), len(counted)
    if most > max(1, total / 2):
        raise UserError(
            f"{most:,} of {total:,} pairs have one and the same input, so no input is left that a network could be "
            "judged by: preprocess.input names the pictures that something is to be made of"
        )
    return [np.stack([first, np.arange(len(first))], 1)[first != np.arange(len(first))] for first in (targets, inputs)]


def _channels(tables: Sequence[PartTable]) -> int:
    found = sorted({table.channels for table in tables if len(table.rows)} - {1})
    if len(found) > 1:
        raise UserError(
            f"images have {' and '.join(map(str, found))} channels: set preprocess.channels to one of them, and "
            "the others are rejected"
        )
    return found[0] if found else 1


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
