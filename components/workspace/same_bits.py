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
    "9708fbad330000294227728751c4abb097faeb2bc5f191adbc9869b7bee863b7": (FIRST_CODE["train"],),
    "5c43000745824a5b5bc60d7547d42680aca66340cdbb6837deaaefbcaaf3f5f6": (FIRST_CODE["train"],),
    "882722fd8a6ddff5dd82ee94d39933d52676c8d4361e94bcbb8ffa2682c9aace": (FIRST_CODE["train"],),
    "80ebb29835ab067b225356039d6e78ae7b247bc9d84228d63c3ff0d49ebf70c2": (FIRST_CODE["train"],),
}
