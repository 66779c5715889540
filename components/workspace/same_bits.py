"""Earlier code that made the same bits as the present one, so that nothing it made has to be made again.

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
    "evaluate": "965df77a8730ab9b69872abb1e7066819f3f52ec52ed852012d680c2874db216",
}
# Hash of the present code: hashes of earlier code that makes the same.
SAME_BITS: Mapping[str, tuple[str, ...]] = {
    "b74a0f8a9d0c1d7ea79d3b1a6fede7d7e5b25ff651d900484afba72b14387d2c": (FIRST_CODE["preprocess"],),
    "2cbde8bc152417033edf21a9283e2b1be63d41663e254076781096023df004cd": (FIRST_CODE["train"],),
    "0df7c52c4a02d4da35b7923a7eb0cd4e54f9022bdd5087bfe65b6b9d9489a206": (FIRST_CODE["train"],),
    "1205816209d043eefb7d9f2c411c94609900cafe58269a35db48d11ffdb54e4d": (FIRST_CODE["train"],),
    "74c177d162a3dff39a81c3dce7b4b24e2a4d50d5f120dd178a652a845a7bc590": (FIRST_CODE["train"],),
    "47471acad8d1667e89cb6989ee9624330b0caa0862d3f161db395c46100898c9": (FIRST_CODE["train"],),
    "38c6a22eef26cf7823b6a2fe1e79a47afa40304daea75fc6bcea4a445061367b": (FIRST_CODE["evaluate"],),
    "deea75e0a770e44cc5046a2b735c8c9c3e93acd1c33c4605d5827e669083d86e": (FIRST_CODE["evaluate"],),
    "2cb4879f4bcdbde4688451455dcec7c6b5c4037c8a835f39ade80228d16702c3": (FIRST_CODE["evaluate"],),
    "e5165b1eea43e9f55365844fa769df07e519e7dd9daec816b78511453b850960": (FIRST_CODE["evaluate"],),
    "234f38eff542e80400139d8bf0552813f8e61bd31fafae0266ac6d7506e0b4ef": (FIRST_CODE["evaluate"],),
}
