"""Earlier code that made the same bits as the present one, so that nothing it made has to be made again.

Evaluations are none of them: their figures were corrected (CHANGELOG.md). Of more than 20,000 images with labels, or
5,000 without, a training would choose its best checkpoint by other images; an earlier choice stays a good one.

Nor are trainings of StyleGAN2, whose images have another style (CHANGELOG.md). Of the other networks what computes
otherwise by now is an option, or stands in the key of the options that it concerns: only equal bits are adopted.

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
    "ac46b0ac4015f1ac4b75ff9e36184f6f84c6e7ae88605531a4b96a67ff514040": (FIRST_CODE["train"],),
    "837b7ae0e5ff892df6ae43bcbb7d74d3a5ddbd55038a8fce6fe1ab0ead143f26": (FIRST_CODE["train"],),
    "ed0c624c76f88b70d84973f3b4f77592792652b41374f4474cd28a94f8dc1513": (FIRST_CODE["train"],),
    "f3d0cc05d18aedd3a14ca6c9c72f930e621189608e946720c0fbba3daaa78bae": (FIRST_CODE["train"],),
}
