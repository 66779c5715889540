"""Photos that are cut into pieces: which pieces, on which side, and what cannot be cut."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFilter

from components.gan.dataset import Split
from components.gan.errors import UserError
from components.ingest.decoding import decoded
from components.ingest.patches import patches
from components.workspace.artifacts import Dataset
from components.workspace.params import Params, Preprocess
from tests.conftest import SPLITS, Pixels, ganflow, made_dataset, refused, succeeded

SIDE = 32
ID = b"a photo's name  "


def options(**changes: Any) -> Preprocess:
    return Preprocess(**{"resolution": SIDE, "fit": "patches", **changes})


def photo(seed: int, width: int = 160, height: int = 96) -> Image.Image:
    """A colourful photo of soft shapes and fine grain, like no other one."""
    rng = np.random.default_rng(seed)
    soft = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)).resize((width, height))
    return Image.fromarray(np.asarray(soft) // 2 + rng.integers(0, 60, (height, width, 3), dtype=np.uint8))


def saved(image: Image.Image, kind: str = "png", **how: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def cut(content: bytes, **changes: Any) -> Pixels:
    made = list(decoded(content, options(**changes)))
    assert not any(isinstance(piece, str) for piece in made), made
    return np.stack([piece.pixels for piece in made if not isinstance(piece, str)])


def reasons(content: bytes, **changes: Any) -> list[str]:
    return [piece for piece in decoded(content, options(**changes)) if isinstance(piece, str)]


def cells(photo: Pixels) -> Pixels:
    """All whole pieces of a photo, in order, of the grid in its middle."""
    rows, columns = photo.shape[0] // SIDE, photo.shape[1] // SIDE
    top, left = (photo.shape[0] - rows * SIDE) // 2, (photo.shape[1] - columns * SIDE) // 2
    inner = photo[top : top + rows * SIDE, left : left + columns * SIDE]
    return inner.reshape(rows, SIDE, columns, SIDE, -1).swapaxes(1, 2).reshape(rows * columns, SIDE, SIDE, -1)


def folder(root: Path, count: int = 60) -> Path:
    (root / "data").mkdir(parents=True)
    for number in range(count):
        photo(number).save(root / "data" / f"{number:03}.png")
    return root


def pieces_of(dataset: Dataset, split: Any) -> Pixels:
    found = Split(dataset.folder, split, dataset.image)
    return found.pixels(np.arange(len(found)))


def groups_of(dataset: Dataset, split: str) -> np.ndarray[Any, Any]:
    return np.asarray(np.load(dataset.folder / f"{split}-groups.npy"))


# --- which pieces ---


def test_a_photo_is_cut_into_all_its_pieces_unscaled() -> None:
    whole = np.asarray(photo(0, 170, 103))
    assert (cut(saved(photo(0, 170, 103))) == cells(whole)).all()


def test_of_many_pieces_some_are_drawn_evenly_by_the_photo_itself() -> None:
    whole = np.arange(320 * 320 * 3).astype(np.uint8).reshape(320, 320, 3)
    rows, columns = np.indices((320, 320)) // SIDE
    whole[:, :, 0], whole[:, :, 1] = rows, columns

    def drawn(identity: bytes, wanted: int) -> list[int]:
        found = patches(whole, identity, options(patches_per_file=wanted))
        return [int(piece[0, 0, 0]) * 10 + int(piece[0, 0, 1]) for piece in found]

    ten = drawn(ID, 10)
    # One of each tenth of the picture, here a row of its grid, and not always the same place in it.
    assert [cell // 10 for cell in ten] == list(range(10))
    assert len({cell % 10 for cell in ten}) > 3
    assert drawn(ID, 10) == ten
    assert drawn(b"another photo   ", 10) != ten
    assert drawn(ID, 100) == drawn(ID, 1000) == list(range(100))
    assert len(set(drawn(ID, 64))) == 64
    # Over many photos every place comes as often.
    counts = np.bincount([cell for n in range(2000) for cell in drawn(n.to_bytes(16, "big"), 3)], minlength=100)
    assert counts.min() > 30 and counts.max() < 95


def test_a_photo_is_upright_before_it_is_cut() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = photo(0).rotate(90, expand=True)
    assert (cut(saved(turned, "png", exif=exif)) == cells(np.asarray(photo(0)))).all()


def test_a_large_jpeg_is_not_shrunk_by_its_decoder() -> None:
    content = saved(photo(0, 1280, 960), "jpeg", quality=95)
    with Image.open(io.BytesIO(content)) as image:
        whole = np.asarray(image.convert("RGB"))
    assert (cut(content, patches_per_file=10_000) == cells(whole)).all()


def test_photos_are_made_smaller_before_they_are_cut() -> None:
    half = photo(0, 320, 192).resize((160, 96), Image.Resampling.LANCZOS)
    assert (cut(saved(photo(0, 320, 192)), reduce=2) == cells(np.asarray(half))).all()
    (reason,) = reasons(saved(photo(0, 63, 400)), reduce=2)
    assert "31x200 after preprocess.reduce = 2, smaller than a piece of 32x32" in reason


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("png", lambda image: image.convert("P")),
        ("tiff", lambda image: image.convert("CMYK")),
        ("jpeg", lambda image: image.convert("CMYK")),
        ("png", lambda image: image.convert("RGBA")),
        ("png", lambda image: image.convert("LA")),
        ("png", lambda image: image.convert("1")),
        ("webp", lambda image: image),
        ("gif", lambda image: image),
    ],
)
def test_pictures_of_any_mode_are_cut(kind: str, how: Any) -> None:
    content = saved(how(photo(0)), kind)
    made = cut(content)
    assert made.shape[:3] == (15, SIDE, SIDE)
    with Image.open(io.BytesIO(content)) as image:
        grey = image.mode in ("LA", "1", "L")
        whole = np.atleast_3d(np.asarray(image.convert("L" if grey else "RGB")))
    assert (made == cells(whole)).all()


def test_transparency_is_laid_on_the_background_or_kept() -> None:
    image = photo(0).convert("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    assert (cut(saved(image)) == 255).all()
    assert (cut(saved(image), background="black") == 0).all()
    kept = cut(saved(image), channels=4)
    assert kept.shape == (15, SIDE, SIDE, 4) and not kept[..., 3].any()


def test_sixteen_bits_and_arrays_are_cut() -> None:
    values = np.asarray(photo(0).convert("L")).astype(np.uint16) * 257
    assert (cut(saved(Image.fromarray(values)))[..., 0] == cells(values // 257)[..., 0]).all()
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(photo(0)))
    assert (cut(buffer.getvalue()) == cells(np.asarray(photo(0)))).all()


def test_of_an_animation_the_first_frame_is_cut() -> None:
    content = saved(photo(0), "png", save_all=True, append_images=[photo(1), photo(2)])
    assert (cut(content) == cells(np.asarray(photo(0)))).all()


def test_a_colour_photo_stays_in_colour_where_a_piece_is_grey() -> None:
    whole = np.asarray(photo(0)).copy()
    whole[:SIDE, :SIDE] = 128
    assert cut(saved(Image.fromarray(whole))).shape[-1] == 3


def test_one_enormous_photo_takes_no_more_memory_than_itself() -> None:
    content = saved(Image.new("RGB", (8000, 8000), (9, 80, 70)))
    next(iter(decoded(content, options())))
    tracemalloc.start()
    made = list(decoded(content, options(patches_per_file=50)))
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(made) == 50
    # NumPy's share: the pieces are copies, and keep no photo.
    assert held < 2 * 2**20
    assert peak < 4 * 8000 * 8000 * 3


# --- what cannot be cut ---


@pytest.mark.parametrize(("width", "height"), [(31, 200), (200, 31), (1, 1)])
def test_photos_smaller_than_a_piece_are_rejected(width: int, height: int) -> None:
    assert reasons(saved(photo(0, width, height))) == [f"{width}x{height}, smaller than a piece of 32x32"]
    assert cut(saved(photo(0, 32, 32))).shape == (1, 32, 32, 3)


def test_broken_and_too_large_ones_are_rejected() -> None:
    assert len(reasons(saved(photo(0))[:300])) == 1
    assert reasons(b"no picture") != []
    (reason,) = reasons(saved(photo(0)), limits={"pixels": 1000})
    assert "too many pixels" in reason


def test_small_and_broken_photos_are_listed_and_the_rest_is_cut(tmp_path: Path) -> None:
    root = folder(tmp_path)
    photo(99, 31, 90).save(root / "data" / "thumbnail.png")
    (root / "data" / "broken.png").write_bytes((root / "data" / "000.png").read_bytes()[:200])
    with pytest.raises(UserError, match=r"2 of 62 files cannot be used .*max_rejected"):
        made_dataset(root, options())
    dataset = made_dataset(root, options(max_rejected=0.1))
    assert sum(dataset.splits.values()) == 60 * 15
    table = pd.read_csv(dataset.folder / "rejected.csv").set_index("path")["reason"]
    assert table["thumbnail.png"] == "31x90, smaller than a piece of 32x32"
    assert set(table.index) == {"thumbnail.png", "broken.png"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ("{fit: patches, frames: all}", "set frames to first"),
        ("{reduce: 2}", "reduce is for fit: patches"),
        ("{fit: patches, reduce: 0}", "preprocess.reduce = 0 is not allowed"),
        ("{fit: patches, reduce: 1.5}", "preprocess.reduce = 1.5 is not allowed"),
        ("{fit: patches, patches_per_file: 0}", "preprocess.patches_per_file = 0 is not allowed"),
        ("{fit: patch}", "preprocess.fit = 'patch' is not allowed"),
    ],
)
def test_options_that_make_no_sense_are_refused_in_a_sentence(changes: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(f"preprocess: {changes}\n")
    with pytest.raises(UserError, match=words):
        Params.load(tmp_path / "params.yaml")


def test_a_folder_of_thumbnails_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for number in range(40):
        photo(number, 30, 30).save(tmp_path / "data" / f"{number}.png")
    (tmp_path / "params.yaml").write_text("preprocess: {resolution: 32, fit: patches}\n")
    told = refused(tmp_path, "preprocess")
    assert "none of 40 files can be used (the first: 0.png: 30x30, smaller than a piece of 32x32)" in told
    assert not (tmp_path / "artifacts" / "dataset").exists()


# --- sides ---


def test_all_pieces_of_a_photo_stand_on_one_side_and_are_one_group(tmp_path: Path) -> None:
    root = folder(tmp_path)
    dataset = made_dataset(root, options(development=0.2))
    where = {piece.tobytes(): (split, group) for split in SPLITS for piece, group in _with_groups(dataset, split)}
    assert len(where) == 60 * 15
    for number in range(60):
        places = {where[piece.tobytes()] for piece in cells(np.asarray(photo(number)))}
        assert len(places) == 1
    assert len(set(where.values())) == 60
    assert {split for split, _ in where.values()} == set(SPLITS)


def _with_groups(dataset: Dataset, split: str) -> list[tuple[Pixels, int]]:
    return list(zip(pieces_of(dataset, split), groups_of(dataset, split).tolist(), strict=True))


def test_a_photo_stays_on_its_side_however_it_is_cut_and_whatever_joins(tmp_path: Path) -> None:
    def sides(dataset: Dataset) -> dict[int, str]:
        return {
            int(each): split for split in SPLITS for each in np.load(dataset.folder / f"{split}-identities.npy")[:, 0]
        }

    root = folder(tmp_path / "a")
    first = sides(made_dataset(root, options()))
    again = sides(made_dataset(folder(tmp_path / "b", 80), options(resolution=24, patches_per_file=3)))
    whole = sides(made_dataset(folder(tmp_path / "c"), Preprocess(resolution=16)))
    assert len(first) == 60 and len(again) == 80
    assert first == {each: again[each] for each in first} == whole


def test_photos_that_are_nearly_the_same_stand_on_one_side(tmp_path: Path) -> None:
    root = folder(tmp_path)
    for number in range(20):
        softer = photo(number).filter(ImageFilter.GaussianBlur(0.6))
        softer.resize((320, 192)).save(root / "data" / f"edited-{number}.jpg", quality=85)
    dataset = made_dataset(root, options(development=0.2))
    assert dataset.near_groups == 20
    assert dataset.near_duplicates == 20 * (15 + 60)
    groups = [set(groups_of(dataset, split).tolist()) for split in SPLITS]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 60
    sizes = np.bincount(np.concatenate([groups_of(dataset, split) for split in SPLITS]))
    assert sorted(np.unique(sizes[sizes > 0]).tolist()) == [15, 75]


def test_the_same_photo_twice_counts_once(tmp_path: Path) -> None:
    root = folder(tmp_path)
    photo(7).save(root / "data" / "again.webp", lossless=True)
    dataset = made_dataset(root, options())
    assert sum(dataset.splits.values()) == 60 * 15
    assert dataset.duplicates == 1
    table = pd.read_csv(dataset.folder / "left_out.csv").set_index("path")["reason"]
    assert table["again.webp"] == "same pixels as 007.png"


def test_the_same_photo_under_two_labels_is_left_out_whole(tmp_path: Path) -> None:
    for label in ("rome", "oslo"):
        (tmp_path / "data" / label).mkdir(parents=True)
    for number in range(60):
        photo(number).save(tmp_path / "data" / ("rome" if number % 2 else "oslo") / f"{number}.png")
    photo(0).save(tmp_path / "data" / "rome" / "again.png")
    dataset = made_dataset(tmp_path, options())
    assert sum(dataset.splits.values()) == 59 * 15
    held = {piece.tobytes() for split in SPLITS for piece in pieces_of(dataset, split)}
    assert not held & {piece.tobytes() for piece in cells(np.asarray(photo(0)))}


def test_a_black_border_connects_no_photos_and_counts_once(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for number in range(60):
        framed = Image.new("RGB", (160, 160))
        framed.paste(photo(number), (0, 32))
        framed.save(tmp_path / "data" / f"{number:03}.png")
    dataset = made_dataset(tmp_path, options())
    # Of the ten black pieces of each photo one is left in all.
    assert sum(dataset.splits.values()) == 60 * 15 + 1
    assert all(dataset.splits.values())
    reasons = pd.read_csv(dataset.folder / "left_out.csv")["reason"]
    assert reasons.value_counts().to_dict() == {
        "10 of its 25 pieces: same pixels as other pieces": 59,
        "9 of its 25 pieces: same pixels as other pieces": 1,
    }
    assert dataset.duplicates == 0


def test_splits_that_the_folders_name_hold_for_pieces(tmp_path: Path) -> None:
    for number in range(60):
        name = "test" if number < 10 else "train"
        (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
        photo(number).save(tmp_path / "data" / name / f"{number}.png")
    assert made_dataset(tmp_path, options()).splits["holdout"] == 10 * 15


# --- the same bytes ---


def test_parts_and_their_number_change_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.preprocess.PIXEL_BYTES", 1)
    some = made_dataset(folder(tmp_path / "a"), options(resolution=8))
    monkeypatch.undo()
    whole = made_dataset(folder(tmp_path / "b"), options(resolution=8))
    assert some.files == whole.files


def test_the_command_tells_of_photos_and_pieces(tmp_path: Path) -> None:
    root = folder(tmp_path)
    (root / "params.yaml").write_text("preprocess: {resolution: 32, fit: patches, development: 0.2}\n")
    out = succeeded(ganflow(root, "preprocess"))
    dataset = Dataset.load(root / "artifacts" / "dataset")
    photos = [len(set(groups_of(dataset, split).tolist())) for split in ("training", "development", "holdout")]
    assert f"900 pieces of 60 photos: {photos[0]} to train on, {photos[1]} for development, {photos[2]} held out" in out
