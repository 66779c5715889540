"""Parts of the raw images, made one by one and kept on disk until all of them are packed."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..gan.errors import UserError
from ..services.cluster import tasks
from ..workspace.params import Preprocess
from .decoding import used_bits
from .identity import VIEWS, Pixels
from .part_tables import MadePart, PartTable, make_part
from .parts import Part, Source, read
from .shards import INPUTS, part_file, write_header

# So much to decode is worth the start of processes, which share two cores better than threads.
PROCESS_BYTES = 100 * 2**20


def make_parts(source: Source, options: Preprocess, scratch: Path) -> None:
    """Make the parts that `scratch` lacks, or has with another number of bits, here or on the cluster."""
    with tqdm(total=len(source), desc="preprocess", unit="img", unit_scale=True, disable=None, leave=False) as bar:
        missing = [part for part in source.parts if not _is_made(load_table(scratch, part), options)]
        bar.update(len(source) - sum(map(len, missing)))
        # Contents are read here and travel with the task, so that nodes need not see this disk.
        encoded = sum(part.size for part in missing if part.shape is None)
        work = partial(make_part, options=options)
        made = tasks.run_parts(work, read, missing, processes=encoded > PROCESS_BYTES)
        for part, one in zip(missing, made, strict=True):
            _save_part(scratch, part, one)
            bar.update(len(part))


def _is_made(table: PartTable | None, options: Preprocess) -> bool:
    return table is not None and (not table.largest or options.bits in ("auto", table.bits))


def settled_bits(source: Source, options: Preprocess, scratch: Path) -> int:
    """Return how many bits images of 16 bits use, as asked for or as all of them say, which is told.

    Raises:
        UserError: `preprocess.strict` allows no guess.
    """
    if options.bits != "auto":
        return options.bits
    largest = max(table.largest for part in source.parts if (table := load_table(scratch, part)))
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


def _save_part(scratch: Path, part: Part, made: MadePart) -> None:
    """Pixels first, then the table in one rename: a part is whole as soon as its table is there."""
    table = made.table
    for pixels, suffix in ((made.pixels, ""), (made.inputs, INPUTS)):
        if pixels is not None:
            with part_file(scratch, part.number, suffix).open("wb") as file:
                write_header(file, pixels.shape)
                # Not by NumPy, whose error for a full disk does not say so.
                file.write(pixels.data)
    reasons = np.frombuffer(json.dumps(table.reasons).encode(), np.uint8)
    staged = scratch / f"part-{part.number:06d}.tmp"
    with staged.open("wb") as file:
        np.savez(file, **{**table._asdict(), "reasons": reasons})
    staged.replace(scratch / f"part-{part.number:06d}.npz")


def load_table(scratch: Path, part: Part) -> PartTable | None:
    try:
        with np.load(scratch / f"part-{part.number:06d}.npz", allow_pickle=False) as saved:
            reasons = {int(row): text for row, text in json.loads(saved["reasons"].tobytes()).items()}
            values = {name: saved[name] for name in ("rows", "digests", "identities", "inputs", "sums", "squares")}
            # Of a million images they would take half of the memory there is.
            signatures = np.empty((len(values["rows"]), 0, 0), np.uint8)
            channels, largest, bits = (int(saved[name]) for name in ("channels", "largest", "bits"))
            return PartTable(
                **values, signatures=signatures, channels=channels, reasons=reasons, largest=largest, bits=bits
            )
    except (OSError, ValueError, KeyError, EOFError):
        return None


def load_signatures(scratch: Path, source: Source) -> Pixels:
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
