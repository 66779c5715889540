"""The same pictures in every container that is read, and what hostile ones do."""

from __future__ import annotations

import io
import json
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from components.gan.dataset import Split
from components.gan.errors import UserError
from components.workspace.artifacts import Dataset
from components.workspace.params import Preprocess
from tests.conftest import SPLITS, made_dataset

Files = dict[str, bytes]
CLASSES = ("cats", "dogs", "owls")


def png(number: int, size: tuple[int, int] = (20, 20)) -> bytes:
    """A colour picture that no other number has."""
    rng = np.random.default_rng(number)
    small = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    small.resize(size, Image.Resampling.BICUBIC).save(buffer, "png")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def pictures() -> Files:
    """120 pictures as `cats/000.png`; each name tells the class."""
    return {f"{CLASSES[i % 3]}/{i:03d}.png": png(i) for i in range(120)}


def run(root: Path, **options: object) -> Dataset:
    options = {"resolution": 16, **options}
    return made_dataset(root, Preprocess(**options))  # type: ignore[arg-type]


def contents(dataset: Dataset) -> dict[bytes, tuple[str, str]]:
    """Pixels -> class and split, of all images."""
    found = {}
    for split in SPLITS:
        data = Split(dataset.folder, split, dataset.image)
        for pixels, label in zip(data.pixels(np.arange(len(data))), data.labels, strict=True):
            found[pixels.tobytes()] = dataset.image.classes[label], split
    return found


def as_folder(data: Path, pictures: Files) -> None:
    for name, content in pictures.items():
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(content)


def as_folder_in_a_folder(data: Path, pictures: Files) -> None:
    as_folder(data / "photos" / "all", pictures)


def as_zip(data: Path, pictures: Files) -> None:
    with zipfile.ZipFile(data / "pictures.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__MACOSX/cats/._000.png", b"x")
        archive.writestr("pictures/readme.txt", "hello")
        for name, content in pictures.items():
            archive.writestr(f"pictures/{name}", content)


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def as_tar(data: Path, pictures: Files) -> None:
    with tarfile.open(data / "pictures.tar", "w") as archive:
        for name, content in pictures.items():
            add(archive, f"./{name}", content)


def as_gzipped_tars(data: Path, pictures: Files) -> None:
    for half in range(2):
        with tarfile.open(data / f"part{half}.tar.gz", "w:gz") as archive:
            for name, content in list(pictures.items())[half::2]:
                add(archive, name, content)


def as_webdataset(data: Path, pictures: Files) -> None:
    for shard in range(3):
        with tarfile.open(data / f"shard-{shard:03d}.tar", "w") as archive:
            for number, (name, content) in enumerate(list(pictures.items())[shard::3]):
                label = name.split("/")[0]
                add(archive, f"{number:05d}.png", content)
                if shard:
                    add(archive, f"{number:05d}.json", json.dumps({"label": label, "caption": "a.b"}).encode())
                else:
                    add(archive, f"{number:05d}.cls", label.encode())


def as_parquet_of_a_hub(data: Path, pictures: Files) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": list(CLASSES)}}
    schema = pa.schema([("image", kind), ("label", pa.int64())]).with_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    for half in range(2):
        rows = [
            {"image": {"bytes": content, "path": None}, "label": CLASSES.index(name.split("/")[0])}
            for name, content in list(pictures.items())[half::2]
        ]
        pq.write_table(pa.Table.from_pylist(rows, schema), data / f"data-{half:05d}.parquet", row_group_size=7)


def as_parquet_by_pandas(data: Path, pictures: Files) -> None:
    rows = [{"id": i, "img": c, "category": n.split("/")[0]} for i, (n, c) in enumerate(pictures.items())]
    pd.DataFrame(rows).to_parquet(data / "table.parquet")


def as_table(data: Path, pictures: Files) -> None:
    flat = {name.replace("/", "-"): content for name, content in pictures.items()}
    as_folder(data / "images", flat)
    rows = [{"path": f"images/{name}", "label": name.split("-")[0]} for name in flat]
    pd.DataFrame(rows).to_csv(data / "labels.csv", index=False)


