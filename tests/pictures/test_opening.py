"""Pictures are opened at one place, by content, of the kinds that are named, and within limits."""

from __future__ import annotations

import ast
import io
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.gan.errors import UserError
from components.ingest.decoding import decoded
from components.ingest.proposals.survey import survey
from components.pictures.opening import NotReadError, opened, reads_heic, upright
from components.provenance.picture import read_picture
from components.workspace.params import Limits, Preprocess
from tests.conftest import PROJECT
from tests.fuzzing.pictures import PICTURES, picture, saved

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.fixture
def ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that a Ghostscript on the path would leave when it is started."""
    folder = tmp_path / "bin"
    folder.mkdir()
    started = tmp_path / "started"
    (folder / "gs").write_text(f"#!/bin/sh\necho $@ >>{started}\nexit 1\n")
    (folder / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return started


def test_postscript_starts_no_program(ghostscript: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(4):
        (photos / f"{number}.png").write_bytes(saved(picture(number), "PNG"))
    (photos / "holiday.png").write_bytes(POSTSCRIPT)
    (tmp_path / "scratch").mkdir()
    found = survey(photos, tmp_path / "scratch")
    assert found.broken == [("holiday.png", "PostScript is not read: convert it to PNG or JPEG")]
    assert list(decoded(POSTSCRIPT, Preprocess())) == ["PostScript is not read: convert it to PNG or JPEG"]
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    assert list(decoded(pointer, Preprocess())) == ["it only stands for a file of Git LFS: fetch that by git lfs pull"]
    with pytest.raises(UserError, match="PostScript is not read"):
        read_picture(photos / "holiday.png")
    assert not ghostscript.exists()


def _calls(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Image.open", "PIL.Image.open"):
            yield ast.unparse(node)
        if isinstance(node, ast.ImportFrom) and node.module == "PIL.Image":
            yield ast.unparse(node)


def test_pictures_are_opened_at_one_place() -> None:
    files = [*(PROJECT / "components").rglob("*.py"), *(PROJECT / "flows").rglob("*.py")]
    found = {file.relative_to(PROJECT).as_posix(): [*_calls(ast.parse(file.read_text()))] for file in files}
    opening = {file: calls for file, calls in found.items() if calls}
    # A registered model has nothing of the project with it but `gan/`.
    assert opening.keys() == {"components/pictures/opening.py", "components/services/tracking/serving_model.py"}
    assert all("formats=" in call for (call,) in opening.values())


@pytest.mark.parametrize("kind", [kind for kind in PICTURES if kind != "npy"])
def test_the_kinds_that_are_promised_are_read_whatever_their_name(kind: str, tmp_path: Path) -> None:
    (tmp_path / "wrong.txt").write_bytes(PICTURES[kind]()[0])
    with opened(tmp_path / "wrong.txt") as image:
        assert image.size == (16, 12)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"8BPS\0\1", "Photoshop"),
        (b"%PDF-1.7", "PDF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\0\0\0\x20ftypisom", "film"),
        (b"icns\0\0\1\0", "ICNS"),
        (b"DDS |\0\0\0", "DDS"),
        (b"#define x_width 16\n", "XBM"),
        (b"qoif\0\0\0\x08", "QOI"),
    ],
)
def test_other_kinds_are_named_with_the_remedy(content: bytes, name: str) -> None:
    (said,) = decoded(content, Preprocess())
    assert name in str(said)
    assert "convert it" in str(said)


def test_heic_is_read_where_it_is_asked_for() -> None:
    if not reads_heic():
        pytest.skip("the extra `heic` is not installed")
    import pillow_heif

    pillow_heif.register_heif_opener()
    content = saved(picture(3, size=(64, 64)), "HEIF")
    (said,) = decoded(content, Preprocess())
    assert "preprocess.heic: true" in str(said)
    (made,) = decoded(content, Preprocess(resolution=64, heic=True))
    assert not isinstance(made, str)
    assert np.abs(made.pixels.astype(int) - np.asarray(picture(3, size=(64, 64)))).mean() < 12


def test_what_unfolds_to_too_much_is_refused() -> None:
    with pytest.raises(NotReadError, match="2000x1000 pixels are too many"):
        opened(saved(Image.new("L", (2000, 1000)), "PNG"), max_pixels=10**6)
    flat = saved(Image.new("RGB", (4000, 3000)), "WEBP", lossless=True)
    with pytest.raises(NotReadError, match="are taken for a bomb"):
        opened(flat)
    scans = saved(picture(1), "JPEG", progressive=True)
    last = scans.rindex(b"\xff\xda")
    with pytest.raises(NotReadError, match="more than 500 scans"):
        opened(scans[:last] + scans[last:-2] * 600 + scans[-2:])


def test_frames_count_together() -> None:
    content = saved(Image.new("P", (1200, 1200)), "GIF")
    start = content.index(b"\x2c", 13)
    many = content[:start] + content[start:-1] * 400 + content[-1:]
    limits = Limits(pixels_per_byte=10)
    made = list(decoded(many, Preprocess(resolution=8, frames="all", limits=limits)))
    assert "taken for a bomb" in str(made[-1])
    few = Preprocess(resolution=8, frames="all", limits=Limits(frames=3, pixels_per_byte=10**6))
    *frames, said = decoded(many, few)
    assert (len(frames), said) == (3, "frames after the first 3 are left out")


@pytest.mark.parametrize("turn", range(1, 9))
def test_pictures_are_turned_as_their_metadata_say(turn: int) -> None:
    """Also where other metadata are of a kind that Pillow cannot write again."""
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = turn
    content = saved(picture(1, "L"), "TIFF", exif=exif)
    with opened(content) as image:
        assert np.array_equal(np.asarray(upright(image)), np.asarray(ImageOps.exif_transpose(image)))
    # The resolution as text, which Pillow reads and cannot write.
    entries = struct.pack("<HHIHH", 0x0112, 3, 1, turn, 0) + struct.pack("<HHI4s", 0x011A, 2, 4, b"abc\0")
    odd = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4)
    wanted = saved(picture(1), "JPEG")
    exif = Image.Exif()
    exif[0x0112] = turn
    options = Preprocess(resolution=16)
    (made,), (expected,) = (
        decoded(saved(picture(1), "JPEG", exif=written), options) for written in (odd, exif.tobytes())
    )
    plain = next(decoded(wanted, options))
    assert not isinstance(made, str) and not isinstance(expected, str) and not isinstance(plain, str)
    assert np.array_equal(made.pixels, expected.pixels)
    assert np.array_equal(made.pixels, plain.pixels) == (turn == 1)
    assert (made.traits.identity == plain.traits.identity) == (turn == 1)


def test_sixteen_bits_are_scaled_as_by_rounding() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    buffer = io.BytesIO()
    np.save(buffer, values)
    (made,) = decoded(buffer.getvalue(), Preprocess(resolution=256))
    assert not isinstance(made, str)
    assert np.array_equal(made.pixels[:, :, 0], np.rint(values / 257))
