"""Hashes of what the code of each stage computes, as `components/workspace/same_bits.py` has them.

python -m benchmarks.code_keys

To be run after `benchmarks/same_bits.py` has shown that the present code makes the bits of the first one.
"""

from __future__ import annotations

from collections.abc import Iterator

from components.gan.options import NETWORKS
from components.workspace.graph import code_hash, stage_named


def present() -> Iterator[tuple[str, str]]:
    """Stage and hash of its code, for each network that the stage knows of; of stages whose results are kept."""
    yield "preprocess", code_hash(stage_named("preprocess"))
    for stage in ("train", "evaluate"):
        for network in NETWORKS:
            yield stage, code_hash(stage_named(stage), network)


if __name__ == "__main__":
    for name, digest in present():
        print(f'    "{digest}": (FIRST_CODE["{name}"],),')
