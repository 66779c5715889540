"""Earlier code that made the same bits as the present one, so that nothing it made has to be made again.

Evaluations are none of them: their figures were corrected (CHANGELOG.md). Of more than 20,000 images with labels, or
5,000 without, a training would choose its best checkpoint by other images; an earlier choice stays a good one.

`benchmarks/same_bits.py` shows it for two commits. Of a model the weights are meant: an earlier one keeps its own way
of making latents, which it names. An entry is of one code alone: when that changes, another hash is asked for, and the
entry is to be renewed, if that makes the same bits too, or removed.
"""

from __future__ import annotations

from collections.abc import Mapping

# By stage, of the version before keys hashed what code computes, 29edf2a.
FIRST_CODE: Mapping[str, str] = {
    "preprocess": "815157c6cbdca1a7ad9c3048886c37473bbb96a5baefd2a09b7686bf3ee5f2a0",
    "train": "6ee30b753addd28f69552353681c7ed3d81f850d300aa8360ec35f5d24308a4f",
}
# Hash of the present code: hashes of earlier code that makes the same.
SAME_BITS: Mapping[str, tuple[str, ...]] = {
    "1bacb929f1438358a76addfd5ec0b03ab415717cb9b66f527dd18071fbf5a794": (FIRST_CODE["preprocess"],),
    "f35db7b01af975fdbeda0684b11d8eb20c75d4a0612d940021b1a29066afe4d5": (FIRST_CODE["train"],),
    "148b7717b92efeffc2da57e60bdffc491c92457dacf8c36bd9254d1dcc4b34c5": (FIRST_CODE["train"],),
    "fa9f1378e3b323b19f096e7f7894d33c4de7057cc722498da555d730aba6fb8b": (FIRST_CODE["train"],),
    "353713f16ad6f2c9f13fb17e1f82672eba99530de13acaaf847b37aeb4fc4d4d": (FIRST_CODE["train"],),
    "3c18cade36da0f98585c784e5bdd28216dbb64b2c989d96ff787cf908bc2fc4f": (FIRST_CODE["train"],),
}
