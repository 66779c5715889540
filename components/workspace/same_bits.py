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
    "4cf0189ca309d305beec61f2d9597c390294364e9792676fe8346c16acde6927": (FIRST_CODE["train"],),
    "0df8c47398cbeaf942b70d869265670d7dbb4d4084d2f2c539de9fa52d5e2b96": (FIRST_CODE["train"],),
    "93663024a27ea0c30be5dd4a4cc87d7ef1702d753c3db0191e5fa5c249b758f8": (FIRST_CODE["train"],),
    "374c9806ed28ca8f773c45d1445d61bf19c1178d30925f9f7e5df7d2e427db6d": (FIRST_CODE["train"],),
    "95164474efabc54b94381e8b23d685f3a0187533cc53c43d378fdaaaad4103b5": (FIRST_CODE["train"],),
    "739adf601f95428adfd6a3cad47adc2c3f8fa6357319749ce49e8c7a8d8d1160": (FIRST_CODE["evaluate"],),
    "ad5ba9e93ce38813d5b2629078590eda46e91808d39f44c64a223007d8080fc0": (FIRST_CODE["evaluate"],),
    "2e682406c7f338d06c472fdc2fb3386460489480ef58668d03c4f049614be71b": (FIRST_CODE["evaluate"],),
    "8f49e17966a37ef5d5322d16db1e9cec9c4ad9d76769353f48b7a71867f3033f": (FIRST_CODE["evaluate"],),
    "c7226ad76545e9b178b20d7816e3f9cd8da490953963952f574e7890423eedae": (FIRST_CODE["evaluate"],),
}
