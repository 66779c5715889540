"""From a user's own pictures to a workspace, and from there to a registered model: on real data nobody chose for us."""

from __future__ import annotations

import io
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.gan.errors import UserError
from components.ingest.public_data import fetch
from components.workspace.artifacts import Dataset, Evaluation, Gallery, Model
from components.workspace.params import Params
from tests.conftest import environment, ganflow, refused, succeeded

PHOTOS = Path("/usr/share/games/endless-sky/images/land")
SHORT = """
train.images=2048 train.log_every=512 train.checkpoint_every=1024 train.network.generator_width=16
train.network.discriminator_width=16 evaluate.samples=500 evaluate.copy_checks=50 postprocess.images=60
postprocess.interpolation_frames=4
"""


def picture(number: int, size: tuple[int, int]) -> Image.Image:
    small = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """100 wide photos without labels, one twice, one broken."""
    folder = tmp_path / "My photos"
    folder.mkdir()
    for i in range(100):
        picture(i, (320, 160)).save(folder / f"{i:03d}.jpg")
    (folder / "again.jpg").write_bytes((folder / "000.jpg").read_bytes())
    (folder / "broken.jpg").write_bytes((folder / "001.jpg").read_bytes()[:300])
    return folder


def test_what_is_seen_and_proposed(photos: Path, tmp_path: Path) -> None:
    out = succeeded(ganflow(tmp_path, "init", "--data", str(photos), "--workspace", "w"))
    assert "101 images" in out and "looked at all" in out
    assert "none: images without labels" in out
    assert "320x160 (100%)" in out
    assert "duplicates   1" in out
    assert "broken       1\n    broken.jpg: " in out
    assert "images/s, measured here" in out
    assert "ganflow run --workspace w" in out
    root = tmp_path / "w"
    params = Params.load(root / "params.yaml")
    assert params.preprocess.shape == (64, 128)
    assert params.preprocess.max_rejected > 0.01
    assert params.train.augment
    assert params.register.name == "my-photos"
    assert len(list((root / "data").iterdir())) == 102
    with Image.open(root / "survey.png") as sheet:
        assert sheet.width == 10 * 128
    assert {path.name for path in root.iterdir()} == {"params.yaml", "data", "survey.png", ".ganflow"}