FORMS = [
    as_folder_in_a_folder,
    as_zip,
    as_tar,
    as_gzipped_tars,
    as_webdataset,
    as_parquet_of_a_hub,
    as_parquet_by_pandas,
    as_table,
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_every_container_gives_the_same_images_classes_and_splits(
    tmp_path: Path, pictures: Files, form: Callable[[Path, Files], None]
) -> None:
    for name, make in (("plain", as_folder), ("packed", form)):
        (tmp_path / name / "data").mkdir(parents=True)
        make(tmp_path / name / "data", pictures)
    plain, packed = run(tmp_path / "plain"), run(tmp_path / "packed")
    assert packed.image.classes == CLASSES
    assert packed.rejected == 0
    assert contents(packed) == contents(plain)
    assert len(contents(plain)) == 120
    assert not list((tmp_path / "packed" / ".ganflow").rglob("*.npy"))


def test_images_without_labels_are_one_class(tmp_path: Path, pictures: Files) -> None:
    as_folder(tmp_path / "data", {name.rpartition("/")[2]: content for name, content in pictures.items()})
    dataset = run(tmp_path)
    assert dataset.image.classes == ("image",)
    assert not dataset.image.labelled
    (tmp_path / "other" / "data").mkdir(parents=True)
    as_folder(tmp_path / "other" / "data" / "faces", {n.rpartition("/")[2]: c for n, c in pictures.items()})
    assert run(tmp_path / "other").image.classes == ("faces",)


def test_folders_of_splits_are_kept(tmp_path: Path, pictures: Files) -> None:
    split = {("test/" if i % 4 == 0 else "train/") + name: c for i, (name, c) in enumerate(pictures.items())}
    as_folder(tmp_path / "data", split)
    dataset = run(tmp_path)
    assert dataset.image.classes == CLASSES
    development = dataset.splits["development"]
    assert dataset.splits == {"training": 90 - development, "development": development, "holdout": 30}
    assert 0 < dataset.splits["development"] < 15


def test_a_table_gives_labels_and_splits(tmp_path: Path, pictures: Files) -> None:
    as_folder(tmp_path / "data", pictures)
    (tmp_path / "secret.png").write_bytes(png(999))
    rows = [
        {"path": name, "label": "even" if i % 2 == 0 else "odd", "split": "test" if i < 20 else "train"}
        for i, name in enumerate(pictures)
    ]
    rows += [
        {"path": "../secret.png", "label": "odd", "split": "train"},
        {"path": "cats/gone.png", "label": "odd", "split": "train"},
        {"path": "cats/000.png", "label": "even", "split": "test"},
        {"path": "./cats/003.png", "label": "even", "split": "test"},
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "data" / "labels.csv", index=False)
    dataset = run(tmp_path, max_rejected=0.05)
    assert dataset.image.classes == ("even", "odd")
    development = dataset.splits["development"]
    assert dataset.splits == {"training": 100 - development, "development": development, "holdout": 19}
    table = pd.read_csv(dataset.folder / "rejected.csv").set_index("path")["reason"]
    assert "lies outside the data" in table["../secret.png"]
    assert "no such file" in table["cats/gone.png"]
    assert table["cats/003.png"] == "has several labels in a table"


def test_images_beside_class_folders_are_named(tmp_path: Path, pictures: Files) -> None:
    as_folder(tmp_path / "data", {**pictures, "stray.png": png(500)})
    dataset = run(tmp_path)
    assert pd.read_csv(dataset.folder / "left_out.csv").to_dict("records") == [
        {"path": "stray.png", "reason": "lies beside the class folders"}
    ]


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda data: (data / "a.zip").write_bytes(b"PK\x03\x04" + b"x" * 600), r"a.zip is not a zip archive"),
        (lambda data: (data / "a.parquet").write_bytes(b"PAR1" + b"x" * 600), r"a.parquet is not a Parquet file"),
        (
            lambda data: pq.write_table(pa.table({"x": [1], "y": ["z"]}), data / "a.parquet"),
            r"a.parquet has no column of image bytes; its columns: x, y",
        ),
        (
            lambda data: [
                (data / "a.png").write_bytes(png(1)),
                (data / "labels.csv").write_text("path,split\na.png,never\n"),
            ],
            r"the split 'never'",
        ),
        (
            lambda data: [
                (data / "a.zip").write_bytes(b"PK\x05\x06" + bytes(18)),
                pq.write_table(pa.table({"image": [b"x"]}), data / "a.parquet"),
            ],
            r"in several ways: 1 Parquet files \(a.parquet\), 1 zip archives \(a.zip\)",
        ),
        (
            lambda data: (data / "a.zip").write_bytes(b"PK\x05\x06" + bytes(18)),
            r"holds no images that ganflow can read",
        ),
        (
            lambda data: as_tar(data, {f"../{number}.png": png(number) for number in range(3)}),
            r"3 x its name leads out of the archive, as pictures.tar/../0.png",
        ),
        (
            lambda data: as_zip(data, {"a/../../0.png": png(0)}),
            r"1 x its name leads out of the archive, as pictures.zip/pictures/a/../../0.png",
        ),
        (lambda data: (data / "deep").mkdir(), r"1 x an empty folder"),
    ],
)
def test_containers_that_cannot_be_used_are_one_sentence(
    tmp_path: Path, prepare: Callable[[Path], object], message: str
) -> None:
    (tmp_path / "data").mkdir()
    prepare(tmp_path / "data")
    (tmp_path / "data" / "notes.txt").write_text("a file that is no image")
    with pytest.raises(UserError, match=message):
        run(tmp_path)
    assert not (tmp_path / "artifacts" / "dataset").exists()


