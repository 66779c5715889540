"""The same emoji drawn by two houses: Noto's and Fluent's, of equal names in two folders, with splits."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from .conversions import members

_NOTO, _FLUENT = "package/img/google/64/", "package/assets/"
# Share of the emoji that are held out.
_HELD_OUT = 0.15
# What tells apart emoji that are drawn nearly the same: which person it is, the sign of a gender, the way it is shown.
_VARIANTS = {"1f468": "1f9d1", "1f469": "1f9d1"}
_SIGNS = re.compile(r"-(200d-)?(2640|2642)\b|-fe0f\b")


def emoji_pairs(files: Sequence[Path], out: Path) -> None:
    """Write `<split>/noto/<code points>.png` and `<split>/fluent/<code points>.webp`, unchanged, of what both have.

    Skin tones are left out. Which split an emoji stands in follows from its code points, alike for men, women and
    persons who do the same.
    """
    noto, fluent = files
    described = json.loads(members(noto, {"package/emoji.json"})["package/emoji.json"])
    codes = [str(entry["unified"]).lower() for entry in described if entry["category"] != "Component"]
    if wrong := [code for code in codes if not re.fullmatch(r"[0-9a-f-]+", code)]:
        raise ValueError(f"{wrong[0]!r} is no sequence of code points")
    drawn = members(fluent, {f"{_FLUENT}{code}.webp" for code in codes})
    both = [code for code in codes if f"{_FLUENT}{code}.webp" in drawn]
    images = members(noto, {f"{_NOTO}{code}.png" for code in both})
    for code in tqdm(both, desc="emoji", unit="pair", disable=None, leave=False):
        for name, content in (
            (f"noto/{code}.png", images[f"{_NOTO}{code}.png"]),
            (f"fluent/{code}.webp", drawn[f"{_FLUENT}{code}.webp"]),
        ):
            file = out / _split(code) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)


def _split(code: str) -> str:
    same = "-".join(_VARIANTS.get(point, point) for point in _SIGNS.sub("", code).split("-"))
    drawn = int.from_bytes(hashlib.sha256(same.encode()).digest()[:8], "big") / 2**64
    return "test" if drawn < _HELD_OUT else "train"
