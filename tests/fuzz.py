"""Damaged and hostile inputs for every reader: read, rejected or told in a sentence, and none ends in a traceback.

python -m tests.fuzz [--minutes 30] [--seed 0] [--keep FOLDER] [--only READER]

Prints a table of inputs, tracebacks and the slowest input of each reader; the same seed makes the same inputs.
`tests/test_fuzz.py` runs a bounded number of them.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from components.gan.weights import read_weights
from components.pictures.opening import hush, reads_heic
from tests.fuzzing.packed import as_file, csv_tables, idx_pairs, npz, parquets, read_csv, read_idx, shards, tars, zips
from tests.fuzzing.pictures import PICTURES, heic, read_image
from tests.fuzzing.reader import Reader, mutated, scratch_folder
from tests.fuzzing.workspaces import (
    journals,
    ledgers,
    manifests,
    params,
    read_journal,
    read_ledger,
    read_manifest,
    read_params,
    read_sealed,
    read_verdict,
    safetensors_files,
    verdicts,
)


def readers() -> list[Reader]:
    """Return all of them, anew."""
    return [
        *(Reader(name, seeds, read_image) for name, seeds in PICTURES.items()),
        *([Reader("HEIC", heic, read_image)] if reads_heic() else []),
        Reader("IDX", idx_pairs, read_idx),
        Reader("zip", zips, as_file("pictures.zip")),
        Reader("npz", npz, as_file("arrays.npz")),
        Reader("tar", tars, as_file("pictures.tar")),
        Reader("WebDataset", shards, as_file("shard-000.tar")),
        Reader("Parquet", parquets, as_file("train.parquet")),
        Reader("labels.csv", csv_tables, read_csv),
        Reader("safetensors", safetensors_files, lambda content, _: void(read_weights(content))),
        Reader("ledger", ledgers, read_ledger),
        Reader("journal", journals, read_journal),
        Reader("verdict.json", verdicts, read_verdict),
        Reader("manifests", manifests, read_manifest),
        Reader("sealed JSON", manifests, read_sealed),
        Reader("params.yaml", params, read_params),
    ]


def void(_: object) -> None:
    """Let go of a result."""


def inputs(reader: Reader, count: int, seed: int) -> None:
    """Let a reader read its good inputs, and `count` damaged ones."""
    hush()
    seeds = reader.seeds()
    if not reader.inputs:
        for content in seeds:
            reader.try_one(content)
    rng = random.Random(f"{seed} {reader.name} {reader.inputs}")
    for _ in range(count):
        reader.try_one(mutated(rng.choice(seeds), seeds, rng))


def table(done: Sequence[Reader]) -> str:
    """Return the result as Markdown."""
    lines = ["| reader | inputs | tracebacks | slowest, s |", "|---|---|---|---|"]
    lines += [f"| {r.name} | {r.inputs:,} | {len(r.tracebacks)} | {r.slowest:.2f} |" for r in done]
    count, found = sum(r.inputs for r in done), sum(len(r.tracebacks) for r in done)
    return "\n".join([*lines, f"| all | {count:,} | {found} | {max(r.slowest for r in done):.2f} |"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the inputs that end in a traceback")
    parser.add_argument("--only", help="name of a reader")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    done = [reader for reader in readers() if arguments.only in (None, reader.name)]
    until = time.monotonic() + 60 * arguments.minutes
    while time.monotonic() < until:
        for reader in done:
            # As many as a second has room for.
            inputs(reader, max(5, min(500, int(reader.inputs / max(reader.slowest, 0.01) / 50))), arguments.seed)
    print(table(done))
    for reader in done:
        for error, content in reader.tracebacks.items():
            print(f"{reader.name}: {error}", file=sys.stderr)
            if arguments.keep:
                arguments.keep.mkdir(parents=True, exist_ok=True)
                (arguments.keep / f"{reader.name}-{hashlib.sha256(content).hexdigest()[:12]}").write_bytes(content)
    for left in (scratch_folder() or Path(tempfile.gettempdir())).glob("fuzz-*"):
        shutil.rmtree(left, ignore_errors=True)
    sys.exit(any(reader.tracebacks for reader in done))


if __name__ == "__main__":
    main()