def test_hostile_members_of_archives_are_rejected_one_by_one(tmp_path: Path, pictures: Files) -> None:
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in pictures.items():
            archive.writestr(name, content)
        archive.writestr("cats/../../../evil.png", png(700))
        archive.writestr("cats/bomb.png", bytes(600 * 2**20))
        archive.writestr("cats/page.jpg", "<html>")
        archive.writestr(zipfile.ZipInfo("cats/packed.png"), png(701), zipfile.ZIP_LZMA)
    dataset = run(tmp_path, max_rejected=0.1)
    table = pd.read_csv(dataset.folder / "rejected.csv").set_index("path")["reason"]
    assert table["a.zip/cats/bomb.png"] == "too large a file"
    assert table["a.zip/cats/page.jpg"] == "not an image"
    assert table["a.zip/cats/packed.png"] == "is packed by a method that is not known"
    assert dataset.image.classes == CLASSES
    assert not list(tmp_path.parent.glob("**/evil.png"))


def test_a_gzip_bomb_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with tarfile.open(tmp_path / "data" / "a.tar.gz", "w:gz", compresslevel=9) as archive:
        add(archive, "a/zeros.png", bytes(300 * 2**20))
    with pytest.raises(UserError, match="grows more than 200-fold"):
        run(tmp_path)


def test_links_and_pipes_do_not_stop_the_work(tmp_path: Path, pictures: Files) -> None:
    as_folder(tmp_path / "data", pictures)
    (tmp_path / "data" / "cats" / "loop.png").symlink_to("loop.png")
    (tmp_path / "private.png").write_bytes(png(702))
    (tmp_path / "data" / "cats" / "outside.png").symlink_to(tmp_path / "private.png")
    (tmp_path / "data" / "cats" / "inside.png").symlink_to("000.png")
    os.mkfifo(tmp_path / "data" / "cats" / "pipe.png")
    dataset = run(tmp_path, max_rejected=0.05)
    table = pd.read_csv(dataset.folder / "rejected.csv").set_index("path")["reason"]
    assert "symbolic links" in table["cats/loop.png"]
    assert table["cats/pipe.png"] == "not a regular file"
    left = pd.read_csv(dataset.folder / "left_out.csv").set_index("path")["reason"]
    assert left["cats/outside.png"].startswith("a link that leads out of the data")
    assert "same pixels" in left["cats/inside.png"]