def test_labelled_archives_keep_their_shape(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for i in range(120):
            buffer = io.BytesIO()
            picture(i, (28, 28)).convert("L").save(buffer, "png")
            archive.writestr(f"pets/{'cat' if i % 2 else 'dog'}/{i}.png", buffer.getvalue())
    out = succeeded(ganflow(tmp_path, "init", "--data", "pets.zip", "--workspace", "w"))
    assert "2: " in out and "cat 60" in out
    assert "28x28, grey" in out
    params = Params.load(tmp_path / "w" / "params.yaml")
    assert params.preprocess.resolution == 28
    assert params.register.name == "pets"
    assert (tmp_path / "w" / "data" / "pets.zip").is_file()


def test_data_is_linked_where_asked(photos: Path, tmp_path: Path) -> None:
    succeeded(ganflow(tmp_path, "init", "--data", str(photos), "--workspace", "w", "--link"))
    assert (tmp_path / "w" / "data").resolve() == photos
    succeeded(ganflow(tmp_path / "w", "preprocess"))
    assert sum(Dataset.load(tmp_path / "w" / "artifacts" / "dataset").splits.values()) == 100


def test_data_in_a_git_repository_is_versioned(photos: Path, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    out = succeeded(ganflow(tmp_path, "init", "--data", str(photos), "--workspace", "w"))
    assert "data/ is tracked by data.dvc" in out
    status = ["dvc", "status", "data.dvc"]
    assert (
        "up to date"
        in subprocess.run(
            status, cwd=tmp_path / "w", env=environment(), capture_output=True, text=True, check=True
        ).stdout
    )


def test_what_cannot_be_made_whole_leaves_nothing(tmp_path: Path) -> None:
    texts = tmp_path / "texts" / "class"
    texts.mkdir(parents=True)
    (texts / "notes.txt").write_text("no image")
    assert "holds no images" in refused(tmp_path, "init", "--data", "texts", "--workspace", "new/w")
    assert not (tmp_path / "new").exists()
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine").touch()
    assert "holds no images" in refused(tmp_path, "init", "--data", "texts", "--workspace", "there")
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["mine"]


def test_what_is_there_is_not_replaced(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("train: {}\n")
    assert "params.yaml is there already" in refused(tmp_path, "init", "--data", str(photos))
    assert "there is no" in refused(tmp_path, "init", "--data", "nowhere", "--workspace", "w")
    (tmp_path / "empty").mkdir()
    assert "holds no images" in refused(tmp_path, "init", "--data", "empty", "--workspace", "w")
    assert "lies in the folder of the images" in refused(tmp_path, "init", "--data", "empty", "--workspace", "empty/w")
    (tmp_path / "one.png").write_bytes(b"x")
    assert "is a single image" in refused(tmp_path, "init", "--data", "one.png", "--workspace", "w")
    assert "is a file" in refused(tmp_path, "init", "--data", "empty", "--workspace", "one.png")
    assert not (tmp_path / "w" / "params.yaml").exists()


def short_run(root: Path, *more: str) -> str:
    changes = [argument for change in (*SHORT.split(), *more) for argument in ("--set", change)]
    out = succeeded(ganflow(root, "run", *changes))
    gallery = Gallery.load(root / "artifacts" / "gallery").verified()
    assert {"contact_sheet.png", "report.html", "interpolation.webp"} <= gallery.files.keys()
    assert "version 1 (challenger" in out
    assert "verdict" in out
    return (root / "artifacts" / "gallery" / "report.html").read_text()


@pytest.mark.long
def test_landscape_photographs_without_labels(tmp_path: Path) -> None:
    if not PHOTOS.is_dir():
        pytest.skip("the system's package endless-sky-data is not installed")
    tiles = tmp_path / "landscapes"
    tiles.mkdir()
    for path in sorted(PHOTOS.glob("*.jpg"))[:20]:
        with Image.open(path) as photo:
            for left in range(0, photo.width - 63, 64):
                for top in range(0, photo.height - 63, 64):
                    tile = photo.crop((left, top, left + 64, top + 64)).convert("RGB")
                    tile.save(tiles / f"{path.stem}-{left}-{top}.jpg", quality=95)
    root = tmp_path / "w"
    out = succeeded(ganflow(tmp_path, "init", "--data", str(tiles), "--workspace", "w"))
    assert "judged by    EfficientNet-Lite0 features" in out
    page = short_run(root)
    model = Model.load(root / "artifacts" / "model")
    assert model.image.shape == (64, 64, 3)
    assert not model.image.labelled
    metrics = Evaluation.load(root / "artifacts" / "evaluation").metrics
    assert not [name for name in metrics if name.startswith("agreement")]
    # Real photographs are nearer to each other than what a few seconds of training make.
    assert metrics["kid_efficientnet_lite0_500_floor"] < 0.05 < metrics["kid_efficientnet_lite0_500"]
    assert "EfficientNet-Lite0" in page


@pytest.mark.long
def test_emoji_in_colour_with_their_categories(tmp_path: Path) -> None:
    root = tmp_path / "emoji"
    try:
        fetch("emoji", root)
    except UserError as error:
        pytest.skip(str(error))
    out = succeeded(ganflow(tmp_path, "init", "--data", "emoji/data", "--workspace", "emoji"))
    assert "smileys-and-emotion 169" in out
    page = short_run(root, "preprocess.resolution=32")
    model = Model.load(root / "artifacts" / "model")
    assert model.image.shape == (32, 32, 3)
    assert len(model.image.classes) == 9
    assert "smileys-and-emotion" in page
    metrics = Evaluation.load(root / "artifacts" / "evaluation").metrics
    assert [name for name in metrics if name.startswith("agreement_classifier")]
