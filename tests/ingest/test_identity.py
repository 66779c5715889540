"""What an image is: equal for lossless re-saves in any format, other for other pixels, whatever the options."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.ingest.decoding import Decoded, decoded
from components.ingest.duplicates import groups_of, near_pairs
from components.ingest.identity import traits_of, traits_of_array
from components.workspace.params import Preprocess
from tests.conftest import Pixels

Change = Callable[[Image.Image], Image.Image]


def photo(seed: int, width: int = 96, height: int = 64, mode: str = "RGB") -> Image.Image:
    """A picture with smooth areas and edges."""
    rng = np.random.default_rng(seed)
    channels = {"L": 1, "RGB": 3}[mode]
    small = rng.integers(0, 256, (5, 7, channels), dtype=np.uint8)
    image = Image.fromarray(small.squeeze()).resize((width, height), Image.Resampling.BICUBIC)
    corner = rng.integers(0, 40, 2)
    image.paste(Image.new(mode, (20, 14), (200,) * channels if channels > 1 else 200), tuple(corner.tolist()))
    return image


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def as_array(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def identity(content: bytes, **options: Any) -> bytes:
    (made,) = decoded(content, Preprocess(resolution=16, **options))
    assert isinstance(made, Decoded), made
    return made.traits.identity


def turned(image: Image.Image) -> bytes:
    """The image lying on its side, with the remark that it does."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(image.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)


def test_lossless_copies_are_the_same_image() -> None:
    colour, grey = photo(0), photo(1, mode="L")
    copies = {
        "colour": [
            *(saved(colour, kind) for kind in ("PNG", "TIFF", "BMP", "PPM")),
            saved(colour, "WEBP", lossless=True),
            as_array(np.asarray(colour)),
            as_array(np.asarray(colour).astype(np.uint16) * 257),
            turned(colour),
            saved(colour.convert("RGBA"), "PNG"),
            as_array(np.asarray(colour.convert("RGBA"))),
        ],
        "palette": [saved(colour.quantize(32), "PNG"), saved(colour.quantize(32).convert("RGB"), "PNG")],
        "grey": [
            saved(grey, "PNG"),
            saved(grey.convert("RGB"), "PNG"),
            saved(grey.convert("LA"), "PNG"),
            saved(grey, "GIF"),
            as_array(np.asarray(grey)),
            as_array(np.asarray(grey)[:, :, None]),
            saved(Image.fromarray(np.asarray(grey).astype(np.uint16) * 257), "PNG"),
        ],
        "bits": [saved(grey.convert("1"), "PNG"), saved(grey.convert("1").convert("RGB"), "TIFF")],
    }
    found = {name: {identity(content) for content in contents} for name, contents in copies.items()}
    assert {name: len(identities) for name, identities in found.items()} == dict.fromkeys(copies, 1)
    assert len(set.union(*found.values())) == len(copies)


def test_what_is_not_seen_makes_no_other_image() -> None:
    rgba = np.asarray(photo(0).convert("RGBA")).copy()
    rgba[:10, :, 3] = 0
    other = rgba.copy()
    other[:10, :, :3] = 77
    lossy_there = saved(Image.fromarray(rgba), "WEBP", lossless=True)
    contents = [saved(Image.fromarray(rgba), "PNG"), saved(Image.fromarray(other), "PNG"), lossy_there, as_array(rgba)]
    assert len({identity(content) for content in contents}) == 1
    assert identity(contents[0]) != identity(saved(photo(0), "PNG"))


def test_sixteen_bits_are_told_apart_where_eight_are_not() -> None:
    values = (np.arange(64 * 64).reshape(64, 64) * 3 + 1).astype(np.uint16)
    assert identity(as_array(values)) == identity(saved(Image.fromarray(values), "PNG"))
    assert identity(as_array(values)) == identity(as_array(values.astype(">u2")))
    assert identity(as_array(values)) != identity(as_array(values + 1))


def test_other_pixels_other_sizes_and_other_shapes_are_other_images() -> None:
    image = np.asarray(photo(0))
    changed = image.copy()
    changed[-1, -1, -1] ^= 1
    others = [changed, image[:-1], image[:, ::-1], image.reshape(96, 64, 3)]
    assert len({traits_of_array(values).identity for values in (image, *others)}) == 5


@pytest.mark.parametrize("size", [(96, 64), (1600, 1200)])
def test_no_option_changes_what_an_image_is(size: tuple[int, int]) -> None:
    content = saved(photo(3, *size), "JPEG", quality=90)
    variants = ({}, {"fit": "pad"}, {"fit": "stretch"}, {"channels": 1}, {"background": "black"}, {"channels": 4})
    found = [identity(content, **options) for options in variants]
    # And saved as what its decoder makes of it.
    found.append(identity(saved(Image.open(io.BytesIO(content)), "PNG")))
    assert len(set(found)) == 1


CHANGES: dict[str, Change] = {
    "JPEG 85": lambda image: Image.open(io.BytesIO(saved(image, "JPEG", quality=85))),
    "WebP 80": lambda image: Image.open(io.BytesIO(saved(image, "WEBP", quality=80))),
    "half and back": lambda image: image.resize((48, 32), Image.Resampling.LANCZOS).resize(
        image.size, Image.Resampling.BICUBIC
    ),
    "double": lambda image: image.resize((192, 128), Image.Resampling.LANCZOS),
    "stretched": lambda image: image.resize((64, 64), Image.Resampling.LANCZOS),
    "cropped to the middle": lambda image: image.crop((16, 0, 80, 64)),
    "lighter": lambda image: image.point(lambda value: min(255, round(value * 0.9 + 20))),
    "without colour": lambda image: image.convert("L"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_re_save_changes_is_near(name: str) -> None:
    pictures = [photo(seed) for seed in range(40)]
    signatures = [traits_of(image).signature for image in (*pictures, *map(CHANGES[name], pictures))]
    assert near_pairs(np.stack(signatures)).tolist() == [[i, i + 40] for i in range(40)]


def test_digits_are_not_near_each_other(digits: tuple[Pixels, Pixels]) -> None:
    """No two of the default digits are the same one."""
    signatures = np.stack([traits_of(Image.fromarray(digit)).signature for digit in digits[0]])
    assert len(near_pairs(signatures)) == 0


def test_blank_images_are_no_group() -> None:
    """Their signatures differ by less than noise, so that nothing is known of them."""
    blank = [Image.new("L", (40, 40), level) for level in range(60)]
    rng = np.random.default_rng(0)
    noisy = [Image.fromarray(rng.normal(250, 1, (40, 40)).astype(np.uint8)) for _ in range(60)]
    signatures = np.stack([traits_of(image).signature for image in (*blank, *noisy)])
    assert len(near_pairs(signatures)) == 0


def test_a_crowd_is_one_group_in_bounded_time() -> None:
    """Each of 5,000 is near all others: far more pairs than can be looked at."""
    rng = np.random.default_rng(0)
    one = traits_of(photo(0, 64, 64)).signature[:1].astype(float)
    crowd = np.rint(one + rng.normal(0, 1, (5_000, 1, one.shape[1]))).clip(0, 255).astype(np.uint8)
    pairs = near_pairs(crowd)
    assert len(np.unique(pairs)) == 5_000
    assert len(pairs) < 5_000 * 40
    assert len(np.unique(groups_of(pairs, 5_000))) == 1
