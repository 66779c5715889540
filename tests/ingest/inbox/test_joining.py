"""What arrives joins the data and changes none of its meaning; what cannot join waits, named, and stops nothing."""

from __future__ import annotations

import os
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.ingest.formats import find_raw_images
from components.ingest.inbox.inbox import Ingested, arrived, ingest
from components.ingest.summary import class_counts
from components.workspace.params import Preprocess
from components.workspace.workspace import Workspace
from tests.conftest import idx
from tests.ingest import layouts
from tests.ingest.layouts import png


def packed(write: Callable[[Path, Mapping[str, bytes]], None], files: Mapping[str, bytes]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder, "archive"), files)
        return Path(folder, "archive").read_bytes()


def zipped(files: Mapping[str, bytes]) -> bytes:
    return packed(layouts.zipped, files)


def tarred(files: Mapping[str, bytes]) -> bytes:
    return packed(layouts.tarred, files)


LONG_AGO = time.time() - 3_600


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "w" / ".ganflow").mkdir(parents=True)
    (tmp_path / "in").mkdir()
    return Workspace(tmp_path / "w")


def put(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        os.utime(file, (LONG_AGO, LONG_AGO))


def pictures(*folders: str, count: int = 3, first: int = 0) -> dict[str, bytes]:
    return {f"{folder}/{first + i}.png".strip("/"): png() for folder in folders for i in range(count)}


def come(workspace: Workspace, files: Mapping[str, bytes], **options: object) -> Ingested:
    put(workspace.root.parent / "in", files)
    return ingest("../in", workspace, Preprocess.model_validate(options))


def classes(workspace: Workspace, **options: object) -> dict[str, int]:
    scratch = workspace.state / "scratch"
    scratch.mkdir(exist_ok=True)
    return class_counts(find_raw_images(workspace.data, scratch, 100, Preprocess.model_validate(options)))


# --- pictures ---


def test_pictures_go_to_their_folders_and_strays_wait(workspace: Workspace) -> None:
    put(workspace.data, pictures("cat", "dog"))
    found = come(workspace, {**pictures("cat", count=2, first=9), **pictures("cow", count=1), "stray.png": png()})
    assert sorted(found.added) == ["cat/10.png", "cat/9.png", "cow/0.png"]
    assert found.left == {"stray.png": "lies in no folder of a class, as those of the data do"} or found.left == {
        "stray.png": "lies beside the class folders"
    }
    assert classes(workspace) == {"cat": 5, "cow": 1, "dog": 3}


def test_what_would_change_the_meaning_of_folders_waits(workspace: Workspace) -> None:
    put(workspace.data, pictures("cat", "dog", count=4))
    found = come(workspace, {**pictures("train/cat", "test/cat", count=2), **pictures("cat", first=9)})
    assert len(found.added) == 3 and len(found.left) == 4
    assert classes(workspace) == {"cat": 7, "dog": 4}


def test_pictures_of_named_splits_join_them(workspace: Workspace) -> None:
    put(workspace.data, pictures("train/a", "train/b", "test/a", "test/b"))
    found = come(workspace, {**pictures("train/a", first=9), **pictures("a", count=2)})
    assert len(found.added) == 3 and {*found.left.values()} == {"lies beside the folders of the splits"}


def test_names_that_tell_classes_are_asked_of_newcomers(workspace: Workspace) -> None:
    put(workspace.data, {f"{word}.{i}.png": png() for word in ("cat", "dog") for i in range(6)})
    found = come(workspace, {"cat.77.png": png(), "odd!.png": png()})
    assert found.added == ["cat.77.png"] and [*found.left] == ["odd!.png"]
    assert classes(workspace) == {"cat": 7, "dog": 6}


def test_a_picture_of_a_pair_waits_for_its_partner(workspace: Workspace) -> None:
    put(workspace.data, {f"{side}/{i}.png": png() for side in ("A", "B") for i in range(4)})
    first = come(workspace, {"A/9.png": png(), "A/8.png": png(), "B/8.jpg": png(), "C/8.png": png()}, input="A")
    assert sorted(first.added) == ["A/8.png", "B/8.jpg"]
    neither = "lies neither with the inputs nor with the targets"
    assert first.left == {"A/9.png": "its partner in B has not come yet", "C/8.png": neither}
    second = come(workspace, {"B/9.png": png(), "A/8.bmp": png()}, input="A")
    assert sorted(second.added) == ["A/9.png", "B/9.png"]
    assert second.left["A/8.bmp"].startswith("2 inputs and 1 targets have its name")


def test_pictures_of_pairs_that_a_table_states_need_a_row(workspace: Workspace) -> None:
    put(workspace.data, {"labels.csv": b"path,input\nb0.png,a0.png\n", "a0.png": png(), "b0.png": png()})
    arriving = {"labels.csv": b"path,input\nb1.png,a1.png\n", "a1.png": png(), "b1.png": png(), "c.png": png()}
    found = come(workspace, arriving, input="input")
    assert sorted(found.added) == ["a1.png", "b1.png", "labels.csv"]
    assert found.left == {"c.png": "no row of labels.csv makes a pair of it"}


# --- tables ---


@pytest.mark.parametrize(
    ("header", "row", "name"),
    [
        ("path,label\n", "{},{}\n", "labels.csv"),
        ("path;label\r\n", "{};{}\r\n", "labels.csv"),
        ("file\tclass\n", "{}\t{}\n", "labels.tsv"),
        ("", '{{"file_name": "{}", "label": "{}"}}\n', "metadata.jsonl"),
    ],
)
def test_rows_join_the_table_and_pictures_need_one(workspace: Workspace, header: str, row: str, name: str) -> None:
    def table(*names: str) -> bytes:
        return (header + "".join(row.format(each, "ab"[int(each.split("/")[-1][:-4]) % 2]) for each in names)).encode()

    put(workspace.data, {**pictures("x", count=4), name: table(*(f"x/{i}.png" for i in range(4)))})
    before = (workspace.data / name).read_bytes()
    new = pictures("x", count=3, first=4)
    found = come(workspace, {**new, name: table("x/4.png", "x/5.png")})
    assert sorted(found.added) == [name, "x/4.png", "x/5.png"]
    assert found.left == {"x/6.png": f"no row of {name} names it"}
    assert (workspace.data / name).read_bytes().startswith(before.rstrip(b"\r\n"))
    assert classes(workspace) == {"a": 3, "b": 3}
    # The table has done what it could; its rows for later pictures come with another one.
    again = come(workspace, {"more/" + name: table("x/6.png")})
    assert sorted(again.added) == [name, "x/6.png"] and classes(workspace) == {"a": 4, "b": 3}
    assert ingest("../in", workspace) == ([], {})


def test_rows_that_contradict_or_name_nothing_wait(workspace: Workspace) -> None:
    put(workspace.data, {**pictures("x", count=2), "labels.csv": b"path,label\nx/0.png,a\nx/1.png,b\n"})
    rows = b"label,path\nb,x/0.png\na,x/7.png\n"
    found = come(workspace, {"labels.csv": rows, **{f"x/{i}.png": png() for i in (8,)}})
    assert found.added == [] and "1 of its rows name no image" in found.left["labels.csv"]
    assert "1 say something else" in found.left["labels.csv"]
    assert (
        come(workspace, {"labels.csv": b"name,kind\nx/8.png,a\n"}).left["labels.csv"].startswith("its columns are not")
    )
    assert "no table of this name" in come(workspace, {"other.csv": rows}).left["other.csv"]
    assert (workspace.data / "labels.csv").read_bytes() == b"path,label\nx/0.png,a\nx/1.png,b\n"


# --- archives ---


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_pictures_of_an_archive_go_to_the_classes_of_the_data(
    workspace: Workspace, pack: Callable[[Mapping[str, bytes]], bytes]
) -> None:
    put(workspace.data, pictures("cat", "dog"))
    inside = pictures("batch/cat", "batch/dog", count=2, first=1) | pictures("batch/cow", count=1)
    ending = "zip" if pack is zipped else "tar"
    found = come(workspace, {f"batch.{ending}": pack(inside)})
    assert len(found.added) == 4 and classes(workspace) == {"cat": 5, "dog": 5}
    assert found.left == {f"batch.{ending}": "1 of its pictures: of the class cow, which the data have not"}
    # Names that were taken are those of the pictures that had them.
    assert len({(workspace.data / name).read_bytes() for name in found.added}) == 4
    # The one that waits does so without being copied again and again.
    assert come(workspace, {}).added == []
    put(workspace.data, pictures("cow", count=1, first=50))
    assert come(workspace, {}) == (["cow/0.png"], {})
    assert arrived("../in", workspace).files == {}


def test_an_archive_named_as_a_class_joins_it(workspace: Workspace) -> None:
    put(workspace.data, pictures("cat", "dog"))
    found = come(workspace, {"dog.zip": zipped(pictures("", count=2)), "cow.zip": zipped(pictures("", count=2))})
    assert classes(workspace) == {"cat": 3, "dog": 5} and [*found.left] == ["cow.zip"]


def test_splits_of_an_archive_go_to_those_of_the_data(workspace: Workspace) -> None:
    put(workspace.data, pictures("train/a", "train/b", "test/a", "test/b"))
    found = come(workspace, {"n.zip": zipped(pictures("training/a", "testing/b", count=2, first=7))})
    assert sorted(found.added) == ["test/b/7.png", "test/b/8.png", "train/a/7.png", "train/a/8.png"]
    found = come(workspace, {"m.zip": zipped(pictures("a", "b", count=1, first=20))})
    assert sorted(found.added) == ["train/a/20.png", "train/b/20.png"]


def test_tables_of_images_join_folders_too(workspace: Workspace, tmp_path: Path) -> None:
    put(workspace.data, pictures("0", "1"))
    rows = {"image": [{"bytes": png()} for _ in range(4)], "label": [0, 1, 0, 1]}
    pd.DataFrame(rows).to_parquet(tmp_path / "t.parquet")
    digits = np.random.default_rng(0).integers(0, 256, (4, 16, 16)).astype(np.uint8)
    pair = {"new-images.idx": idx(digits), "new-labels.idx": idx(np.array([0, 1, 1, 1], np.uint8))}
    np.savez(tmp_path / "a.npz", images=digits[::-1] ^ 1, labels=np.array([0, 0, 0, 1]))
    files = {"t.parquet": (tmp_path / "t.parquet").read_bytes(), "a.npz": (tmp_path / "a.npz").read_bytes(), **pair}
    found = come(workspace, files)
    assert found.left == {} and len(found.added) == 12
    assert classes(workspace) == {"0": 3 + 2 + 1 + 3, "1": 3 + 2 + 3 + 1}


def test_archives_stay_archives_where_the_data_are_such(workspace: Workspace) -> None:
    put(workspace.data, {"one.zip": zipped(pictures("cat", "dog"))})
    good, cow = zipped(pictures("cat", "dog", count=2)), zipped(pictures("cat", "cow"))
    broken = good[: len(good) // 2]
    files = {"two.zip": good, "cows.zip": cow, "broken.zip": broken, "x.tar": tarred(pictures("cat")), "a.png": png()}
    found = come(workspace, files)
    assert found.added == ["two.zip"] and found.left.keys() == files.keys() - {"two.zip"}
    assert found.left["cows.zip"] == "of classes that the data have not: cow"
    assert classes(workspace) == {"cat": 5, "dog": 5}
    assert zipfile.is_zipfile(workspace.data / "two.zip")
    several = come(workspace, {}, source="all")
    assert {"a.png"} <= {*several.added, *several.left}


def test_a_pair_of_idx_files_joins_such_pairs(workspace: Workspace) -> None:
    def pair(name: str, seed: int) -> dict[str, bytes]:
        values = np.random.default_rng(seed).integers(0, 256, (6, 16, 16)).astype(np.uint8)
        return {f"{name}-images.idx": idx(values), f"{name}-labels.idx": idx((np.arange(6, dtype=np.uint8) + seed) % 2)}

    put(workspace.data, pair("a", 0))
    second = pair("b", 1)
    images = {"b-images.idx": second["b-images.idx"]}
    assert come(workspace, images).added == []
    assert sorted(come(workspace, second).added) == [*second]
    assert classes(workspace) == {"0": 6, "1": 6}


def test_documents_litter_and_foreign_files_wait_with_the_way_out(workspace: Workspace) -> None:
    put(workspace.data, pictures("cat", "dog"))
    odd = {
        "README.md": b"# x",
        "a.h5": b"\x89HDF\r\n\x1a\n",
        "Thumbs.db": b"x",
        "b.cr2": b"II*\0",
        "c.docx": b"PK\x03\x04",
    }
    found = come(workspace, {**odd, **pictures("cat", count=1, first=9)})
    assert found.added == ["cat/9.png"] and found.left.keys() == odd.keys()
    assert "numpy.savez" in found.left["a.h5"] and "export it as" in found.left["b.cr2"]


def test_names_within_archives_lead_nowhere(workspace: Workspace) -> None:
    put(workspace.data, pictures("cat", "dog"))
    hostile = {f"cat/{name}": png() for name in ("../../../evil.png", "..\\evil.png", "a\nb.png", "e" * 300 + ".png")}
    come(workspace, {"x.zip": zipped(hostile)})
    inside = [file for file in workspace.root.parent.rglob("*evil*") if "in" not in file.parts]
    assert all(file.is_relative_to(workspace.data) for file in inside)
    assert not (workspace.root / "evil.png").exists()
