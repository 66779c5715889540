"""The one place that opens pictures: by their content, of the kinds that are named here, and within limits.

Everything that reads a picture of anybody goes through `opened`: Pillow knows forty kinds, of which some start another
program (PostScript) and many are hardly ever looked at.
"""

from __future__ import annotations

import io
import logging
import warnings
from pathlib import Path

from PIL import Image, UnidentifiedImageError

# MPO comes with JPEG. TGA last: it has no mark at its beginning.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO", "PCX", "TGA")
MAX_PIXELS = 89_478_485
MAX_PIXELS_PER_BYTE = 10_000
# Smaller pictures may be of one colour, and so of a few bytes.
SMALL = 2**20
# Each scan of a progressive JPEG passes over the whole picture; encoders write about ten.
MAX_SCANS = 500
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_HEIC = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
# What begins a picture of a kind that is read; TGA has no mark.
_READ = (
    *(b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\x93NUMPY", b"\0\0\1\0"),
    *(b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51", b"\x0a\0\1", b"\x0a\2\1", b"\x0a\3\1", b"\x0a\5\1"),
)
_AVIF = (b"avif", b"avis")
# What people have and is not read: where its mark stands, the mark, and its name.
_OTHERS = (
    (0, b"%!PS", "PostScript"),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript"),
    (0, b"%PDF", "a PDF"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"<svg", "an SVG drawing"),
    (0, b"<?xml", "an XML document"),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"JXL ", "JPEG XL"),
    (0, b"II\xbc", "JPEG XR"),
    (0, b"DDS ", "a DDS texture"),
    (0, b"BLP", "a BLP texture"),
    (0, b"icns", "an ICNS icon"),
    (0, b"\0\0\2\0", "a cursor"),
    (0, b"qoif", "QOI"),
    (0, b"gimp xcf", "a GIMP document"),
    (0, b"SIMPLE  =", "FITS"),
    (0, b"v/1\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"\x01\xda", "an SGI image"),
    (0, b"\x59\xa6\x6a\x95", "a Sun raster"),
    (0, b"/* XPM */", "an XPM drawing"),
    (0, b"#define", "an XBM drawing"),
    (0, b"\xd7\xcd\xc6\x9a", "a WMF drawing"),
    (0, b"\x89HDF", "HDF5"),
    (0, b"GRIB", "GRIB"),
    (0, b"\x1aE\xdf\xa3", "a film"),
    (4, b"ftyp", "a film"),
    (0, b"PK\x03\x04", "an archive"),
    (0, b"\x1f\x8b", "an archive"),
    (0, b"PAR1", "Parquet"),
)


# Those of them that are pictures, so that a file of theirs is one that cannot be used.
_PICTURES = (
    *("Photoshop", "JPEG", "texture", "icon", "QOI", "GIMP", "FITS", "OpenEXR", "Radiance", "SGI", "raster"),
    "XPM",
)


class NotReadError(ValueError):
    """A file is no picture that is read; the message says why, and what to do if anything can be done."""


def opened(
    source: bytes | Path,
    max_pixels: int = MAX_PIXELS,
    max_pixels_per_byte: int = MAX_PIXELS_PER_BYTE,
    heic: bool = False,
) -> Image.Image:
    """Open a picture by its content; its pixels are decoded later.

    Raises:
        NotReadError: it is no picture of a kind that is read, or unfolds to more than the limits.
        OSError, ValueError, ...: whatever Pillow raises for a damaged file.
    """
    content = source.read_bytes() if isinstance(source, Path) else source
    if not content:
        raise NotReadError("empty file")
    if content.startswith(b"\xff\xd8") and content.count(b"\xff\xda") > MAX_SCANS:
        raise NotReadError(f"a JPEG of more than {MAX_SCANS} scans, which would take hours: save it anew")
    # Pillow's own limit, for what is found while decoding, is twice this number.
    Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        image = Image.open(io.BytesIO(content), formats=(*FORMATS, *_heif(heic)))
    except UnidentifiedImageError:
        raise NotReadError(_not_read(content)) from None
    except Image.DecompressionBombError:
        raise NotReadError("too many pixels to decode safely") from None
    pixels = image.width * image.height
    if pixels > max_pixels:
        raise NotReadError(f"{image.width}x{image.height} pixels are too many to decode safely")
    check_share(pixels, len(content), max_pixels_per_byte)
    return image


def hush() -> None:
    """Let Pillow warn of nothing: limits are told as reasons, and odd metadata are nobody's business.

    For the whole process, as threads share filters.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)


def check_share(pixels: int, size: int, max_pixels_per_byte: int) -> None:
    """Refuse more pixels than so few bytes can tell of.

    Raises:
        NotReadError: it is taken for a bomb.
    """
    if pixels > max(SMALL, max_pixels_per_byte * size):
        raise NotReadError(f"{pixels:,} pixels out of {size:,} bytes are taken for a bomb")


def upright(image: Image.Image) -> Image.Image:
    """Return a picture turned as its metadata say, as browsers do."""
    # A TIFF is turned by this, and says so afterwards.
    image.load()
    turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    return image if turn is None else image.transpose(turn)


def is_picture(head: bytes) -> bool:
    """Whether a file begins as a picture does, also one of a kind that is not read."""
    if head.startswith(_READ) or is_heic(head) or (head[4:8] == b"ftyp" and head[8:12] in _AVIF):
        return True
    if head.startswith(b"RIFF"):
        return head[8:12] == b"WEBP"
    if head.startswith(b"BM"):
        return head[6:10] == bytes(4)
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3] in b" \t\r\n#":
        return True
    name = _other_kind(head)
    return any(word in name for word in _PICTURES)


def is_heic(content: bytes) -> bool:
    """Whether a file says that it is HEIC."""
    return content[4:8] == b"ftyp" and content[8:12] in _HEIC


def reads_heic() -> bool:
    """Whether the package that reads HEIC is installed."""
    try:
        import pillow_heif  # noqa: F401
    except ImportError:
        return False
    return True


def _heif(heic: bool) -> tuple[str, ...]:
    if not heic:
        return ()
    if "HEIF" not in Image.OPEN:
        try:
            import pillow_heif
        except ImportError:
            raise NotReadError("HEIC is read by a package that is not installed: pip install 'ganflow[heic]'") from None
        pillow_heif.register_heif_opener()
    return ("HEIF",)


def _not_read(content: bytes) -> str:
    if is_heic(content):
        return (
            "HEIC is not read as it is: install the extra `heic` and set preprocess.heic: true, or convert it to JPEG"
        )
    if content.startswith(b"version https://git-lfs"):
        return "it only stands for a file of Git LFS: fetch that by git lfs pull"
    name = _other_kind(content)
    return f"{name} is not read: convert it to PNG or JPEG" if name else "not an image"


def _other_kind(content: bytes) -> str:
    """Return what a file is that is not read; empty where that is not known."""
    return next((name for place, mark, name in _OTHERS if content[place : place + len(mark)] == mark), "")
