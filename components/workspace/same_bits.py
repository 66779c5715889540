"""Earlier code that made the same bits as the present one, so that nothing it made has to be made again.

`benchmarks/same_bits.py` shows it for two commits. An entry is of one code alone: when that changes, another hash is
asked for, and the entry is to be renewed, if that makes the same bits too, or removed.
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
    "545a655487d3d4d171e32d0e8eac8195428d2c5ec14cc21d1e9e37ba37906813": (FIRST_CODE["train"],),
    "9ca36d3095916bc2f9fc2967c74d2356ac021622261d418d6c5688351429c7df": (FIRST_CODE["train"],),
    "a5f927ce8bc17146fb75d96d02f99128e50a178f623323ae9ea70cdd3673c212": (FIRST_CODE["train"],),
    "e446deb3c467b559301cb455a741a71b59abf3377efeb5dddcf5a1c1b7d6a7b7": (FIRST_CODE["train"],),
    "2a71529ae0121013d0ee1261a70db5a05dacfaf10386c067f2319267f0c4aca2": (FIRST_CODE["train"],),
    "0e0199b5a7eb15d6ea2f5cc8db8ca65417a78b92b5a326d7f2bd922629844b9b": (FIRST_CODE["evaluate"],),
    "10840c4bf00baa2eaa1a020aba7b1d716db981b583a217dcf4f72f2a46ccd021": (FIRST_CODE["evaluate"],),
    "3fb489331db44bb679450de657d5010217d0330658543d15487118d561529a6c": (FIRST_CODE["evaluate"],),
    "572bba85034874ff11da1dbb0613b613311a0660de56a45d6ad16e25566bdf61": (FIRST_CODE["evaluate"],),
    "d640ab23727d897d97f270930d204ebcbe006855e25c264bfdf7e13d20b14d52": (FIRST_CODE["evaluate"],),
}
