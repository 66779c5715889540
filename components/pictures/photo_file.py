"""The file of a photo that was changed: in the format of the photo, with what was kept of it and IPTC's mark."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageCms

from . import metadata
from .photo import Photo, Pixels

Format = Literal["same", "png", "jpeg", "webp"]
_ENDINGS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "TIFF": "tif", "BMP": "bmp"}
_QUALITY = 95
_XMP_TAG = 700


def format_of(photo: Photo, wanted: Format, exact: bool) -> tuple[str, str]:
    """Return the format of the result, and why it is another one than the photo's, empty where it is not.

    `exact`: some pixels are to stay as they are, to the bit, which lossy formats cannot promise.
    """
    if wanted != "same":
        lossy = exact and wanted == "jpeg"
        return wanted.upper(), "JPEG changes pixels that were to stay as they are" if lossy else ""
    if exact and not photo.lossless:
        return "PNG", "written as PNG: the photo's own format would change pixels that stay as they are"
    if photo.format == "JPEG" and photo.alpha is not None:
        return "PNG", "written as PNG: the result is transparent, which a JPEG cannot be"
    if photo.format not in _ENDINGS:
        return "PNG", f"written as PNG: {photo.format} is read, and not written"
    return photo.format, ""


def ending_of(form: str) -> str:
    """Return the ending of files of this format."""
    return _ENDINGS[form]


def encoded(
    photo: Photo, colours: Pixels, form: str, facts: Mapping[str, str], source: str, keep: bool = True
) -> bytes:
    """Return the file of a result (H, W, 1 or 3) of `photo`, with its transparency, profile, EXIF, resolution and text.

    `facts` and `source` (a term of IPTC's) mark it; without `keep` nothing but the mark and the profile is written.
    """
    image = _with_alpha(photo, colours)
    if form == "JPEG" and image.mode in ("RGBA", "LA"):
        background = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(background, image.convert("RGBA")).convert("RGB")
    options: dict[str, Any] = {}
    if profile := _profile(photo, colours):
        options["icc_profile"] = profile
    if keep and photo.exif is not None:
        options["exif"] = photo.exif
    if keep and photo.resolution and form != "WEBP":
        options["dpi"] = photo.resolution
    if form == "PNG":
        options["pnginfo"] = metadata.png_text(facts, source, photo.text if keep else {})
    elif form == "TIFF":
        # XMP is a tag there, among those of EXIF.
        tags = options.get("exif") or Image.Exif()
        tags[_XMP_TAG] = metadata.xmp(facts, source)
        options |= {"compression": "tiff_deflate", "exif": tags}
    elif form != "BMP":
        options["xmp"] = metadata.xmp(facts, source)
    if form == "JPEG":
        options |= {"quality": _QUALITY, "subsampling": 0}
    elif form == "WEBP":
        options |= {"lossless": True} if photo.lossless else {"quality": _QUALITY}
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _with_alpha(photo: Photo, colours: Pixels) -> Image.Image:
    image = Image.fromarray(colours[:, :, 0] if colours.shape[2] == 1 else colours)
    if photo.alpha is None:
        return image
    alpha = Image.fromarray(photo.alpha)
    if alpha.size != image.size:
        alpha = alpha.resize(image.size, Image.Resampling.LANCZOS)
    image = image.convert("LA" if image.mode == "L" else "RGBA")
    image.putalpha(alpha)
    return image


def _profile(photo: Photo, colours: Pixels) -> bytes | None:
    """Return the photo's profile, or sRGB's where it says nothing of the result's colours."""
    if photo.profile is None:
        return None
    if colours.shape[2] == photo.colours.shape[2]:
        return photo.profile
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def on_white(pixels: Pixels) -> Pixels:
    """Return RGBA pixels (H, W, 4) as RGB (H, W, 3), laid on white."""
    image = Image.fromarray(pixels)
    return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"))


def side_by_side(before: Pixels, after: Pixels) -> bytes:
    """Return a PNG of both, the first one as large as the second, pixel by pixel."""
    height, width = after.shape[:2]
    images = [Image.fromarray(each[:, :, 0] if each.shape[2] == 1 else each).convert("RGB") for each in (before, after)]
    sheet = Image.new("RGB", (2 * width, height))
    sheet.paste(images[0].resize((width, height), Image.Resampling.NEAREST), (0, 0))
    sheet.paste(images[1], (width, 0))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def mask_of(content: bytes, size: tuple[int, int], grow: int) -> Pixels:
    """Return a mask (H, W) of 0 and 1: what is at least half white is repainted, and `grow` pixels around it.

    Raises:
        ValueError: it is of another size.
        NotReadError, OSError, ...: it is no picture that can be read.
    """
    from PIL import ImageFilter

    from .opening import opened, upright

    with opened(content) as image:
        # What is transparent in it is white or black all the same.
        plain = upright(image).convert("RGBA").convert("RGB").convert("L")
    if (plain.height, plain.width) != size:
        raise ValueError(f"its mask is {plain.width}x{plain.height}, and it is {size[1]}x{size[0]}: make them one size")
    holes = plain.point([255 if level >= 128 else 0 for level in range(256)])
    if grow:
        # Of one side after the other it is the same, and takes no square of them.
        holes = holes.filter(ImageFilter.MaxFilter(2 * grow + 1))
    return (np.asarray(holes) > 0).astype(np.uint8)
