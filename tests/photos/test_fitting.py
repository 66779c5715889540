"""Pictures that a model carries over: fitted as training pictures are, made in the class wanted, and brought back."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from components.gan.dataset import to_pixels, to_signed
from components.gan.errors import UserError
from components.gan.options import ImageFormat
from components.gan.tasks.options import Restyle, SuperResolve, Translate
from components.ingest.decoding import Decoded, decoded
from components.photos.fitting import fitted
from components.pictures import metadata
from components.pictures.photo import read_photo
from components.workspace.params import Preprocess
from components.workspace.published import load_published
from components.workspace.workspace import Workspace
from tests.conftest import ganflow, refused, succeeded
from tests.pictures.test_photo import saved
from tests.test_apply import done, workspace_with

CLASSES = ("fluent", "noto")
FITS = ("crop", "pad", "stretch")
MODES = {"L": 1, "RGB": 3, "RGBA": 4}


def icon(size: tuple[int, int] = (60, 100), mode: str = "RGB") -> Image.Image:
    """A picture of (width, height), of which in RGBA a disc can be seen."""
    pixels = np.random.default_rng(size[0]).integers(0, 256, (size[1], size[0], 4)).astype(np.uint8)
    y, x = np.ogrid[: size[1], : size[0]]
    pixels[:, :, 3] = np.where((y - size[1] / 2) ** 2 + (x - size[0] / 2) ** 2 < (min(size) / 3) ** 2, 255, 0)
    image = Image.fromarray(pixels)
    return image if mode == "RGBA" else image.convert("RGB").convert(mode)


def image_format(channels: int, **said: Any) -> ImageFormat:
    return ImageFormat(height=48, width=48, channels=channels, classes=CLASSES, **said)


def restyling(root: Path, channels: int = 3) -> Workspace:
    return workspace_with(root, Restyle(), "unet", image_format(channels))


def opened(file: Path) -> Image.Image:
    with Image.open(file) as image:
        image.load()
        return image


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("background", ["white", "black"])
def test_a_picture_is_fitted_to_the_bits_of_preprocessing(fit: Any, mode: str, channels: int, background: Any) -> None:
    options = Preprocess(resolution=48, fit=fit, channels=channels, background=background)
    for size in ((60, 100), (48, 48), (7, 5), (1, 300)):
        content = saved(icon(size, mode))
        (trained,) = decoded(content, options)
        assert isinstance(trained, Decoded)
        given = fitted(content, read_photo(content, 10**6), image_format(channels), options, "model")
        assert given.pixels.dtype == np.uint8
        assert np.array_equal(given.pixels, trained.pixels)


@pytest.mark.parametrize("bits", [12, 16])
def test_sixteen_bits_are_read_as_preprocessing_reads_them(bits: int) -> None:
    content = saved(Image.fromarray(np.random.default_rng(0).integers(0, 2**bits, (50, 60)).astype(np.uint16)))
    options = Preprocess(resolution=48, channels=1, bits=bits)
    (trained,) = decoded(content, options)
    assert isinstance(trained, Decoded) and trained.pixels.max() > 200
    photo = read_photo(content, 10**6)
    assert np.array_equal(fitted(content, photo, image_format(1), options, "model").pixels, trained.pixels)


@pytest.mark.parametrize(
    ("fit", "size", "made", "words"),
    [
        ("crop", "model", (48, 48), "its middle of 60x60 scaled to 48x48"),
        ("crop", "input", (60, 60), "the result scaled to 60x60 by Lanczos"),
        ("pad", "model", (48, 48), "scaled to 29x48, with white bars around it"),
        ("pad", "input", (60, 100), "the result scaled to 60x100 by Lanczos"),
        ("stretch", "model", (48, 48), "distorted to 48x48"),
        ("stretch", "input", (60, 100), "the result scaled to 60x100 by Lanczos"),
        ("crop", "windows", (60, 100), ""),
        ("patches", "model", (60, 100), ""),
        ("patches", "input", (60, 100), ""),
    ],
)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_size_of_a_result(
    tmp_path: Path, fit: str, size: str, made: tuple[int, int], words: str, channels: int
) -> None:
    workspace = restyling(tmp_path / "w", channels)
    workspace.params.write_text(f"preprocess: {{fit: {fit}}}\napply: {{window: 16}}")
    icon(mode="L" if channels == 1 else "RGB").save(tmp_path / "x.png")
    found = done(workspace, [tmp_path / "x.png"], to="noto", size=size, compare=True)
    assert found.refused == {}
    assert opened(tmp_path / "out" / "x.png").size == made
    assert opened(tmp_path / "out" / "x-compare.png").size == (2 * made[0], made[1])
    said = "; ".join(found.made[0].said)
    assert words in said if words else said == ""


def test_without_strength_the_picture_comes_back_where_it_was(tmp_path: Path) -> None:
    # Smooth, so that little of it is lost at a lower resolution.
    y, x = np.mgrid[:200, :120]
    pixels = np.dstack((2 * x, y, 255 - y)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    workspace = restyling(tmp_path / "w")
    for fit in ("pad", "stretch"):
        workspace.params.write_text(f"preprocess: {{fit: {fit}}}")
        done(workspace, [tmp_path / "x.png"], to="noto", size="input", strength=0)
        back = np.asarray(opened(tmp_path / "out" / "x.png")).astype(int)
        assert np.abs(back - pixels).mean() < 3
        (tmp_path / "out" / "x.png").unlink()
        (tmp_path / "out" / "apply.jsonl").unlink()
    workspace.params.write_text("")
    done(workspace, [tmp_path / "x.png"], to="noto", size="input", strength=0)
    assert np.abs(np.asarray(opened(tmp_path / "out" / "x.png")).astype(int) - pixels[40:160]).mean() < 3


def test_the_class_that_is_wanted_is_made_and_written_down(tmp_path: Path) -> None:
    workspace = restyling(tmp_path / "w")
    picture = icon((48, 48))
    picture.save(tmp_path / "x.png")
    results = {}
    for label, name in enumerate(CLASSES):
        done(workspace, [tmp_path / "x.png"], to=name)
        result = opened(tmp_path / "out" / "x.png")
        assert result.info["ganflow:class"] == name and result.info["ganflow:task"] == "restyle"
        assert metadata.GENERATED in result.info["XML:com.adobe.xmp"]
        model = load_published(workspace.model, "the model")
        condition = to_signed(torch.from_numpy(np.asarray(picture)[None].copy()))
        expected = to_pixels(model.transform(condition, labels=np.array([label])))[0]
        results[name] = np.asarray(result)
        assert np.abs(results[name].astype(int) - expected).max() <= 1
        # Another class is another result, which does not take its place.
        assert "otherwise" in str(done(workspace, [tmp_path / "x.png"], to=CLASSES[1 - label]).refused)
        (tmp_path / "out" / "x.png").unlink()
    assert np.abs(results["fluent"].astype(int) - results["noto"]).max() > 5


def test_transparency_is_a_channel_where_the_model_has_it(tmp_path: Path) -> None:
    icon(mode="RGBA").save(tmp_path / "x.png")
    icon(mode="RGB").save(tmp_path / "y.jpg")
    found = done(restyling(tmp_path / "w", 4), [tmp_path / "x.png", tmp_path / "y.jpg"], to="noto", compare=True)
    result = opened(tmp_path / "out" / "x.png")
    assert result.mode == "RGBA" and len(np.unique(np.asarray(result)[:, :, 3])) > 2
    # What the network made transparent, a JPEG could not say.
    assert opened(tmp_path / "out" / "y.png").mode == "RGBA"
    assert any("which a JPEG cannot be" in said for made in found.made for said in made.said)
    assert opened(tmp_path / "out" / "x-compare.png").mode == "RGB"
    for file in (tmp_path / "out").iterdir():
        file.unlink()
    found = done(restyling(tmp_path / "opaque"), [tmp_path / "x.png"], to="noto")
    assert opened(tmp_path / "out" / "x.png").mode == "RGB"
    assert "its transparency was laid on white, as of the training pictures" in found.made[0].said


def test_a_seed_chooses_among_several_results(tmp_path: Path) -> None:
    image = ImageFormat(height=48, width=48, channels=3, classes=("any",), paired=True)
    workspace = workspace_with(tmp_path / "w", Translate(noise=4), "unet", image)
    icon().save(tmp_path / "x.png")

    def made(seed: int) -> bytes:
        done(workspace, [tmp_path / "x.png"], seed=seed)
        content = (tmp_path / "out" / "x.png").read_bytes()
        assert Image.open(io.BytesIO(content)).info["ganflow:noise"] == str(seed)
        (tmp_path / "out" / "x.png").unlink()
        return content

    one, other = made(0), made(1)
    assert one == made(0)
    pixels = [np.asarray(Image.open(io.BytesIO(content))).astype(int) for content in (one, other)]
    assert np.abs(pixels[0] - pixels[1]).max() > 2
    with pytest.raises(UserError, match=r"knows no noto: leave out --to"):
        done(workspace, [tmp_path / "x.png"], to="noto")


def test_what_a_model_cannot_do_is_said_before_anything_is_made(tmp_path: Path) -> None:
    workspace = restyling(tmp_path / "w")
    (tmp_path / "noto").mkdir()
    icon().save(tmp_path / "noto" / "x.png")
    icon().save(tmp_path / "y.png")
    with pytest.raises(UserError, match="say by --to what the pictures are to become: this model knows fluent, noto"):
        done(workspace, [tmp_path / "y.png"])
    many = image_format(3).model_copy(update={"classes": tuple(map(str, range(25)))})
    with pytest.raises(UserError, match=r"this model knows 0, 1, .*, 19 and 5 more"):
        done(workspace_with(tmp_path / "many", Restyle(), "unet", many), [tmp_path / "y.png"])
    with pytest.raises(UserError, match="--to apple: there is no class 'apple'; choose one of fluent, noto"):
        done(workspace, [tmp_path / "y.png"], to="apple")
    with pytest.raises(UserError, match="leave out --seed"):
        done(workspace, [tmp_path / "y.png"], to="noto", seed=1)
    larger = workspace_with(tmp_path / "larger", SuperResolve(factor=2))
    with pytest.raises(UserError, match="--size is for models that translate or restyle"):
        done(larger, [tmp_path / "y.png"], size="input")
    with pytest.raises(UserError, match="leave out --to"):
        done(larger, [tmp_path / "y.png"], to="noto")
    assert not (tmp_path / "out").exists()
    found = done(workspace, [tmp_path / "noto", tmp_path / "y.png"], to="noto")
    assert [made.name for made in found.made] == ["y.png"]
    assert "is one already" in found.refused[str(tmp_path / "noto" / "x.png")]
    assert done(workspace, [tmp_path / "noto"], to="fluent").refused == {}


def test_the_command(tmp_path: Path) -> None:
    workspace = restyling(tmp_path / "w", 4)
    (tmp_path / "icons").mkdir()
    icon(mode="RGBA").save(tmp_path / "icons" / "a.png")
    command = ("apply", "../icons", "--out", "../restyled", "--model", "workspace")
    told = succeeded(ganflow(workspace.root, *command, "--to", "fluent", "--size", "input"))
    assert "a.png: its middle of 60x60 scaled to 48x48; the result scaled to 60x60 by Lanczos" in told
    assert opened(tmp_path / "restyled" / "a.png").size == (60, 60)
    assert "this model knows fluent, noto" in refused(workspace.root, *command)
    assert "--size" in refused(workspace.root, *command, "--to", "fluent", "--size", "huge")
