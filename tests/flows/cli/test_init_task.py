"""From a folder of photos to a workspace for an image task: what is proposed, said and shown."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from components.ingest.proposals.sharpness import SOFT, sharpness
from components.workspace.artifacts import Dataset
from components.workspace.params import Params
from tests.conftest import ganflow, refused, succeeded
from tests.ingest.test_patches import groups_of, photo

LANCZOS = Image.Resampling.LANCZOS


def sharp(seed: int, width: int = 320, height: int = 200) -> Image.Image:
    """A photo with as much detail in every octave, as natural ones have."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for octave in range(7):
        size = max(1, width >> octave), max(1, height >> octave)
        noise = rng.normal(0, 24, (size[1], size[0], 3)).astype(np.float32)
        for channel in range(3):
            layer = Image.fromarray(np.ascontiguousarray(noise[..., channel]))
            total[..., channel] += np.asarray(layer.resize((width, height), Image.Resampling.BICUBIC))
    return Image.fromarray(np.clip(total + 128, 0, 255).astype(np.uint8))


def soft(image: Image.Image) -> Image.Image:
    """The same in twice as many pixels."""
    return image.resize((2 * image.width, 2 * image.height), LANCZOS)


def album(folder: Path, images: list[Image.Image]) -> Path:
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        image.save(folder / f"{number:03}.png")
    return folder


def init(root: Path, data: str, task: str, *more: str) -> tuple[str, Params]:
    out = succeeded(ganflow(root, "init", "--data", data, "--workspace", "w", "--task", task, *more))
    return out, Params.load(root / "w" / "params.yaml")


