"""Photos that are changed keep what they are: orientation, colours, transparency, profile, EXIF, text."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps
from PIL.ExifTags import IFD, Base

from components.pictures import metadata
from components.pictures.opening import NotReadError
from components.pictures.photo import read_photo
from components.pictures.photo_file import encoded, format_of, mask_of, side_by_side

COLOURS = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
FACTS = {"model": "key", "task": "restore"}


def saved(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def again(content: bytes, form: str | None = None, mark: str = metadata.ENHANCED, keep: bool = True) -> Image.Image:
    """Read a photo and write it unchanged."""
    photo = read_photo(content, 10**6)
    image = Image.open(
        io.BytesIO(encoded(photo, photo.colours, form or format_of(photo, "same", False)[0], FACTS, mark, keep))
    )
    image.load()
    return image


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_and_its_tag_set(orientation: int) -> None:
    exif = Image.Exif()
    exif[Base.Orientation], exif[Base.Make] = orientation, "Camera"
    content = saved(Image.fromarray(COLOURS), "TIFF" if orientation == 2 else "PNG", exif=exif)
    made = again(content)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    assert (np.asarray(made.convert("RGB")) == np.asarray(upright.convert("RGB"))).all()
    assert made.getexif()[Base.Orientation] == 1 and made.getexif()[Base.Make] == "Camera"


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_profile_exif_and_resolution_are_kept_and_the_mark_is_there(form: str) -> None:
    exif = Image.Exif()
    exif[Base.Artist] = "Somebody"
    exif.get_ifd(IFD.Exif)[Base.ISOSpeedRatings] = 100
    exif.get_ifd(IFD.Exif)[Base.MakerNote] = b"a preview of what was there"
    options: dict[str, Any] = {} if form == "WEBP" else {"dpi": (300, 300)}
    content = saved(Image.fromarray(COLOURS), form, exif=exif, icc_profile=SRGB, **options)
    made = again(content)
    assert made.format == form and made.info["icc_profile"] == SRGB
    assert made.getexif()[Base.Artist] == "Somebody"
    details = made.getexif().get_ifd(IFD.Exif)
    # Pillow writes no details into a TIFF that has none yet.
    assert form == "TIFF" or details[Base.ISOSpeedRatings] == 100
    assert Base.MakerNote not in details
    if form != "WEBP":
        assert made.info["dpi"] == pytest.approx((300, 300), abs=1)
    assert metadata.ENHANCED.encode() in saved_bytes(made, content)
    stripped = again(content, keep=False)
    assert Base.Artist not in stripped.getexif() and stripped.info["icc_profile"] == SRGB


def saved_bytes(_: Image.Image, content: bytes) -> bytes:
    photo = read_photo(content, 10**6)
    return encoded(photo, photo.colours, photo.format, FACTS, metadata.ENHANCED)


def test_small_copies_of_what_was_there_are_dropped() -> None:
    exif = Image.Exif()
    exif[Base.Make] = "Camera"
    thumbnail = saved(Image.new("RGB", (16, 16), "red"), "JPEG")
    # As cameras write it: a second folder of EXIF with a JPEG in it.
    block = bytearray(b"Exif\0\0" + exif.tobytes()[6:])
    at = block.index(b"\0\0\0\0", 6 + 8 + 2)
    folder_at = len(block) - 6
    block[at : at + 4] = folder_at.to_bytes(4, "little" if block[6:8] == b"II" else "big")
    order = "little" if block[6:8] == b"II" else "big"
    entries = ((0x0201, 4, 1, folder_at + 2 + 24 + 4), (0x0202, 4, 1, len(thumbnail)))
    block += (2).to_bytes(2, order)
    for tag, kind, count, value in entries:
        block += tag.to_bytes(2, order) + kind.to_bytes(2, order) + count.to_bytes(4, order) + value.to_bytes(4, order)
    block += b"\0\0\0\0" + thumbnail
    content = saved(Image.fromarray(COLOURS), "JPEG", exif=bytes(block))
    assert thumbnail in content
    photo = read_photo(content, 10**6)
    made = encoded(photo, photo.colours, "JPEG", FACTS, metadata.COMPOSITE)
    assert thumbnail not in made and made.count(b"\xff\xd8\xff") == 1
    assert Image.open(io.BytesIO(made)).getexif()[Base.Make] == "Camera"


def test_texts_of_a_png_stay_and_marks_of_others_go() -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Description", "at the sea")
    info.add_itxt("Titel", "Öresund 海")
    info.add_text("ganflow:model", "forged")
    made = again(saved(Image.fromarray(COLOURS), pnginfo=info))
    assert made.info["Description"] == "at the sea" and made.info["Titel"] == "Öresund 海"
    assert made.info["ganflow:model"] == "key"


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_transparency_stays(mode: str) -> None:
    rgba = Image.fromarray(np.dstack((COLOURS // 64 * 64, np.arange(600).reshape(20, 30).astype(np.uint8))))
    image = {
        "RGBA": lambda: rgba,
        "LA": lambda: rgba.convert("LA"),
        "PA": lambda: rgba.convert("P").convert("PA"),
        "P": lambda: rgba.quantize(200),
    }[mode]()
    content = saved(image, "TIFF" if mode == "PA" else "PNG")
    wanted = np.asarray(Image.open(io.BytesIO(content)).convert("RGBA"))
    made = np.asarray(again(content).convert("RGBA"))
    assert (made[:, :, 3] == wanted[:, :, 3]).all()
    seen = wanted[:, :, 3] > 0
    assert (made[seen] == wanted[seen]).all()


def test_colours_under_what_cannot_be_seen_are_those_beside_it() -> None:
    pixels = np.zeros((4, 6, 4), np.uint8)
    pixels[:, :3] = (200, 10, 20, 255)
    photo = read_photo(saved(Image.fromarray(pixels)), 100)
    assert (
        (photo.colours == (200, 10, 20)).all()
        and photo.alpha is not None
        and photo.alpha[0].tolist() == [255] * 3 + [0] * 3
    )


def test_inks_become_srgb_and_it_is_said() -> None:
    image = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    photo = read_photo(saved(image, "JPEG"), 100)
    assert photo.colours.shape == (4, 4, 3) and "without a profile" in photo.said[0]
    broken = read_photo(saved(image, "JPEG", icc_profile=b"not a profile"), 100)
    assert "damaged" in broken.said[0] and broken.profile is None


def test_sixteen_bits_become_eight_and_it_is_said() -> None:
    photo = read_photo(saved(Image.fromarray(np.full((3, 3), 257 * 77, np.uint16))), 100)
    assert (photo.colours == 77).all() and photo.said == ["the result has 8 bits, not 16"]


def test_what_cannot_be_read_is_refused() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    animated = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(NotReadError, match="2 frames or pages: --frames first"):
        read_photo(animated, 100)
    assert (read_photo(animated, 100, "first").colours == (255, 0, 0)).all()
    with pytest.raises(NotReadError, match="too many"):
        read_photo(saved(Image.new("L", (40, 40))), 1_000)
    with pytest.raises(NotReadError, match="floating-point"):
        read_photo(saved(Image.new("F", (4, 4)), "TIFF"), 100)
    with pytest.raises(NotReadError):
        read_photo(b"", 100)


def test_formats_follow_the_photo_unless_that_would_break_a_promise() -> None:
    jpeg = read_photo(saved(Image.fromarray(COLOURS), "JPEG"), 10**6)
    gif = read_photo(saved(Image.fromarray(COLOURS[:, :, 0]), "GIF"), 10**6)
    lossy, whole = (read_photo(saved(Image.fromarray(COLOURS), "WEBP", lossless=it), 10**6) for it in (False, True))
    assert format_of(jpeg, "same", False) == ("JPEG", "")
    assert format_of(jpeg, "same", True)[0] == "PNG" and "stay as they are" in format_of(jpeg, "same", True)[1]
    assert format_of(jpeg, "jpeg", True)[0] == "JPEG" and format_of(jpeg, "jpeg", True)[1]
    assert (format_of(lossy, "same", True)[0], format_of(whole, "same", True)[0]) == ("PNG", "WEBP")
    assert format_of(gif, "same", False)[0] == "PNG" and "GIF" in format_of(gif, "same", False)[1]
    exact = Image.open(io.BytesIO(encoded(whole, whole.colours, "WEBP", FACTS, metadata.COMPOSITE)))
    assert (np.asarray(exact) == COLOURS).all()


def test_a_mask_is_half_white_and_grows() -> None:
    pixels = np.zeros((9, 9, 4), np.uint8)
    pixels[4, 4] = 128
    pixels[0, 0] = 127
    mask = mask_of(saved(Image.fromarray(pixels)), (9, 9), 0)
    assert mask.sum() == 1 and mask[4, 4] == 1
    assert mask_of(saved(Image.fromarray(pixels)), (9, 9), 2).sum() == 25
    with pytest.raises(ValueError, match="its mask is 9x9, and it is 8x9"):
        mask_of(saved(Image.fromarray(pixels)), (9, 8), 0)


def test_before_and_after_stand_side_by_side() -> None:
    after = COLOURS.repeat(2, 0).repeat(2, 1)
    sheet = np.asarray(Image.open(io.BytesIO(side_by_side(COLOURS[:, :, :1], after))))
    assert sheet.shape == (40, 120, 3) and (sheet[:, 60:] == after).all()
