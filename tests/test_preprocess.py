"""Raw images become a data set: what is kept, scaled, split and rejected."""

import gzip
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from components.gan.dataset import Split
from components.gan.errors import UserError
from components.workspace.artifacts import Dataset
from components.workspace.params import Preprocess
from tests.conftest import SPLITS, Pixels, idx, made_dataset


def run(root: Path, **options: Any) -> Dataset:
    return made_dataset(root, Preprocess(**options))


def pixels_of(dataset: Dataset, split: Any = "training") -> Pixels:
    found = Split(dataset.folder, split, dataset.image)
    return found.pixels(np.arange(len(found)))


def every(dataset: Dataset) -> Pixels:
    """The pixels of all splits."""
    return np.concatenate([pixels_of(dataset, split) for split in SPLITS])


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a workspace with two classes of distinct 40x30 images, and one more image of the test's own."""

    def make(
        image: Image.Image | None = None, name: str = "own.png", mode: str = "L", count: int = 60, **save: Any
    ) -> Path:
        rng = np.random.default_rng(0)
        for label in ("cats", "dogs"):
            (tmp_path / "data" / label).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                shape = (30, 40) if mode == "L" else (30, 40, 3)
                noise = rng.integers(0, 256, shape, dtype=np.uint8)
                Image.fromarray(noise).save(tmp_path / "data" / label / f"{i}.png")
        if image is not None:
            image.save(tmp_path / "data" / "cats" / name, **save)
        return tmp_path

    return make


def only(root: Path, **options: Any) -> Pixels:
    """What becomes of the test's own image among grey ones: the pixels that no other run has."""
    with_it = run(root, max_rejected=0, **options)
    both = every(with_it)
    own = next(path for path in (root / "data" / "cats").glob("own*"))
    own.unlink()
    without = run(root, **options)
    known = {p.tobytes() for p in every(without)}
    if without.image.channels < with_it.image.channels:
        known = {np.repeat(np.frombuffer(k, np.uint8).reshape(16, 16, 1), 3, 2).tobytes() for k in known}
    return next(p for p in both if p.tobytes() not in known)


def test_an_idx_pair_keeps_its_pixels(make_workspace: Callable[..., Path], digits: tuple[Pixels, Pixels]) -> None:
    dataset = run(make_workspace(images=800))
    assert dataset.image.model_dump() == {"height": 28, "width": 28, "channels": 1, "classes": tuple("0123456789")}
    found = every(dataset)
    assert {p.tobytes() for p in found} == {p.tobytes() for p in digits[0][:800]}
    training = pixels_of(dataset)
    assert dataset.mean[0] == pytest.approx(training.mean() / 255)
    assert dataset.std[0] == pytest.approx(training.std() / 255)
    labels = Split(dataset.folder, "training", dataset.image).labels
    by_pixels = {p.tobytes(): label for p, label in zip(digits[0], digits[1], strict=True)}
    assert [by_pixels[p.tobytes()] for p in training] == labels.tolist()