@pytest.mark.parametrize("seed", range(3))
def test_sharpness_tells_what_was_enlarged_from_what_was_not(seed: int) -> None:
    image = sharp(seed, 400, 300)
    found = {
        "as it is": image,
        "darker": image.point(lambda value: value // 4 + 20),
        "enlarged": soft(image),
        "enlarged, and a JPEG": soft(image).filter(ImageFilter.GaussianBlur(0.3)),
        "blurred": image.filter(ImageFilter.GaussianBlur(1.2)),
    }
    values = {name: sharpness(np.asarray(each)) for name, each in found.items()}
    assert all(value is not None for value in values.values())
    told = {name for name, value in values.items() if value is not None and value < SOFT}
    assert told == {"enlarged", "enlarged, and a JPEG", "blurred"}, values
    halved = sharpness(np.asarray(soft(image)), 2)
    assert halved is not None and halved > SOFT


def test_of_a_flat_or_tiny_photo_sharpness_says_nothing() -> None:
    assert sharpness(np.full((300, 300, 3), 77, np.uint8)) is None
    assert sharpness(np.asarray(photo(0, 40, 40))) is None
    assert sharpness(np.asarray(photo(0, 160, 160).convert("L"))[..., None]) is not None


def test_a_proposal_for_enlarging_is_what_preprocess_makes(tmp_path: Path) -> None:
    album(tmp_path / "Holiday photos", [sharp(number) for number in range(30)])
    photo(0, 20, 20).save(tmp_path / "Holiday photos" / "thumbnail.png")
    shutil.copy(tmp_path / "Holiday photos" / "003.png", tmp_path / "Holiday photos" / "copy.png")
    out, params = init(tmp_path, "Holiday photos", "super_resolve")
    assert "super_resolve 4, by the network edsr" in out
    assert "pieces       450 of 64x64, of 30 photos, 6 MB" in out
    assert "too small    1 photos" in out
    assert "soft" not in out
    assert "with fewer than 20 the gate will abstain" in out
    assert "judged by    EfficientNet-Lite0" in out
    assert "ganflow run --workspace w" in out
    preprocess, train = params.preprocess, params.train
    assert (preprocess.fit, preprocess.resolution, preprocess.reduce) == ("patches", 64, 1)
    assert (train.task.name, train.network.name, train.mirror) == ("super_resolve", "edsr", True)
    assert not isinstance(train.adversarial_weight, float)
    assert train.adversarial_weight.model_dump()["rest"] > 0
    assert params.register.name == "holiday-photos"
    succeeded(ganflow(tmp_path / "w", "preprocess"))
    dataset = Dataset.load(tmp_path / "w" / "artifacts" / "dataset")
    assert sum(dataset.splits.values()) == 450
    # What it said will be held out is.
    assert f"gate         {dataset.photos['holdout']} held-out photos" in out
    assert dataset.photos["development"] >= 1
    assert len(set(groups_of(dataset, "holdout").tolist())) == dataset.photos["holdout"]
    with Image.open(tmp_path / "w" / "survey.png") as sheet:
        assert sheet.width > 8 * 128


def test_photos_that_are_soft_at_full_size_are_halved(tmp_path: Path) -> None:
    images = [sharp(number, 200, 140) for number in range(8)]
    album(tmp_path / "photos", [*map(soft, images[:6]), *images[6:]])
    out, params = init(tmp_path, "photos", "restore")
    assert "6 of 8 photos are soft at full size" in out
    assert "all are made 2 times smaller before (preprocess.reduce)" in out
    assert params.preprocess.reduce == 2
    album(tmp_path / "most", [*map(soft, images[:2]), *images[2:]])
    shutil.rmtree(tmp_path / "w")
    out, params = init(tmp_path, "most", "restore")
    assert "2 of 8 photos are soft at full size" in out
    assert "most are sharp, so none is made smaller" in out
    assert params.preprocess.reduce == 1


def test_colours_are_learned_from_whole_photos(tmp_path: Path) -> None:
    for name in ("rome", "oslo"):
        album(tmp_path / "photos" / name, [sharp(number + 100 * (name == "oslo")) for number in range(25)])
    out, params = init(tmp_path, "photos", "colorize")
    assert "50 photos, each whole at" in out
    assert "pieces" not in out
    assert "classes      are not used" in out
    preprocess = params.preprocess
    assert (preprocess.fit, preprocess.labels) == ("crop", "none")
    height, width = preprocess.shape
    assert max(height, width) <= 64
    assert params.train.task.name == "colorize"
    succeeded(ganflow(tmp_path / "w", "preprocess"))
    assert sum(Dataset.load(tmp_path / "w" / "artifacts" / "dataset").splits.values()) == 50


def test_enough_photos_are_held_out_for_the_gate_where_there_are_enough(tmp_path: Path) -> None:
    album(tmp_path / "photos", [photo(number, 128, 128) for number in range(90)])
    out, params = init(tmp_path, "photos", "inpaint")
    assert "gate will abstain" not in out
    assert 0.1 <= params.preprocess.holdout <= 0.4
    succeeded(ganflow(tmp_path / "w", "preprocess"))
    assert Dataset.load(tmp_path / "w" / "artifacts" / "dataset").photos["holdout"] >= 20


def test_too_few_photos_are_told_before_anything_is_run(tmp_path: Path) -> None:
    album(tmp_path / "photos", [photo(0, 400, 300)])
    out, _ = init(tmp_path, "photos", "restore")
    assert "Before you run: 1 photos are too few to train on some and to hold others out" in out
    told = refused(tmp_path / "w", "preprocess")
    assert "0 held out" in told


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("enlarge", "--task enlarge: choose one of super_resolve, inpaint, restore, colorize"),
        ("generate", "--task generate: choose one of"),
    ],
)
def test_unknown_tasks_are_refused_in_a_sentence(task: str, words: str, tmp_path: Path) -> None:
    album(tmp_path / "photos", [photo(0)])
    assert words in refused(tmp_path, "init", "--data", "photos", "--workspace", "w", "--task", task)
    assert not (tmp_path / "w").exists()


def test_photos_that_are_of_no_use_are_refused_in_a_sentence(tmp_path: Path) -> None:
    album(tmp_path / "small", [photo(number, 24, 24) for number in range(40)])
    told = refused(tmp_path, "init", "--data", "small", "--workspace", "w", "--task", "super_resolve")
    assert "smaller than 32 pixels" in told
    album(tmp_path / "grey", [photo(number).convert("L") for number in range(40)])
    told = refused(tmp_path, "init", "--data", "grey", "--workspace", "w", "--task", "colorize")
    assert "colours are learned from RGB images" in told
    assert not (tmp_path / "w").exists()
