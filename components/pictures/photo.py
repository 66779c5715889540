"""A photo that is to be changed: its pixels as networks take them, and all else that is to be kept of it."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms
from PIL.ExifTags import IFD, Base

from .opening import NotReadError, opened, upright

Pixels = npt.NDArray[np.uint8]
MAX_TEXT = 2**20
# Programs write previews there, which show what the picture was before.
_PREVIEWS = (0x927C, 0xC4A5, 34377, 37724)
# How a TIFF lays out its own pixels, its profile and its XMP are among what it has for EXIF.
_LAYOUT = frozenset(
    (
        *(*range(254, 260), 262, 266, 273, *range(277, 282), 284, *range(290, 294), 297, 301, *range(317, 326)),
        *(330, 332, 334, *range(336, 342), 347, *range(512, 522), *range(529, 533), 700, 34675),
    )
)


@dataclass
class Photo:
    """An upright photo: `colours` (H, W, 1 or 3), `alpha` (H, W) where any of it is transparent, and what is kept.

    `said` is what was changed or guessed to read it, in half sentences.
    """

    colours: Pixels
    alpha: Pixels | None
    format: str
    lossless: bool
    profile: bytes | None = None
    exif: Image.Exif | None = None
    resolution: tuple[float, float] | None = None
    text: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.colours.shape[0], self.colours.shape[1]


def read_photo(content: bytes, max_pixels: int, frames: Literal["only", "first"] = "only", heic: bool = False) -> Photo:
    """Read a photo with all that is to be kept of it.

    Raises:
        NotReadError: it is no picture that is read, has too many pixels, or is animated and `frames` is `only`.
        OSError, ValueError, ...: whatever Pillow raises for a damaged file.
    """
    said: list[str] = []
    with opened(content, max_pixels, heic=heic) as image:
        # The second picture of an MPO is a preview, or another eye's.
        count = getattr(image, "n_frames", 1)
        if count > 1 and image.format != "MPO":
            if frames == "only":
                raise NotReadError(f"it has {count} frames or pages: --frames first takes the first of them")
            said.append(f"the first of {count} frames")
        form = "JPEG" if image.format == "MPO" else image.format or "PNG"
        kept = Photo(
            np.empty((0, 0, 1), np.uint8),
            None,
            form,
            _is_lossless(content, form),
            profile=image.info.get("icc_profile"),
            resolution=image.info.get("dpi"),
            text=_text_of(image),
            said=said,
        )
        kept.colours, kept.alpha = _pixels_of(upright(image), kept)
        # Only now, for it says how the photo is turned.
        kept.exif = _exif_of(image)
    return kept


def _pixels_of(image: Image.Image, kept: Photo) -> tuple[Pixels, Pixels | None]:
    image.load()
    if image.mode == "F":
        raise NotReadError("its pixels are floating-point numbers, whose range is unknown: save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise NotReadError("its pixels are integers beyond 16 bits: save it with 8 or 16 bits")
        kept.said.append("the result has 8 bits, not 16")
        image = Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))
    if image.mode in ("CMYK", "LAB", "YCbCr", "HSV"):
        image = _in_srgb(image, kept)
    if image.has_transparency_data or image.mode in ("LA", "PA", "La", "RGBa"):
        whole = image.convert("RGBA")
        alpha = np.asarray(whole.getchannel("A"))
        grey = image.mode in ("L", "LA", "La", "1")
        colours = np.asarray(whole.convert("RGB"))[:, :, : 1 if grey else 3]
        return _bled(colours, alpha), None if (alpha == 255).all() else alpha
    return np.atleast_3d(np.asarray(image.convert("L" if image.mode in ("L", "1") else "RGB"))), None


def _in_srgb(image: Image.Image, kept: Photo) -> Image.Image:
    """Convert a picture of inks, or of another space, by its profile if it has one."""
    profile, mode = kept.profile, image.mode
    kept.profile = None
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            made = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            assert made is not None
        except (ImageCms.PyCMSError, OSError):
            kept.said.append(f"its {mode} colours became sRGB without its profile, which is damaged")
        else:
            kept.said.append(f"its {mode} colours became sRGB by its profile")
            return made
    else:
        kept.said.append(f"its {mode} colours became sRGB without a profile, which may change them")
    return image.convert("RGB")


def _bled(colours: Pixels, alpha: Pixels) -> Pixels:
    """Give what cannot be seen the colour of the nearest pixel that can: networks look at it too."""
    if alpha.all() or not alpha.any():
        return colours
    from scipy.ndimage import distance_transform_edt  # type: ignore[import-untyped]

    nearest = distance_transform_edt(alpha == 0, return_distances=False, return_indices=True)
    bled: Pixels = colours[nearest[0], nearest[1]]
    return bled


def _exif_of(image: Image.Image) -> Image.Exif | None:
    """Return the photo's EXIF, upright and without small copies of what it shows; None without any."""
    exif = image.getexif()
    if not exif:
        return None
    exif[Base.Orientation] = 1
    for tag in (*_PREVIEWS, *_LAYOUT):
        exif.pop(tag, None)
    details = exif.get_ifd(IFD.Exif)
    for tag in (*_PREVIEWS, Base.ExifImageWidth, Base.ExifImageHeight):
        details.pop(tag, None)
    # Pillow reads the small copy's folder, but writes none.
    return exif


def _text_of(image: Image.Image) -> dict[str, str]:
    """Return the text chunks of a PNG, without those that say what programs made of it, and previews."""
    found = getattr(image, "text", {}) if image.format == "PNG" else {}
    return {
        name: str(value)
        for name, value in found.items()
        if not name.startswith(("XML:", "ganflow:", "Raw profile", "Thumb")) and len(value) <= MAX_TEXT
    }


def _is_lossless(content: bytes, form: str) -> bool:
    if form == "WEBP":
        return b"VP8L" in content[:64]
    return form not in ("JPEG", "JPEG2000", "AVIF", "HEIF")
