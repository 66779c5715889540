"""Good pictures of every kind, and how they are read."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from components.ingest.decoding import decoded, look
from components.pictures.opening import reads_heic
from components.provenance.picture import read_picture
from components.workspace.params import Limits, Preprocess
from components.workspace.text import printable

# So that a bomb that gets through costs the fuzzing little.
LIMITS = Limits(file_bytes=2**22, pixels=2**20, entries=5_000)
OPTIONS = Preprocess(resolution=8, frames="all", heic=reads_heic(), limits=LIMITS)


def picture(number: int, mode: str = "RGB", size: tuple[int, int] = (16, 12)) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).convert(mode)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _of(kind: str, *variants: tuple[str, dict[str, Any]]) -> Callable[[], Sequence[bytes]]:
    return lambda: [saved(picture(i, mode), kind, **options) for i, (mode, options) in enumerate(variants)]


def _frames(mode: str = "RGB") -> dict[str, Any]:
    return {"save_all": True, "append_images": [picture(9, mode), picture(10, mode)]}


def npy() -> Sequence[bytes]:
    made = []
    for array in (np.zeros((9, 8), np.uint8), np.ones((5, 6, 3), "<u2"), np.zeros((4, 4, 2), ">u2"), np.zeros(3)):
        buffer = io.BytesIO()
        np.save(buffer, array)
        made.append(buffer.getvalue())
    return made


def _exif() -> dict[str, Any]:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x011A] = 6, "words", (72, 1)
    return {"exif": exif}


def read_image(content: bytes, folder: Path) -> None:
    """As preprocessing, `ganflow init` and `ganflow trace` do."""
    for options in (OPTIONS, OPTIONS.model_copy(update={"frames": "first", "channels": 4})):
        for made in decoded(content, options):
            assert isinstance(made, str) or made.pixels.shape[:2] == (8, 8)
            assert not isinstance(made, str) or (made and printable(made) == made)
    look(content, OPTIONS)
    (folder / "picture.png").write_bytes(content)
    read_picture(folder / "picture.png")


PICTURES: dict[str, Callable[[], Sequence[bytes]]] = {
    "PNG": _of(
        "PNG", ("RGB", {}), ("P", {}), ("RGBA", {"compress_level": 0}), ("I;16", {}), ("1", {}), ("RGB", _frames())
    ),
    "JPEG": _of("JPEG", ("RGB", {}), ("L", {}), ("CMYK", {}), ("RGB", {"progressive": True}), ("RGB", _exif())),
    "WebP": _of("WEBP", ("RGB", {}), ("RGBA", {"lossless": True}), ("RGB", _frames())),
    "GIF": _of("GIF", ("P", {}), ("L", {}), ("P", _frames("P"))),
    "TIFF": _of(
        "TIFF",
        *(("RGB", {}), ("1", {"compression": "group4"}), ("RGB", {"compression": "tiff_lzw"}), ("I;16", {})),
        *(("RGB", {"compression": "jpeg"}), ("RGB", {"compression": "tiff_adobe_deflate"}), ("RGB", _frames())),
    ),
    "BMP": _of("BMP", ("RGB", {}), ("P", {}), ("1", {})),
    "PPM": _of("PPM", ("RGB", {}), ("L", {}), ("1", {})),
    "AVIF": _of("AVIF", ("RGB", {}), ("RGBA", {}), ("RGB", _frames())),
    "JPEG 2000": _of("JPEG2000", ("RGB", {}), ("L", {}), ("RGB", {"no_jp2": True})),
    "MPO": _of("MPO", ("RGB", _frames())),
    "ICO": _of("ICO", ("RGBA", {}), ("RGBA", {"bitmap_format": "bmp"})),
    "TGA": _of("TGA", ("RGB", {}), ("L", {}), ("RGBA", {"compression": "tga_rle"})),
    "PCX": _of("PCX", ("RGB", {}), ("L", {}), ("1", {})),
    "npy": npy,
}


def heic() -> Sequence[bytes]:
    import pillow_heif

    pillow_heif.register_heif_opener()
    return [saved(picture(1, size=(64, 64)), "HEIF"), saved(picture(2, "L", size=(64, 64)), "HEIF")]
