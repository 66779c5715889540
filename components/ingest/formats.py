"""Finds raw images in whatever users have, by its content, and accounts for every file.

Read are folders of images, zip and tar archives of them (also several, in folders, or one level within each other),
WebDataset shards, Parquet with image bytes, IDX pairs, `.npz` arrays; labels from folders, tables or names.
"""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

from ..gan.errors import UserError
from ..workspace.params import Preprocess
from ..workspace.text import printable, shortened, shown
from .files.archives import Reader
from .files.arrays import read_arrays
from .files.folders import Listed, Packed, listed
from .files.kinds import FOREIGN
from .files.parquet import columns_without_images, read_parquet
from .files.unpacking import opened, unpacked
from .parts import BY_CONTENT, Builder, Source
from .split_names import role_of
from .tables import Text
from .understanding import understood

# What `preprocess.source` calls each kind of file.
_SOURCES = {
    "picture": "folders",
    "zip": "archives",
    "tar": "archives",
    "Parquet": "archives",
    "arrays": "archives",
    "IDX images": "idx",
    "IDX labels": "idx",
}
_CALLED = {
    "picture": "images in folders",
    "zip": "zip archives",
    "tar": "tar archives",
    "Parquet": "Parquet files",
    "arrays": ".npz files",
    "IDX images": "IDX files",
}


class Gathered(NamedTuple):
    """All images below the data, of which nothing is understood yet: their kind, the tables, and what packs them."""

    builder: Builder
    kind: str
    texts: list[Text]
    packed: list[Packed]


def find_raw_images(data: Path, scratch: Path, size: int, options: Preprocess) -> Source:
    """Look at the content of `data`, a folder or one file, and list its images in parts of at most `size`.

    What has to be unpacked to be read in parts goes to `scratch`.

    Raises:
        UserError: nothing known was found, it is damaged, or it can be read in several ways.
    """
    found = gathered(data, scratch, size, options)
    source = understood(found.builder, found.kind, found.texts, options)
    if options.strict:
        _check_strict(source)
    return source


def gathered(data: Path, scratch: Path, size: int, options: Preprocess) -> Gathered:
    """List the images of `data` as they lie there.

    Raises:
        UserError: it is damaged, or holds images of several kinds.
    """
    if not data.exists():
        raise UserError(f"there is no {printable(str(data))}: name a folder or a file with images")
    root = data if data.is_dir() else data.parent
    builder = Builder(root, size, options.limits, options.follow_links)
    found = listed(data, builder)
    _split_parquet(found)
    kinds = _chosen(found, data, options)
    reader = Reader(builder, scratch)
    for number, listing in enumerate(found.files):
        if listing.kind not in kinds:
            continue
        name = listing.name
        if listing.kind in ("zip", "tar"):
            reader.read(listing.path, listing.kind, name)
        elif listing.kind == "Parquet":
            read_parquet(listing.path, scratch / f"{number}.images", builder, name, options.input)
        elif listing.kind == "arrays":
            read_arrays(listing.path, scratch / f"{number}.images", builder, name)
    _read_idx(found, kinds, scratch, builder)
    for picture in found.pictures if "picture" in kinds else ():
        builder.add(root, picture.name, picture.size)
    for name, kind in found.foreign:
        builder.leave_out(name, f"{kind}, which is not read: {FOREIGN[kind]}", lost=True)
    for listing in found.files:
        if listing.kind not in kinds:
            builder.leave_out(listing.name, "of a kind that preprocess.source does not ask for", lost=True)
    return Gathered(builder, _called(kinds), [*reader.texts, *found.texts], found.files)


def _split_parquet(found: Listed) -> None:
    """Take Parquet files without images for the tables that they are."""
    for packed in [packed for packed in found.files if packed.kind == "Parquet"]:
        columns = columns_without_images(packed.path)
        if columns is None:
            continue
        found.files.remove(packed)
        found.texts.append(Text(packed.name, packed.size, packed.path.read_bytes))
        if not found.files and not found.pictures:
            raise UserError(
                f"{printable(packed.name)} has no column of image bytes; its columns: "
                f"{shortened(printable(', '.join(columns)))}"
            )