def test_gzipped_and_plain_pairs_are_the_same(make_workspace: Callable[..., Path]) -> None:
    root = make_workspace(images=400)
    plain = run(root)
    for path in (root / "data").iterdir():
        (root / "data" / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    zipped = run(root)
    assert {f: r.sha256 for f, r in plain.files.items()} == {f: r.sha256 for f, r in zipped.files.items()}


def test_no_image_changes_sides_as_the_data_grows(make_workspace: Callable[..., Path]) -> None:
    few, many = run(make_workspace("few", 500)), run(make_workspace("many", 2000))
    for split in SPLITS:
        assert {p.tobytes() for p in pixels_of(few, split)} <= {p.tobytes() for p in pixels_of(many, split)}
    assert many.splits["holdout"] / 2000 == pytest.approx(0.2, abs=0.03)


def test_a_second_run_writes_nothing_and_bytes_repeat_elsewhere(
    make_workspace: Callable[..., Path],
) -> None:
    root = make_workspace()
    dataset = run(root)
    stamp = (root / "artifacts/dataset/dataset.json").stat().st_mtime_ns
    assert run(root) == dataset
    assert (root / "artifacts/dataset/dataset.json").stat().st_mtime_ns == stamp
    assert run(make_workspace("other")).files == dataset.files


def test_shards_are_bounded_and_complete(make_workspace: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(make_workspace("whole"))
    monkeypatch.setattr("components.ingest.shards.SHARD_BYTES", 100 * 28 * 28)
    monkeypatch.setattr("components.preprocess.PIXEL_BYTES", 1)
    cut = run(make_workspace("cut"))
    sizes = [np.load(shard).shape[0] for shard in sorted(cut.folder.glob("training-0*.npy"))]
    assert max(sizes) == 100
    assert len(sizes) > 5
    assert (pixels_of(cut) == pixels_of(whole)).all()


def test_a_folder_of_classes_is_cropped_and_scaled(folder: Callable[..., Path]) -> None:
    stripes = np.zeros((30, 90), np.uint8)
    stripes[:, 30:60] = 200
    (own,) = only(folder(Image.fromarray(stripes)), resolution=16)[None]
    assert (own == 200).all()


def test_classes_and_grey_or_colour_come_from_the_data(folder: Callable[..., Path]) -> None:
    root = folder()
    assert run(root, resolution=16).image.model_dump() == {
        "height": 16,
        "width": 16,
        "channels": 1,
        "classes": ("cats", "dogs"),
    }
    red = Image.new("RGB", (20, 20), (255, 0, 0))
    red.save(root / "data" / "dogs" / "red.png")
    dataset = run(root, resolution=16)
    assert dataset.image.channels == 3
    both = every(dataset)
    assert sum((p == [255, 0, 0]).all() for p in both) == 1


def test_grey_in_an_rgb_file_is_grey(folder: Callable[..., Path]) -> None:
    assert run(folder(Image.new("RGB", (20, 20), (9, 9, 9))), resolution=16).image.channels == 1


def test_sixteen_bits_are_scaled_not_clipped(folder: Callable[..., Path]) -> None:
    values = np.full((16, 16), 257 * 77, np.uint16)
    assert (only(folder(Image.fromarray(values)), resolution=16) == 77).all()


def test_transparency_lies_on_white(folder: Callable[..., Path]) -> None:
    half = Image.new("RGBA", (16, 16), (255, 0, 0, 128))
    assert (only(folder(half), resolution=16) == [255, 127, 127]).all()
    palette = Image.new("P", (16, 16), 0)
    palette.putpalette([0, 0, 255] * 256)
    assert (only(folder(palette, transparency=0), resolution=16) == 255).all()


def test_exif_orientation_is_applied(folder: Callable[..., Path]) -> None:
    upright = np.zeros((16, 16), np.uint8)
    upright[:8] = 250
    exif = Image.Exif()
    exif[0x0112] = 3
    turned = only(folder(Image.fromarray(upright), exif=exif), resolution=16)
    assert (turned[8:] == 250).all()
    assert not turned[:8].any()


def test_exact_duplicates_are_dropped_and_named(folder: Callable[..., Path]) -> None:
    root = folder()
    again = Image.open(root / "data" / "cats" / "3.png")
    again.save(root / "data" / "cats" / "copy.png")
    dataset = run(root, resolution=16)
    assert dataset.duplicates == 1
    table = pd.read_csv(dataset.folder / "left_out.csv")
    assert table.to_dict("records") == [{"path": "cats/copy.png", "reason": "same pixels as cats/3.png"}]


def test_a_picture_under_two_labels_is_used_under_neither(folder: Callable[..., Path]) -> None:
    root = folder()
    images = sum(run(root, resolution=16).splits.values())
    again = Image.open(root / "data" / "cats" / "3.png")
    for copy in ("dogs/copy.png", "dogs/again.png", "cats/copy.png"):
        again.save(root / "data" / copy)
    dataset = run(root, resolution=16)
    assert sum(dataset.splits.values()) == images - 1
    reasons = pd.read_csv(dataset.folder / "left_out.csv").set_index("path")["reason"]
    assert reasons.to_dict() == {
        "cats/3.png": "same pixels as dogs/copy.png, under another label: both are left out",
        "cats/copy.png": "same pixels as dogs/copy.png, under another label: both are left out",
        "dogs/again.png": "same pixels as cats/3.png, under another label: both are left out",
        "dogs/copy.png": "same pixels as cats/3.png, under another label: both are left out",
    }


HOSTILE = {
    "truncated.png": lambda png: png[: len(png) // 2],
    "flipped.png": lambda png: png[:80] + bytes([png[80] ^ 255]) + png[81:],
    "empty.png": lambda png: b"",
    "page.jpg": lambda png: b"<html>not a picture</html>",
}


def test_unreadable_files_go_to_the_table(folder: Callable[..., Path]) -> None:
    root = folder()
    png = (root / "data" / "cats" / "0.png").read_bytes()
    for name, spoil in HOSTILE.items():
        (root / "data" / "cats" / name).write_bytes(spoil(png))
    (root / "data" / "cats" / "odd\nname ü.png").write_bytes(b"x")
    Image.new("1", (10_000, 9_500)).save(root / "data" / "cats" / "bomb.png")
    Image.fromarray(np.zeros((8, 8), np.float32)).save(root / "data" / "cats" / "float.tiff")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with pytest.raises(UserError, match=r"7 of 127 files cannot be used .*max_rejected = 0.01"):
            run(root, resolution=16)
        assert not (root / "artifacts" / "dataset").exists()
        dataset = run(root, resolution=16, max_rejected=0.1)
    assert dataset.rejected == 7
    table = pd.read_csv(dataset.folder / "rejected.csv").set_index("path")["reason"]
    assert set(table.index) == {f"cats/{name}" for name in (*HOSTILE, "bomb.png", "float.tiff", r"odd\nname ü.png")}
    assert table["cats/empty.png"] == "empty file"
    assert table["cats/page.jpg"] == "not an image"
    assert "too many" in table["cats/bomb.png"]
    assert not table.str.contains(str(root)).any()
    assert not list((root / "artifacts").glob(".*"))


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (
            lambda data: (data / "notes.txt").write_text("hello"),
            "holds no images .* 2 x a text or table without images beside it",
        ),
        (lambda data: (data / "a.idx").write_bytes(idx(np.zeros((50, 8, 8), np.uint8))), "1 IDX files of images but 0"),
        (
            lambda data: [
                (data / "a.idx").write_bytes(idx(np.zeros((50, 8, 8), np.uint8))[:-1]),
                (data / "b.idx").write_bytes(idx(np.zeros(50, np.uint8))),
            ],
            "cut short",
        ),
        (
            lambda data: [
                (data / "a.idx").write_bytes(idx(np.zeros((50, 8, 8), np.uint8))),
                (data / "b.idx").write_bytes(idx(np.zeros(49, np.uint8))),
            ],
            "50 images but .* 49 labels",
        ),
        (
            lambda data: [
                (data / "a.idx").write_bytes(idx(np.ones((1, 8, 8), np.uint8))),
                (data / "b.idx").write_bytes(idx(np.array([1], np.uint8))),
            ],
            "only . distinct images",
        ),
        (lambda data: [(data / "cats").mkdir(), (data / "dogs").mkdir()], "2 x an empty folder, as cats"),
    ],
)
def test_data_that_cannot_be_used_is_one_sentence(tmp_path: Path, prepare: Any, message: str) -> None:
    (tmp_path / "data").mkdir()
    prepare(tmp_path / "data")
    with pytest.raises(UserError, match=message):
        (tmp_path / "data" / "licence.txt").write_text("a file that is no image")
        run(tmp_path, resolution=16)
    assert not (tmp_path / "artifacts" / "dataset").exists()
