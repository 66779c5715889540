"""Pictures side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..gan.dataset import Pixels, to_image

if TYPE_CHECKING:
    from PIL import Image

GAP = 6
BACKGROUND = (22, 23, 26)


def tile_size(pixels: Pixels, target: int) -> tuple[int, int]:
    """(width, height) enlarged by the largest whole factor that stays within `target`, or reduced to it."""
    height, width = pixels.shape[:2]
    longer = max(height, width)
    scale = target // longer if longer <= target else target / longer
    return max(1, round(width * scale)), max(1, round(height * scale))


def tile(pixels: Pixels, size: tuple[int, int]) -> Image.Image:
    """Return a picture of `size`: crisp where enlarged by a whole factor, Lanczos where reduced."""
    from PIL import Image

    image = to_image(pixels)
    crisp = size[0] % image.width == 0
    return image.resize(size, Image.Resampling.NEAREST if crisp else Image.Resampling.LANCZOS)


def paste(sheet: Image.Image, pixels: Pixels, size: tuple[int, int], at: tuple[int, int]) -> None:
    """Put a picture on `sheet`, alpha respected."""
    image = tile(pixels, size)
    sheet.paste(image, at, image if image.mode == "RGBA" else None)


def grid(pictures: Sequence[Pixels], columns: int, size: tuple[int, int], gap: int = GAP) -> Image.Image:
    """Pictures in rows of `columns`, each of `size`, with gaps between them and around."""
    from PIL import Image

    step_x, step_y = size[0] + gap, size[1] + gap
    sheet = Image.new("RGB", (columns * step_x + gap, -(-len(pictures) // columns) * step_y + gap), BACKGROUND)
    for cell, pixels in enumerate(pictures):
        row, column = divmod(cell, columns)
        paste(sheet, pixels, size, (gap + column * step_x, gap + row * step_y))
    return sheet