def test_many_tiny_files_and_names_that_are_no_text(tmp_path: Path, pictures: Files) -> None:
    as_folder(tmp_path / "data", pictures)
    cats = tmp_path / "data" / "cats"
    (cats / os.fsdecode(b"\xff\xfe.png")).write_bytes(png(703))
    for i in range(20_000):
        (cats / f"tiny-{i}.png").touch()
    dataset = run(tmp_path, max_rejected=1)
    table = pd.read_csv(dataset.folder / "rejected.csv")["reason"]
    assert (table == "empty file").sum() == dataset.rejected == 20_000
    assert sum(dataset.splits.values()) == len(pictures) + 1


# --- shapes, channels, frames ---


def only(root: Path, **options: object) -> list[np.ndarray]:
    """All images of a data set."""
    dataset = run(root, max_rejected=0.5, **options)
    parts = (Split(dataset.folder, name, dataset.image) for name in SPLITS)
    return [pixels for part in parts for pixels in part.pixels(np.arange(len(part)))]


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_pictures_that_are_not_square(tmp_path: Path, fit: str) -> None:
    """Left half red, right half blue, twice as wide as high: what is left of it at 16x16 and at 16x32."""

    def like(pixels: np.ndarray, colour: tuple[int, int, int]) -> bool:
        return bool((np.abs(pixels.astype(int) - colour) < 20).all())  # Lanczos rings beside an edge

    picture = np.zeros((40, 80, 3), np.uint8)
    picture[:, :40], picture[:, 40:] = (255, 0, 0), (0, 0, 255)
    as_folder(tmp_path / "data", {f"{i}.png": png(i, (80, 40)) for i in range(60)})
    Image.fromarray(picture).save(tmp_path / "data" / "flag.png")

    def flag(**options: object) -> np.ndarray:
        found = only(tmp_path, fit=fit, **options)
        left_red = [p for p in found if like(p[p.shape[0] // 2, 0], (255, 0, 0))]
        (one,) = [p for p in left_red if like(p[p.shape[0] // 2, -1], (0, 0, 255))]
        return one

    square = flag(resolution=16)
    assert square.shape == (16, 16, 3)
    assert (square[0] == 255).all() == (fit == "pad")
    assert like(square[8, :6], (255, 0, 0)) and like(square[8, 10:], (0, 0, 255))
    wide = flag(resolution=(16, 32))
    assert wide.shape == (16, 32, 3)
    assert like(wide[:, :14], (255, 0, 0)) and like(wide[:, 18:], (0, 0, 255))


def test_transparency_is_kept_or_laid_on_a_background(tmp_path: Path) -> None:
    for i in range(60):
        rgba = np.array(Image.open(io.BytesIO(png(i))).convert("RGBA"))
        rgba[:10, :, 3] = 0
        (tmp_path / "data").mkdir(exist_ok=True)
        Image.fromarray(rgba).save(tmp_path / "data" / f"{i}.png")
    assert all((p[:4] == 255).all() and p.shape[2] == 3 for p in only(tmp_path))
    assert all((p[:4] == 0).all() for p in only(tmp_path, background="black"))
    kept = only(tmp_path, channels=4)
    assert all(p.shape[2] == 4 and (p[:4, :, 3] == 0).all() and (p[12:, :, 3] == 255).all() for p in kept)


def test_arrays_of_many_channels(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    rng = np.random.default_rng(0)
    for i in range(60):
        np.save(tmp_path / "data" / f"{i}.npy", rng.integers(0, 256, (16, 16, 6), dtype=np.uint8))
    wide = rng.integers(0, 65536, (16, 16, 6), dtype=np.uint16)
    np.save(tmp_path / "data" / "wide.npy", wide)
    np.save(tmp_path / "data" / "float.npy", wide.astype(np.float32))
    np.save(tmp_path / "data" / "object.npy", np.array([{"a": 1}]), allow_pickle=True)
    lying = io.BytesIO()
    np.lib.format.write_array_header_1_0(lying, {"descr": "|u1", "fortran_order": False, "shape": (9000, 9000, 6)})
    (tmp_path / "data" / "lying.npy").write_bytes(lying.getvalue())
    found = only(tmp_path)
    assert {p.shape for p in found} == {(16, 16, 6)}
    assert len(found) == 61
    assert any((p == np.rint(wide / 257)).all() for p in found)
    table = pd.read_csv(tmp_path / "artifacts" / "dataset" / "rejected.csv").set_index("path")["reason"]
    assert set(table.index) == {"float.npy", "object.npy", "lying.npy"}
    assert "cut short or too large" in table["lying.npy"]


def test_pictures_and_arrays_of_other_channels_need_a_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.preprocess.PIXEL_BYTES", 1)
    as_folder(tmp_path / "data", {f"{i:03d}.png": png(i) for i in range(70)})
    rng = np.random.default_rng(0)
    for i in range(64):
        np.save(tmp_path / "data" / f"x{i}.npy", rng.integers(0, 256, (16, 16, 5), dtype=np.uint8))
    with pytest.raises(UserError, match=r"3 and 5 channels: set preprocess.channels|channels where others have"):
        run(tmp_path)
    assert {p.shape for p in only(tmp_path, channels=3)} == {(16, 16, 3)}


def test_frames_of_an_animation_stay_in_one_split(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for i in range(60):
        frames = [Image.open(io.BytesIO(png(1000 + 5 * i + k))) for k in range(5)]
        frames[0].save(tmp_path / "data" / f"{i}.gif", save_all=True, append_images=frames[1:])
    assert sum(run(tmp_path).splits.values()) == 60
    dataset = run(tmp_path, frames="all")
    assert sum(dataset.splits.values()) == 300
    assert all(count % 5 == 0 for count in dataset.splits.values())


def test_large_photos_are_shrunk_while_they_are_read(tmp_path: Path) -> None:
    """The JPEG decoder's own halving changes little."""
    (tmp_path / "data").mkdir()
    smooth = {}
    for i in range(50):
        image = Image.open(io.BytesIO(png(i))).resize((800, 600), Image.Resampling.BICUBIC)
        image.save(tmp_path / "data" / f"{i}.jpg", quality=95)
        smooth[i] = np.asarray(image.crop((100, 0, 700, 600)).resize((16, 16), Image.Resampling.LANCZOS)).astype(int)
    for pixels in only(tmp_path):
        assert min(np.abs(pixels.astype(int) - other).mean() for other in smooth.values()) < 3


def test_interrupted_work_goes_on_where_it_was(
    tmp_path: Path, pictures: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    import components.ingest.part_files as part_files
    import components.preprocess as stage

    monkeypatch.setattr(stage, "PIXEL_BYTES", 1)
    as_folder(tmp_path / "data", {f"x/{name.replace('/', '-')}": c for name, c in pictures.items()})
    as_folder(tmp_path / "data", {f"y/{i}.png": png(2000 + i) for i in range(100)})
    make, made = part_files.make_part, []

    def interrupted(part, contents, options):  # type: ignore[no-untyped-def]
        if part.number == 2:
            raise KeyboardInterrupt
        made.append(part.number)
        return make(part, contents, options)

    monkeypatch.setattr(part_files, "make_part", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    assert not (tmp_path / "artifacts" / "dataset").exists()
    monkeypatch.setattr(part_files, "make_part", lambda *a, **k: (made.append(a[0].number), make(*a, **k))[1])
    dataset = run(tmp_path)
    # What ran beside the interruption may be made again, what was kept is not.
    assert made.count(0) == made.count(1) == made.count(2) == 1
    assert sum(dataset.splits.values()) == 220


def test_arrays_with_their_channels_first_are_turned(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for i in range(60):
        pixels = np.asarray(Image.open(io.BytesIO(png(i, (32, 32)))))
        np.save(tmp_path / "data" / f"{i}.npy", pixels if i % 2 else np.moveaxis(pixels, 2, 0))
    found = {pixels.tobytes() for pixels in only(tmp_path, resolution=32)}
    wanted = {np.asarray(Image.open(io.BytesIO(png(i, (32, 32))))).tobytes() for i in range(60)}
    assert found == wanted
