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
    "b1d7e083d81dff88afc301d574e895de7637615528c43ed5bc078d2208402f28": (FIRST_CODE["train"],),
    "e88b5aef90fce0a8463cbd4a39f6024f1cbad59fadbc4220291d24390a70e019": (FIRST_CODE["train"],),
    "946b7cddba393ef31ecf53efe2c94861dde1de74685798a782aee74aefc3e78d": (FIRST_CODE["train"],),
    "73257ad168cd10519b091cda4c70095bbf53415b38a084cea4c21f1732d0bdce": (FIRST_CODE["train"],),
    "e7757ff0cc0023caf0c322dd245a99afdb7646e5dff930a4f3e6bd9cccb51ad1": (FIRST_CODE["train"],),
    "2c6dda77f4768b9529928b4abae9754f7c41daa6f0b096b89ad10fd174a45820": (FIRST_CODE["evaluate"],),
    "eddefe7301034882f124c0fefed0e91e9b4c58ee2b52908da079ab4b2bbf6434": (FIRST_CODE["evaluate"],),
    "a1b2304604cb567939c0d13bd1033ecadfe089f7ad8ecf358f20c37bc5860c4c": (FIRST_CODE["evaluate"],),
    "df35896043a606db2a9e5512f852891a40eae30e4df93d1cc914e2e78ba0612c": (FIRST_CODE["evaluate"],),
    "dead214ecf98c7c834efdc54a95900831c3c234edd1f38590ceaac0fd84385c2": (FIRST_CODE["evaluate"],),
}
