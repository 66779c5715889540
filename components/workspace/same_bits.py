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
    "f19bfdc4851d818dfc17e3e105144a158d39cbb6a9ce82f19906aaa5bdeb6707": (FIRST_CODE["train"],),
    "1668549947797a38a2002c45fe420f4501b5e6fc478d3885c0b662b47a5811a6": (FIRST_CODE["train"],),
    "b363dd5a167e08fe60539f569968235eb5d072e76ad9efb7342cd05661b7b067": (FIRST_CODE["train"],),
    "ce979b062654452833814c56dd2ba35855b13af8bd9c5fff6b8cb987e3d1dedf": (FIRST_CODE["train"],),
    "22205d0a29f1aae69a40d5b8714784da03a2a18c7cb7ebe4b1233f4de50e0dac": (FIRST_CODE["train"],),
    "dab2229582d738294519fa75d6b62c6d9e02f386d99e95bb5e205c7177936277": (FIRST_CODE["evaluate"],),
    "86eda3b76f80e04724da4fa85ab590927581ddbd6a9cd46ffa18cf241454cb69": (FIRST_CODE["evaluate"],),
    "e6c7f7e467bf7c60019b859b07c6480f0382465923e8bfb03afa42e6d9652b91": (FIRST_CODE["evaluate"],),
    "15101bf3bf628a920a76ef9eff9eaa3b8cbc334ec69b449978df0a2583cc2778": (FIRST_CODE["evaluate"],),
    "c2820896af77464d7e49f16b65a196865407b942a310ed89858c8fef375f2f1f": (FIRST_CODE["evaluate"],),
}
