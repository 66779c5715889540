"""On which side images stand: by what they are, groups on one side, and nobody moves as data are added."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.gan.dataset import Split
from components.gan.errors import UserError
from components.ingest.decoding import digest_of
from components.ingest.identity import traits_of, traits_of_array
from components.workspace.artifacts import Dataset
from components.workspace.files import sealed
from components.workspace.params import Preprocess
from tests.conftest import SPLITS, made_dataset
from tests.ingest.test_identity import photo


def known(dataset: Dataset) -> dict[bytes, str]:
    return {row.tobytes(): name for name in SPLITS for row in np.load(dataset.folder / f"{name}-identities.npy")}


def folder_of(root: Path, images: dict[str, Image.Image], **options: Any) -> Path:
    for name, image in images.items():
        (root / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(root / "data" / name, **options)
    return root


def test_sides_follow_from_images_whatever_the_options_and_the_format(tmp_path: Path) -> None:
    images = [photo(seed) for seed in range(120)]
    png = folder_of(tmp_path / "png", {f"{i}.png": image for i, image in enumerate(images)})
    first = known(made_dataset(png, Preprocess(resolution=16)))
    assert len(first) == 120
    for options in ({"fit": "stretch"}, {"fit": "pad"}, {"resolution": 24}, {"channels": 1}):
        again = made_dataset(png, Preprocess(**{"resolution": 16, **options}))
        assert known(again) == first
        assert len(Split(again.folder, "holdout", again.image)) == again.splits["holdout"]
    webp = folder_of(tmp_path / "webp", {f"x{i}.webp": image for i, image in enumerate(images)}, lossless=True)
    assert known(made_dataset(webp, Preprocess(resolution=16))) == first


def twins_of(i: int) -> tuple[str, str]:
    return f"{i}.png", f"{'a' if i % 4 else '0'}-{i}.jpg"


def test_near_duplicates_stand_on_one_side_and_newcomers_move_nobody(tmp_path: Path) -> None:
    """The named finding: of re-encoded copies a sixth had their twin on the other side."""
    images = {f"{i}.png": photo(seed) for i, seed in enumerate(range(200))}
    root = folder_of(tmp_path, images)
    before = known(made_dataset(root, Preprocess(resolution=16)))
    # Some come before and some after the others in the order of names.
    for i in range(0, 200, 2):
        images[f"{i}.png"].save(root / "data" / twins_of(i)[1], quality=85)
    dataset = made_dataset(root, Preprocess(resolution=16))
    after = known(dataset)
    assert before.items() <= after.items()
    assert (dataset.near_duplicates, dataset.near_groups, dataset.between_sides) == (200, 100, 0)
    assert sum(dataset.splits.values()) == 300
    side = {
        name: after[traits_of(Image.open(root / "data" / name)).identity]
        for name in (path.name for path in (root / "data").iterdir())
    }
    for i in range(0, 200, 2):
        assert len({side[name] for name in twins_of(i)}) == 1
    # All at once, without an earlier data set, a group stands on one side as well.
    shutil.rmtree(root / "artifacts")
    fresh = known(made_dataset(root, Preprocess(resolution=16)))
    for i in range(0, 200, 2):
        one, other = (traits_of(Image.open(root / "data" / name)).identity for name in twins_of(i))
        assert fresh[one] == fresh[other]
    parted = made_dataset(root, Preprocess(resolution=16, near_duplicates=False))
    assert parted.near_duplicates == 0


def test_who_would_join_two_sides_is_left_out_and_named(tmp_path: Path) -> None:
    """A wide picture, the whole of which is nearly one image and whose middle another."""
    root = folder_of(tmp_path, {f"{seed:03}.png": photo(seed, 64, 64) for seed in range(100)})
    sides = known(made_dataset(root, Preprocess(resolution=16)))
    learned = next(photo(i, 64, 64) for i in range(100) if sides[traits_of(photo(i, 64, 64)).identity] == "training")
    wide = photo(500, 192, 64)
    wide.paste(learned.point(lambda value: round(value * 0.95)), (64, 0))
    whole = np.asarray(wide.resize((64, 64), Image.Resampling.LANCZOS)).copy()
    # Of the images that differ from it by one value one that is held out.
    for value in range(256):
        whole[0, 0, 0] = value
        if int.from_bytes(traits_of_array(whole).identity[:8], "big") < 0.2 * 2**64:
            break
    folder_of(root, {"zz.png": Image.fromarray(whole)})
    before = known(made_dataset(root, Preprocess(resolution=16)))
    assert before[traits_of_array(whole).identity] == "holdout"
    folder_of(root, {"between.png": wide})
    dataset = made_dataset(root, Preprocess(resolution=16))
    assert known(dataset) == before
    assert (dataset.between_sides, dataset.rejected) == (1, 0)
    assert "between.png,nearly the same as" in (dataset.folder / "left_out.csv").read_text().replace('"', "")


def test_a_held_out_image_that_is_named_so_and_nearly_stands_in_training_is_left_out(tmp_path: Path) -> None:
    """As 3 % of the test images of CIFAR-10 do."""
    train = {f"train/{seed}.png": photo(seed) for seed in range(60)}
    test = {f"test/{seed}.png": photo(seed) for seed in range(100, 120)}
    twins = {f"test/twin{seed}.png": photo(seed).resize((48, 32), Image.Resampling.LANCZOS) for seed in range(5)}
    dataset = made_dataset(folder_of(tmp_path, train | test | twins), Preprocess(resolution=16))
    assert (dataset.splits["holdout"], dataset.between_sides) == (20, 5)
    assert dataset.splits["training"] + dataset.splits["development"] == 60


@pytest.mark.parametrize(
    ("names", "development"), [(("train", "val", "test"), 20), (("train", "valid"), None), (("train", "test"), None)]
)
def test_named_splits_are_kept(names: tuple[str, ...], development: int | None, tmp_path: Path) -> None:
    """Of `val` and `test` the first is for development; where one of both is there, it is the holdout."""
    images = {
        f"{name}/{i}.png": photo(100 * at + i) for at, name in enumerate(names) for i in range(60 if not at else 20)
    }
    splits = made_dataset(folder_of(tmp_path, images), Preprocess(resolution=16)).splits
    assert splits["holdout"] == 20
    assert splits["training"] + splits["development"] == 60 + (development or 0)
    assert splits["development"] == development or (development is None and 0 < splits["development"] < 12)


def test_a_film_is_one_group_and_the_error_names_the_option(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scene = np.asarray(photo(0)).astype(int)
    frames = {
        f"{i}.png": Image.fromarray((scene + rng.integers(-2, 3, scene.shape)).clip(0, 255).astype(np.uint8))
        for i in range(60)
    }
    root = folder_of(tmp_path, frames)
    with pytest.raises(UserError, match=r"60 are near-duplicates of each other.*preprocess\.near_duplicates: false"):
        made_dataset(root, Preprocess(resolution=16))
    assert sum(made_dataset(root, Preprocess(resolution=16, near_duplicates=False)).splits.values()) == 60


@pytest.mark.parametrize(("files", "frames"), [(10, 12), (30, 5)])
def test_whole_files_are_held_out_and_no_class_is_refused_for_that(tmp_path: Path, files: int, frames: int) -> None:
    """Of 10 animations none, or 5, may be held out: far from a share of 0.2 of the images, and right by the files."""
    rng = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(files):
            images = [Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)) for _ in range(frames)]
            images[0].save(tmp_path / "data" / name / f"{i}.gif", save_all=True, append_images=images[1:])
    dataset = made_dataset(tmp_path, Preprocess(resolution=16, frames="all"))
    assert sum(dataset.splits.values()) == 2 * files * frames
    assert all(count % frames == 0 for counts in dataset.class_counts.values() for count in counts.values())
    for name in SPLITS:
        groups = np.load(dataset.folder / f"{name}-groups.npy")
        assert set(np.bincount(groups)) <= {0, frames}


def test_an_earlier_data_set_of_pixels_alone_decides_where_its_images_stand(tmp_path: Path) -> None:
    """What a champion learned from is not held out from now on."""
    root = folder_of(tmp_path, {f"{seed}.png": photo(seed) for seed in range(150)})
    dataset = made_dataset(root, Preprocess(resolution=16))
    images = {name: Split(dataset.folder, name, dataset.image) for name in SPLITS}
    digests = {name: [digest_of(p) for p in each.pixels(np.arange(len(each)))] for name, each in images.items()}
    held = {digest for each in digests.values() for digest in each if _place(digest) < 0.2}
    for file in dataset.folder.iterdir():
        if file.name.endswith(("-identities.npy", "-places.npy")):
            file.unlink()
    described = dataset.model_dump(mode="json")
    files = {name: record for name, record in described["files"].items() if (dataset.folder / name).exists()}
    old = described | {"files": files, "key": described["key"] | {"code": "of an earlier version"}}
    (dataset.folder / "dataset.json").write_text(sealed(old))
    again = made_dataset(root, Preprocess(resolution=16))
    split = Split(again.folder, "holdout", again.image)
    assert {digest_of(pixels) for pixels in split.pixels(np.arange(len(split)))} == held


def _place(digest: bytes) -> float:
    return int.from_bytes(digest[:8], "big") / 2**64
