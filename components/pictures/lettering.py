"""Text in pictures, in a font that has its letters."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from PIL import ImageFont

# Latin, Cyrillic, Greek, Arabic and more; it comes with a package, so that it is the same on every machine.
_PLAIN = Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")


class Lettering(NamedTuple):
    """A font, and texts that it can write: where no font has the letters of one, its number stands in its place."""

    font: ImageFont.FreeTypeFont
    texts: list[str]


def lettering(texts: Sequence[str], size: int) -> Lettering:
    """Choose a font for `texts` of `size` pixels: the one that is everywhere, else one of this machine."""
    wanted = {letter for text in texts for letter in text if not _is_space(letter)}
    best, most = _PLAIN, _written(_PLAIN, wanted)
    if len(most) < len(wanted):
        for path in _installed():
            if len(found := _written(path, wanted)) > len(most):
                best, most = path, found
            if len(most) == len(wanted):
                break
    missing = wanted - most
    if missing:
        print(
            f"the contact sheet numbers {sum(bool(missing & {*text}) for text in texts)} classes, because no font here "
            "has their letters: install one, such as Debian's fonts-noto-cjk",
            file=sys.stderr,
        )
    shown = [f"class {number}" if missing & {*text} else text for number, text in enumerate(texts)]
    return Lettering(ImageFont.truetype(best, size), shown)


def _is_space(letter: str) -> bool:
    # Joiners and variation selectors have no picture of their own.
    return letter.isspace() or unicodedata.category(letter) in ("Cf", "Mn")


def _written(font: Path, letters: set[str]) -> set[str]:
    """Return those letters that a font has."""
    return {letter for letter in letters if ord(letter) in _letters(font)}


@cache
def _letters(font: Path) -> frozenset[int]:
    try:
        return frozenset(FT2Font(str(font)).get_charmap())
    except (OSError, RuntimeError, ValueError):
        return frozenset()


@cache
def _installed() -> tuple[Path, ...]:
    """Fonts of this machine, plain ones first."""
    return tuple(sorted(_fonts(), key=lambda path: ("regular" not in path.name.lower(), str(path))))


def _fonts() -> Iterator[Path]:
    for found in font_manager.findSystemFonts():
        path = Path(found)
        # Pillow draws no bitmaps of colour fonts at other sizes than theirs.
        if path.suffix.lower() in (".ttf", ".ttc", ".otf") and "emoji" not in path.name.lower():
            yield path