def _chosen(found: Listed, data: Path, options: Preprocess) -> set[str]:
    """Return the kinds of files that are used.

    Raises:
        UserError: there are several, of which nobody says which are meant, or none that is read.
    """
    counts: dict[str, int] = {}
    for packed in found.files:
        counts[packed.kind] = counts.get(packed.kind, 0) + 1
    if found.pictures:
        counts["picture"] = len(found.pictures)
    if not counts and found.foreign:
        name, kind = found.foreign[0]
        raise UserError(f"{shown(os.fsencode(name))} is not read ({kind}): {FOREIGN[kind]}")
    groups = {"IDX images" if kind == "IDX labels" else kind for kind in counts}
    if options.source == "auto":
        if len(groups) > 1:
            raise UserError(_several(found, groups, counts, data))
        return {*counts}
    wanted = "folders" if options.source == "table" else options.source
    return {kind for kind in counts if wanted in (_SOURCES[kind], "all")}


def _several(found: Listed, groups: set[str], counts: dict[str, int], data: Path) -> str:
    examples = {packed.kind: packed.name for packed in reversed(found.files)}
    if found.pictures:
        examples["picture"] = os.fsdecode(found.pictures[0].name)
    listed = ", ".join(
        f"{counts.get(kind, 0) or counts['IDX labels']:,} {_CALLED[kind]} ({shortened(printable(examples[kind]), 40)})"
        for kind in sorted(groups)
        if kind in examples
    )
    choices = sorted({_SOURCES[kind] for kind in groups})
    return (
        f"{printable(str(data))} holds images in several ways: {listed}. Keep one, or say by preprocess.source what is "
        f"meant: {', '.join(choices)} or all"
    )


def _called(kinds: set[str]) -> str:
    names = [_CALLED[kind] for kind in sorted(kinds) if kind in _CALLED]
    return "folder of images" if names == ["images in folders"] else ", ".join(names) or "nothing"


def _check_strict(source: Source) -> None:
    """Refuse losses and guesses.

    Raises:
        UserError: there are such.
    """
    guesses = [note.text for note in source.notes if note.guess]
    if source.lost:
        guesses.append(f"{source.lost:,} pictures or tables are not used")
    if guesses:
        more = f" (and {len(guesses) - 1:,} more)" if len(guesses) > 1 else ""
        raise UserError(f"preprocess.strict refuses: {shortened(printable(guesses[0]))}{more}")


def _read_idx(found: Listed, kinds: set[str], scratch: Path, builder: Builder) -> None:
    """List the images of IDX files, the format of MNIST."""
    images, labels = (
        [packed.path for packed in found.files if packed.kind == kind and kind in kinds]
        for kind in ("IDX images", "IDX labels")
    )
    if len(images) != len(labels):
        raise UserError(f"found {len(images)} IDX files of images but {len(labels)} of labels: each needs the other")
    for number, (image_path, label_path) in enumerate(zip(images, labels, strict=True)):
        raw = unpacked(image_path, scratch, f"{number}.idx", builder.limits)
        names = printable(image_path.name), printable(label_path.name)
        try:
            with raw.open("rb") as plain:
                _, rows, height, width = struct.unpack(">IIII", plain.read(16))
            with opened(label_path) as packed:
                _, count = struct.unpack(">II", packed.read(8))
                # One more than there may be; whatever else is packed there is not unpacked.
                values = packed.read(min(count, builder.limits.entries) + 1)
        except (gzip.BadGzipFile, zlib.error, EOFError, struct.error) as error:
            raise UserError(f"{names[0]} or {names[1]} is damaged ({error}): fetch them again") from None
        if raw.stat().st_size != 16 + rows * height * width or len(values) != count or not height * width:
            raise UserError(f"{names[0]} or {names[1]} is cut short: fetch them again")
        if rows != count:
            raise UserError(f"{names[0]} holds {rows} images but {names[1]} holds {count} labels")
        if height * width > builder.limits.pixels:
            raise UserError(f"{names[0]} holds images of {width}x{height} pixels, which are too many to decode safely")
        size, split = height * width, _split_of(image_path.name)
        for row, label in enumerate(values):
            name = os.fsencode(f"{image_path.name}#{row}")
            builder.add(raw, name, size, 16 + row * size, label=str(label), split=split, shape=(height, width))


def _split_of(name: str) -> int:
    """Return the split that a file's name states, as `t10k-images-idx3-ubyte` and `emnist-letters-train-images` do."""
    role = role_of(name)
    return BY_CONTENT if role is None else role[0]
