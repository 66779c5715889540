"""Data as people have them: generators of small cases, each with what must come out of it.

A case writes files into a folder; pictures are small and all different.
"""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

Write = Callable[[Path], None]
CASES: dict[str, Case] = {}


@dataclass(frozen=True)
class Case:
    """What must come out: images of each class, in training and held out (both 0 where no split is stated), files left
    out and rejected; or words of the refusal."""

    write: Write
    classes: Mapping[str, int] = field(default_factory=dict)
    training: int = 0
    holdout: int = 0
    development: int = 0
    left_out: int = 0
    rejected: int = 0
    notes: str = ""
    refused: str = ""
    options: Mapping[str, object] = field(default_factory=dict)


def case(**expected: object) -> Callable[[Write], Write]:
    def kept(write: Write) -> Write:
        CASES[write.__name__] = Case(write, **expected)  # type: ignore[arg-type]
        return write

    return kept


_count = 0


def png(ending: str = "png") -> bytes:
    """A picture that no other call makes."""
    global _count
    _count += 1
    rng = np.random.default_rng(_count)
    image = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((16, 16), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, ending)
    return buffer.getvalue()


def put(path: Path, content: bytes | str = b"") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def pictures(folder: Path, count: int, name: str = "{:03d}.png", start: int = 0) -> list[str]:
    names = [name.format(i) for i in range(start, start + count)]
    for file in names:
        put(folder / file, png())
    return names


def zipped(path: Path, files: Mapping[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def tarred(path: Path, files: Mapping[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def many(folder: str, count: int) -> dict[str, bytes]:
    return {f"{folder}/{i:03d}.png" if folder else f"{i:03d}.png": png() for i in range(count)}


# --- StyleGAN's data sets ---


def _stylegan_files(labels: bool) -> dict[str, bytes]:
    files = {f"{i // 1000:05d}/img{i:08d}.png": png() for i in (*range(8), *range(1000, 1004))}
    rows = [[name, i % 2] for i, name in enumerate(files)]
    files["dataset.json"] = json.dumps({"labels": rows if labels else None}).encode()
    return files


@case(classes={"0": 6, "1": 6})
def stylegan_zip(data: Path) -> None:
    zipped(data / "set.zip", _stylegan_files(True))


@case(classes={"0": 6, "1": 6})
def stylegan_folder(data: Path) -> None:
    for name, content in _stylegan_files(True).items():
        put(data / name, content)


@case(classes={"image": 12}, left_out=1, notes="number the images")
def stylegan_without_labels(data: Path) -> None:
    for name, content in _stylegan_files(False).items():
        put(data / name, content)


@case(classes={"image": 9}, notes="number the images")
def ffhq(data: Path) -> None:
    for start in (0, 1000, 2000):
        pictures(data / f"{start:05d}", 3, "{:05d}.png", start)


@case(classes={"00000": 4, "00001": 6, "00002": 4}, notes="not used are its columns Width, Height")
def gtsrb(data: Path) -> None:
    for number, count in enumerate((4, 6, 4)):
        folder = data / f"{number:05d}"
        names = pictures(folder, count, "00000_{:05d}.png")
        rows = "".join(f"{name};16;16;{number}\n" for name in names)
        put(folder / f"GT-{number:05d}.csv", "Filename;Width;Height;ClassId\n" + rows)


# --- hub repositories ---


@case(classes={"cat": 5, "dog": 5}, notes="not used are its columns caption")
def hub_metadata_csv(data: Path) -> None:
    names = pictures(data, 10)
    rows = [{"file_name": n, "label": "cat" if i % 2 else "dog", "caption": f"c {i}"} for i, n in enumerate(names)]
    pd.DataFrame(rows).to_csv(data / "metadata.csv", index=False)


@case(classes={"cat": 8, "dog": 8}, training=12, holdout=4)
def hub_metadata_jsonl_in_splits(data: Path) -> None:
    for split, count in (("train", 12), ("test", 4)):
        names = pictures(data / split, count)
        rows = [json.dumps({"file_name": n, "label": "cat" if i % 2 else "dog"}) for i, n in enumerate(names)]
        put(data / split / "metadata.jsonl", "\n".join(rows))


@case(classes={"cat": 5, "dog": 5})
def hub_metadata_parquet(data: Path) -> None:
    names = pictures(data / "images", 10)
    rows = [{"file_name": f"images/{n}", "label": "cat" if i % 2 else "dog"} for i, n in enumerate(names)]
    pd.DataFrame(rows).to_parquet(data / "metadata.parquet")


@case(classes={"0": 7, "1": 5}, training=9, holdout=3, left_out=2)
def hub_clone(data: Path) -> None:
    put(data / "README.md", "# A data set")
    put(data / ".gitattributes", "*.parquet filter=lfs")
    for split, count in (("train", 9), ("test", 3)):
        rows = [{"image": {"bytes": png(), "path": None}, "label": i % 2} for i in range(count)]
        (data / "data").mkdir(exist_ok=True)
        pd.DataFrame(rows).to_parquet(data / "data" / f"{split}-00000-of-00001.parquet")


# --- splits ---


@case(classes={"cats": 10, "dogs": 10}, training=16, holdout=4, left_out=1, notes="beside the folders of the splits")
def splits_and_a_stray_file(data: Path) -> None:
    for split, count in (("train", 8), ("test", 2)):
        for name in ("cats", "dogs"):
            pictures(data / split / name, count)
    put(data / "preview.png", png())


@case(classes={"cats": 10, "dogs": 10}, training=16, holdout=4, left_out=1)
def splits_and_figures(data: Path) -> None:
    splits_and_a_stray_file(data)
    (data / "preview.png").unlink()
    put(data / "figures" / "overview.png", png())


@case(classes={"cats": 10, "dogs": 10}, training=16, holdout=4)
def splits_training_testing(data: Path) -> None:
    for split, count in (("Training", 8), ("TESTING", 2)):
        for name in ("cats", "dogs"):
            pictures(data / split / name, count)


@case(classes={"cats": 12, "dogs": 12}, training=16, holdout=4, development=4)
def splits_with_validation(data: Path) -> None:
    for split, count in (("train", 8), ("val", 2), ("test", 2)):
        for name in ("cats", "dogs"):
            pictures(data / split / name, count)


@case(classes={"cats": 10, "dogs": 10}, training=16, holdout=4)
def splits_within_classes(data: Path) -> None:
    for name in ("cats", "dogs"):
        pictures(data / name / "train", 8)
        pictures(data / name / "test", 2)


@case(classes={"buildings": 5, "sea": 5}, training=8, holdout=2)
def splits_within_themselves(data: Path) -> None:
    for split, count in (("seg_train", 4), ("seg_test", 1)):
        for name in ("buildings", "sea"):
            pictures(data / split / split / name, count)


@case(classes={"plane": 4, "ship": 4, "train": 4}, notes="taken for no split")
def a_class_called_train(data: Path) -> None:
    for name in ("plane", "ship", "train"):
        pictures(data / name, 4)


@case(classes={"A": 7, "B": 5}, training=8, holdout=4)
def cyclegan(data: Path) -> None:
    for name, count in (("trainA", 5), ("trainB", 3), ("testA", 2), ("testB", 2)):
        pictures(data / name, count)


@case(classes={"a": 7, "b": 5}, training=8, holdout=4)
def cyclegan_in_small_letters(data: Path) -> None:
    for name, count in (("traina", 5), ("trainb", 3), ("testa", 2), ("testb", 2)):
        pictures(data / name, count)


@case(classes={"A": 7, "B": 5}, training=8, holdout=4)
def cyclegan_in_other_letters(data: Path) -> None:
    for name, count in (("TrainA", 5), ("TRAINB", 3), ("TestA", 2), ("TESTB", 2)):
        pictures(data / name, count)


@case(classes={"tests": 4, "trains": 4})
def classes_that_begin_as_splits(data: Path) -> None:
    for name in ("tests", "trains"):
        pictures(data / name, 4)


@case(classes={"0": 10, "1": 10}, training=16, holdout=4)
def parquet_split_names(data: Path) -> None:
    for split, count in (("train", 16), ("test", 4)):
        rows = [{"image": {"bytes": png(), "path": None}, "label": i % 2} for i in range(count)]
        data.mkdir(exist_ok=True)
        pd.DataFrame(rows).to_parquet(data / f"{split}.parquet")


@case(classes={"0": 5, "1": 5}, training=8, holdout=2)
def webdataset_split_names(data: Path) -> None:
    for split, count in (("train", 8), ("val", 2)):
        files: dict[str, bytes] = {}
        for i in range(count):
            files |= {f"{i:05d}.png": png(), f"{i:05d}.cls": str(i % 2).encode()}
        tarred(data / f"{split}-000000.tar", files)


@case(classes={"cats": 5, "dogs": 5}, training=8, holdout=2)
def a_zip_for_each_split(data: Path) -> None:
    for split, count in (("train", 4), ("test", 1)):
        zipped(data / f"{split}.zip", many("cats", count) | many("dogs", count))


@case(classes={"cats": 6, "dogs": 6}, training=8, holdout=4)
def splits_with_numbers(data: Path) -> None:
    for split, count in (("01_trainval", 4), ("02_test", 2)):
        for name in ("cats", "dogs"):
            pictures(data / split / name, count)


@case(classes={"n01": 3, "n02": 3}, training=4, holdout=2)
def a_split_in_pieces(data: Path) -> None:
    pictures(data / "train.X1" / "n01", 2)
    pictures(data / "train.X2" / "n02", 2)
    for name in ("n01", "n02"):
        pictures(data / "val.X" / name, 1)


@case(classes={"0": 9, "1": 9}, training=12, holdout=6)
def idx_with_a_name_before_the_split(data: Path) -> None:
    for split, count in (("train", 12), ("test", 6)):
        pixels = np.random.default_rng(count).integers(0, 256, (count, 8, 8), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 2
        head = struct.pack(">IIII", 0x803, count, 8, 8)
        put(data / f"emnist-letters-{split}-images-idx3-ubyte", head + pixels.tobytes())
        put(data / f"emnist-letters-{split}-labels-idx1-ubyte", struct.pack(">II", 0x801, count) + labels.tobytes())


# --- annotations and masks ---


@case(classes={"image": 8}, training=6, holdout=2, left_out=2)
def coco(data: Path) -> None:
    for split, count in (("train2017", 6), ("val2017", 2)):
        names = pictures(data / split, count)
        found = {
            "images": [{"file_name": n, "id": i} for i, n in enumerate(names)],
            "annotations": [],
            "categories": [],
        }
        put(data / "annotations" / f"instances_{split}.json", json.dumps(found))


@case(classes={"image": 8}, training=6, holdout=2, left_out=9)
def yolo(data: Path) -> None:
    for split, count in (("train", 6), ("val", 2)):
        for name in pictures(data / "images" / split, count):
            put(data / "labels" / split / name.replace("png", "txt"), "0 0.5 0.5 1 1\n")
    put(data / "data.yaml", "names: [a]")


@case(classes={"image": 6}, left_out=6 + 3 + 3 + 1)
def voc(data: Path) -> None:
    names = pictures(data / "VOC2012" / "JPEGImages", 6)
    for name in names:
        put(data / "VOC2012" / "Annotations" / name.replace("png", "xml"), "<annotation/>")
    for kind in ("SegmentationClass", "SegmentationObject"):
        for name in names[:3]:
            put(data / "VOC2012" / kind / name, png())
    put(data / "VOC2012" / "ImageSets" / "Layout" / "notes.md", "x")


@case(classes={"image": 5}, left_out=5)
def masks_beside_images(data: Path) -> None:
    for name in pictures(data, 5):
        put(data / name.replace(".png", "_mask.png"), png())


@case(classes={"cats": 4, "dogs": 4}, left_out=8)
def masks_in_a_folder(data: Path) -> None:
    for name in ("cats", "dogs"):
        for file in pictures(data / "images" / name, 4):
            put(data / "masks" / name / file, png())


@case(classes={"with_mask": 4, "without_mask": 4})
def a_class_of_masks(data: Path) -> None:
    for name in ("with_mask", "without_mask"):
        pictures(data / name, 4)


@case(classes={"image": 4}, left_out=4)
def labelme(data: Path) -> None:
    for name in pictures(data, 4):
        put(data / name.replace("png", "json"), json.dumps({"shapes": [], "imagePath": name}))


@case(classes={"Bengal": 5, "Persian": 5}, left_out=11, notes="names of the files begin with")
def pets(data: Path) -> None:
    names = [name for breed in ("Bengal", "Persian") for name in pictures(data / "images", 5, breed + "_{}.jpg")]
    for name in names:
        put(data / "annotations" / "trimaps" / name.replace("jpg", "png"), png())
    put(data / "annotations" / "README", "words")
    put(data / "annotations" / "list.txt", "#Image CLASS-ID\n#ID: 1:37\n" + "\n".join(f"{n[:-4]} 1 1" for n in names))


@case(classes={"kitchen": 4, "street": 4}, training=4, holdout=4, left_out=8)
def scenes_with_masks_that_a_table_names_too(data: Path) -> None:
    for split, start in (("training", 0), ("validation", 4)):
        for name in pictures(data / "images" / split, 4, "ADE_{:08d}.jpg", start):
            put(data / "annotations" / split / name.replace("jpg", "png"), png())
    lines = [f"ADE_{i:08d} {'street' if i % 2 else 'kitchen'}" for i in range(8)]
    put(data / "sceneCategories.txt", "\n".join(lines))


@case(classes={"aachen": 2, "ulm": 2}, training=2, holdout=2, left_out=8)
def cityscapes(data: Path) -> None:
    for split in ("train", "val"):
        for city in ("aachen", "ulm"):
            name = f"{split}/{city}/{city}_000000_000019"
            put(data / "leftImg8bit" / f"{name}_leftImg8bit.png", png())
            for kind in ("color", "labelIds"):
                put(data / "gtFine" / f"{name}_gtFine_{kind}.png", png())


@case(classes={"image": 4}, left_out=8)
def supervisely(data: Path) -> None:
    for name in pictures(data / "set" / "img", 4):
        put(data / "set" / "ann" / f"{name}.json", "{}")
        put(data / "set" / "masks_machine" / name, png())


@case(classes={"ISIC_Training_Data": 4}, left_out=4)
def masks_in_a_folder_of_their_own_name(data: Path) -> None:
    for name in pictures(data / "ISIC_Training_Data", 4, "ISIC_{:07d}.jpg"):
        put(data / "ISIC_Training_GroundTruth" / name.replace(".jpg", "_segmentation.png"), png())


@case(classes={"benign": 3, "normal": 3}, left_out=7)
def several_masks_of_a_picture(data: Path) -> None:
    for name in ("benign", "normal"):
        for file in pictures(data / name, 3, name + " ({}).png"):
            put(data / name / file.replace(".png", "_mask.png"), png())
    put(data / "normal" / "normal (1)_mask_1.png", png())


@case(classes={"face": 4, "face_mask": 4})
def a_class_called_as_masks_of_another(data: Path) -> None:
    for name in ("face", "face_mask"):
        pictures(data / name, 4)


# --- downloads ---


@case(classes={"cat": 6, "dog": 6}, notes="names of the files begin with")
def classes_in_names(data: Path) -> None:
    pictures(data / "train", 6, "cat.{}.png")
    pictures(data / "train", 6, "dog.{}.png")


@case(classes={"image": 12}, notes="preprocess.labels: names")
def names_of_cameras(data: Path) -> None:
    pictures(data, 6, "IMG_{:04d}.png")
    pictures(data, 6, "DSC_{:04d}.png")


@case(classes={"IMG": 6, "DSC": 6}, options={"labels": "names"})
def names_that_are_asked_for(data: Path) -> None:
    names_of_cameras(data)


@case(classes={"001.Black": 3, "002.Laysan": 3}, left_out=2)
def birds(data: Path) -> None:
    lines = []
    for name in ("001.Black", "002.Laysan"):
        lines += [f"{name}/{n}" for n in pictures(data / "CUB_200" / "images" / name, 3)]
    put(data / "CUB_200" / "README", "words")
    put(data / "CUB_200" / "classes.txt", "1 001.Black\n2 002.Laysan\n")


@case(classes={"apple_pie": 4, "sushi": 4}, training=6, holdout=2, left_out=1)
def food(data: Path) -> None:
    for name in ("apple_pie", "sushi"):
        pictures(data / "food-101" / "images" / name, 4)
    for split, rows in (("train", range(3)), ("test", range(3, 4))):
        lines = [f"{name}/{i:03d}" for name in ("apple_pie", "sushi") for i in rows]
        put(data / "food-101" / "meta" / f"{split}.txt", "\n".join(lines))
    put(data / "food-101" / "meta" / "classes.txt", "apple_pie\nsushi\n")


@case(classes={"n01": 6, "n02": 6}, training=8, holdout=4)
def tiny_imagenet(data: Path) -> None:
    for name in ("n01", "n02"):
        pictures(data / "train" / name / "images", 4, name + "_{}.JPEG")
        put(data / "train" / name / f"{name}_boxes.txt", f"{name}_0.JPEG\t0\t0\t62\t62\n")
    rows = [
        f"{n}\tn0{1 + i % 2}\t0\t0\t62\t62\n" for i, n in enumerate(pictures(data / "val" / "images", 4, "val_{}.JPEG"))
    ]
    put(data / "val" / "val_annotations.txt", "".join(rows))


@case(classes={"nv": 6, "mel": 2}, notes="not used are its columns lesion_id")
def skin(data: Path) -> None:
    names = [n for part in (1, 2) for n in pictures(data / f"HAM_part_{part}", 4, "ISIC_{:07d}.png", part * 100)]
    rows = [
        {"lesion_id": f"L{i}", "image_id": n[:-4], "dx": "nv" if i % 4 else "mel", "age": i}
        for i, n in enumerate(names)
    ]
    pd.DataFrame(rows).to_csv(data / "HAM_metadata.csv", index=False)


@case(classes={"img_align_celeba": 6}, training=4, holdout=1, development=1, notes="no column says one class")
def celeba(data: Path) -> None:
    names = pictures(data / "img_align_celeba", 6, "{:06d}.png")
    attributes = pd.DataFrame([{"image_id": n, "Smiling": 1 if i % 2 else -1, "Young": 1} for i, n in enumerate(names)])
    attributes.to_csv(data / "list_attr_celeba.csv", index=False)
    partition = pd.DataFrame([{"image_id": n, "partition": max(0, i - 3)} for i, n in enumerate(names)])
    partition.to_csv(data / "list_eval_partition.csv", index=False)


@case(classes={"beagle": 4, "pug": 4}, training=8, left_out=3, notes="3 images that no table lists")
def labels_for_the_training_part(data: Path) -> None:
    names = pictures(data / "train", 8, "a{}.png")
    pictures(data / "test", 3, "b{}.png")
    rows = [{"id": n[:-4], "breed": "pug" if i % 2 else "beagle"} for i, n in enumerate(names)]
    pd.DataFrame(rows).to_csv(data / "labels.csv", index=False)


@case(classes={"mel": 4, "nv": 4})
def one_hot(data: Path) -> None:
    names = pictures(data / "images", 8)
    rows = [{"image": n[:-4], "mel": float(i % 2), "nv": float(1 - i % 2)} for i, n in enumerate(names)]
    pd.DataFrame(rows).to_csv(data / "truth.csv", index=False)


# --- archives ---


@case(classes={"cats": 5, "dogs": 6})
def a_zip_for_each_class(data: Path) -> None:
    zipped(data / "cats.zip", many("", 5))
    zipped(data / "dogs.zip", many("", 6))


@case(classes={"cats": 5, "dogs": 6})
def an_archive_in_a_folder(data: Path) -> None:
    zipped(data / "downloads" / "set.zip", many("cats", 5) | many("dogs", 6))


@case(classes={"cats": 5, "dogs": 6})
def zips_in_a_zip(data: Path) -> None:
    for name, count in (("cats", 5), ("dogs", 6)):
        zipped(data.parent / f"{name}.zip", many("", count))
    zipped(data / "outer.zip", {f"{n}.zip": (data.parent / f"{n}.zip").read_bytes() for n in ("cats", "dogs")})


@case(classes={"cats": 4, "dogs": 4})
def zip_of_windows(data: Path) -> None:
    zipped(data / "set.zip", {f"set\\{name}\\{i}.png": png() for name in ("cats", "dogs") for i in range(4)})


@case(classes={"cats": 4, "dogs": 4})
def tar_of_absolute_names(data: Path) -> None:
    tarred(data / "set.tar", {f"/srv/set/{name}/{i}.png": png() for name in ("cats", "dogs") for i in range(4)})


@case(classes={"cats": 4, "dogs": 4})
def concatenated_tars(data: Path) -> None:
    for name in ("cats", "dogs"):
        tarred(data.parent / f"{name}.tar", many(name, 4))
    put(data / "both.tar", (data.parent / "cats.tar").read_bytes() + (data.parent / "dogs.tar").read_bytes())


@case(classes={"0": 4, "1": 4}, rejected=2)
def webdataset_without_some_labels(data: Path) -> None:
    files: dict[str, bytes] = {}
    for i in range(10):
        files[f"{i:05d}.png"] = png()
        if i % 5:
            files[f"{i:05d}.cls"] = str(i % 2).encode()
    tarred(data / "000.tar", files)


@case(classes={"0": 6, "1": 6})
def webdataset_of_two_images(data: Path) -> None:
    files: dict[str, bytes] = {}
    for i in range(6):
        files |= {f"{i:05d}.left.png": png(), f"{i:05d}.right.png": png(), f"{i:05d}.cls": str(i % 2).encode()}
    tarred(data / "000.tar", files)


@case(classes={"0": 3, "1": 3}, left_out=6)
def webdataset_with_masks(data: Path) -> None:
    files: dict[str, bytes] = {}
    for i in range(6):
        files |= {f"{i:05d}.jpg": png("jpeg"), f"{i:05d}.seg.png": png(), f"{i:05d}.cls": str(i % 2).encode()}
    tarred(data / "000.tar", files)


# --- several kinds, and other kinds ---


@case(refused="preprocess.source")
def folders_and_a_zip(data: Path) -> None:
    pictures(data / "cats", 4)
    pictures(data / "dogs", 4)
    zipped(data / "week2.zip", many("cats", 3))


@case(classes={"cats": 4, "dogs": 4}, left_out=1, options={"source": "folders"})
def folders_beside_a_zip(data: Path) -> None:
    folders_and_a_zip(data)


@case(classes={"cats": 7, "dogs": 4}, options={"source": "all"})
def folders_with_a_zip(data: Path) -> None:
    pictures(data / "cats", 4)
    pictures(data / "dogs", 4)
    zipped(data / "cats.zip", many("", 3))


@case(refused="lists 5 images, and 3 others")
def a_table_of_a_part(data: Path) -> None:
    names = pictures(data, 8)
    rows = [{"path": n, "label": "a" if i % 2 else "b"} for i, n in enumerate(names[:5])]
    pd.DataFrame(rows).to_csv(data / "labels.csv", index=False)


@case(classes={"a": 2, "b": 3}, left_out=3, options={"source": "table"})
def a_table_of_what_is_meant(data: Path) -> None:
    a_table_of_a_part(data)


@case(classes={"cats": 4, "dogs": 4}, left_out=2)
def folders_and_documents(data: Path) -> None:
    pictures(data / "cats", 4)
    pictures(data / "dogs", 4)
    zipped(data / "protocol.docx", {"[Content_Types].xml": b"<x/>", "word/media/image1.png": png()})
    zipped(data / "annotations.xlsx", {"[Content_Types].xml": b"<x/>", "xl/workbook.xml": b"<x/>"})


@case(classes={"0": 5, "1": 5}, training=6, holdout=2, development=2)
def medmnist(data: Path) -> None:
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for split, count in (("train", 6), ("val", 2), ("test", 2)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(count).reshape(-1, 1) % 2
    data.mkdir(exist_ok=True)
    np.savez_compressed(data / "pneumoniamnist.npz", **arrays)


@case(classes={"0": 4, "1": 4}, training=6, holdout=2)
def keras(data: Path) -> None:
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for split, count in (("train", 6), ("test", 2)):
        arrays[f"x_{split}"] = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
        arrays[f"y_{split}"] = np.arange(count) % 2
    data.mkdir(exist_ok=True)
    np.savez(data / "mnist.npz", **arrays)


@case(refused="HDF5")
def hdf5_alone(data: Path) -> None:
    put(data / "images.h5", b"\x89HDF\r\n\x1a\n" + bytes(100))


@case(refused="unpickling runs code")
def pickled_alone(data: Path) -> None:
    put(data / "cifar" / "data_batch_1", b"\x80\x04\x95" + bytes(100))


@case(refused="MATLAB")
def matlab_alone(data: Path) -> None:
    put(data / "train_32x32.mat", b"MATLAB 5.0 MAT-file, Platform: GLNXA64" + bytes(200))


@case(classes={"image": 3}, left_out=1)
def matlab_beside_images(data: Path) -> None:
    pictures(data / "jpg", 3, "image_{:05d}.png")
    put(data / "imagelabels.mat", b"MATLAB 5.0 MAT-file, Platform: GLNXA64" + bytes(200))


@case(refused="TFRecord")
def tfrecords_alone(data: Path) -> None:
    put(data / "ffhq-r05.tfrecords", bytes(100))


# --- files ---


@case(classes={"image": 12}, rejected=0)
def endings_of_all_kinds(data: Path) -> None:
    for number, name in enumerate(("a.JPG", "b.jfif", "c", "d.dat", "e.PNG", "f.Jpeg")):
        for i in range(2):
            put(data / f"{i}{name}", png("jpeg" if number % 2 else "png"))


@case(classes={"image": 4}, rejected=1)
def pictures_that_are_not_read(data: Path) -> None:
    pictures(data, 2)
    put(data / "photo.HEIC", b"\0\0\0\x18ftypheic" + bytes(100))
    put(data / "raw.NEF", b"II*\0" + bytes(100))
    put(data / "design.psd", b"8BPS" + bytes(100))


@case(classes={"cats": 3, "dogs": 3}, left_out=6)
def litter(data: Path) -> None:
    for name in ("cats", "dogs"):
        pictures(data / name, 3)
    put(data / "cats" / "@eaDir" / "000.png" / "SYNOPHOTO_THUMB_S.jpg", png("jpeg"))
    put(data / "cats" / "Thumbs.db", b"\xd0\xcf")
    put(data / "dogs" / ".ipynb_checkpoints" / "000-checkpoint.png", png())
    put(data / "__MACOSX" / "cats" / "._000.png", b"x")
    put(data / ".DS_Store", b"x")
    put(data / "dogs" / "._001.png", b"x")


@case(classes={"café": 3, "cafe\u0301": 3}, notes="look alike")
def names_that_look_alike(data: Path) -> None:
    pictures(data / "café", 3)
    pictures(data / "cafe\u0301", 3)


@case(classes={"DCIM": 6}, left_out=2, notes="are dates or a camera's")
def folders_of_a_phone(data: Path) -> None:
    pictures(data / "DCIM" / "100APPLE", 3, "IMG_{:04d}.JPG")
    pictures(data / "DCIM" / "101APPLE", 3, "IMG_{:04d}.JPG", 3)
    put(data / "DCIM" / "100APPLE" / "IMG_0001.AAE", "<plist/>")
    put(data / "DCIM" / "100APPLE" / "IMG_0001.MOV", b"\0\0\0\x14ftypqt  " + bytes(50))


@case(classes={"image": 5}, left_out=1, notes="are dates or a camera's")
def folders_of_dates(data: Path) -> None:
    pictures(data / "2019" / "2019-05-01", 3)
    pictures(data / "2020" / "2020-01-31", 2)
    put(data / "Catalog Previews.lrdata" / "0" / "a.lrprev", b"AgHg")


@case(classes={"1990": 3, "1991": 3})
def classes_that_are_years(data: Path) -> None:
    for name in ("1990", "1991"):
        pictures(data / name, 3)


@case(classes={"a": 4, "b": 4}, notes="are pieces of the data")
def folders_of_folds(data: Path) -> None:
    for fold in ("fold_1", "fold_2"):
        for name in ("a", "b"):
            pictures(data / fold / name, 2)


@case(classes={"00": 3, "01": 3})
def classes_that_are_numbers(data: Path) -> None:
    for name in ("00", "01"):
        pictures(data / name, 3)


@case(classes={"a": 3, "b": 3}, left_out=4)
def litter_of_more_systems(data: Path) -> None:
    for name in ("a", "b"):
        pictures(data / name, 3)
    for folder in ("#snapshot", "@Recycle", "RECYCLER", "thumbnails128x128"):
        pictures(data / folder, 2)


@case(refused="DICOM.*as PNG")
def dicom_alone(data: Path) -> None:
    put(data / "DICOMDIR", bytes(128) + b"DICM" + bytes(50))


@case(refused="NIfTI.*numpy.savez")
def nifti_alone(data: Path) -> None:
    put(data / "scan.nii.gz", gzip.compress(bytes(400)))


@case(refused="git lfs pull")
def pointers_of_git_lfs(data: Path) -> None:
    put(data / "data" / "train-00000.parquet", "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n")


@case(refused="put the pieces together")
def pieces_of_a_zip(data: Path) -> None:
    put(data / "set.zip.001", b"PK\x03\x04" + bytes(50))


@case(classes={"image": 3}, left_out=1)
def arrow_beside_images(data: Path) -> None:
    pictures(data, 3)
    put(data / "data-00000.arrow", b"\xff\xff\xff\xff" + bytes(50))


# --- tables ---


def _table(data: Path) -> list[str]:
    return pictures(data / "img", 8)


@case(classes={"a": 4, "b": 4})
def table_with_an_index(data: Path) -> None:
    rows = [{"path": f"img/{n}", "label": "a" if i % 2 else "b"} for i, n in enumerate(_table(data))]
    pd.DataFrame(rows).to_csv(data / "labels.csv")


@case(classes={"a": 4, "b": 4})
def table_of_a_spreadsheet(data: Path) -> None:
    lines = [f"img\\{n} ; {'a' if i % 2 else 'b'}" for i, n in enumerate(_table(data))]
    put(data / "labels.csv", "\ufeffpath;label\r\n" + "\r\n".join(lines))


@case(classes={"1": 4, "7": 4})
def table_without_a_head(data: Path) -> None:
    put(data / "list.txt", "\n".join(f"{n} {1 if i % 2 else 7}" for i, n in enumerate(_table(data))))


@case(classes={"a": 4, "b": 4})
def table_of_absolute_paths(data: Path) -> None:
    lines = [f"/home/somebody/set/img/{n},{'a' if i % 2 else 'b'}" for i, n in enumerate(_table(data))]
    put(data / "labels.csv", "path,label\n" + "\n".join(lines))


@case(classes={"a": 4, "b": 4}, training=6, holdout=2)
def table_with_splits(data: Path) -> None:
    lines = [f"img/{n},{'a' if i % 2 else 'b'},{'test' if i < 2 else 'train'}" for i, n in enumerate(_table(data))]
    put(data / "labels.csv", "path,label,split\n" + "\n".join(lines))


@case(classes={"a": 4, "b": 3}, rejected=2)
def table_with_gaps(data: Path) -> None:
    lines = [f"img/{n},{'' if i == 0 else 'a' if i % 2 else 'b'}" for i, n in enumerate(_table(data))]
    put(data / "labels.csv", "path,label\n" + "\n".join([*lines, "img/gone.png,a"]))


@case(classes={"image": 6}, training=4, holdout=1, development=1, notes="not used are its columns Smiling, Young")
def celeba_as_texts(data: Path) -> None:
    names = pictures(data / "img", 6, "{:06d}.jpg")
    rows = "".join(f"{name} {1 if i % 2 else -1:2d}  1\n" for i, name in enumerate(names))
    put(data / "Anno" / "list_attr_celeba.txt", "6\nSmiling Young\n" + rows)
    put(data / "Eval" / "list_eval_partition.txt", "".join(f"{n} {max(0, i - 3)}\n" for i, n in enumerate(names)))


@case(classes={"dress": 4, "tee": 4}, training=6, holdout=2)
def deep_fashion(data: Path) -> None:
    names = [f"img/{name}/{n}" for name in ("dress", "tee") for n in pictures(data / "Img" / "img" / name, 4)]
    labels = "".join(f"{name}    {1 + i // 4}\n" for i, name in enumerate(names))
    put(data / "Anno" / "list_category_img.txt", "8\nimage_name  category_label\n" + labels)
    splits = "".join(f"{name}    {'train' if i % 4 else 'test'}\n" for i, name in enumerate(names))
    put(data / "Eval" / "list_eval_partition.txt", "8\nimage_name  evaluation_status\n" + splits)


@case(classes={"frog": 4, "truck": 4}, training=8, left_out=5, notes="4 images that no table lists")
def a_contest_whose_test_images_have_the_same_names(data: Path) -> None:
    pictures(data / "train", 8, "{}.png")
    pictures(data / "test", 4, "{}.png")
    rows = "".join(f"{i},{'frog' if i % 2 else 'truck'}\n" for i in range(8))
    put(data / "trainLabels.csv", "id,label\n" + rows)
    put(data / "sampleSubmission.csv", "id,label\n" + "".join(f"{i},cat\n" for i in range(4)))


@case(classes={"a": 4, "b": 4}, training=6, holdout=2)
def tables_named_as_splits(data: Path) -> None:
    lines = [f"img/{n},{'a' if i % 2 else 'b'}\n" for i, n in enumerate(_table(data))]
    put(data / "lists" / "style_train.csv", "".join(lines[:6]))
    put(data / "lists" / "style_val.csv", "".join(lines[6:]))


@case(classes={"image": 8}, notes="test_list.txt: taken for no split")
def a_list_of_held_out_images_alone(data: Path) -> None:
    put(data / "test_list.txt", "\n".join(_table(data)[:2]))


@case(classes={"a": 4, "b": 4}, training=6, holdout=2)
def table_with_flags_of_splits(data: Path) -> None:
    lines = [f"{n},{'a' if i % 2 else 'b'},{i > 5}" for i, n in enumerate(_table(data))]
    put(data / "labels.csv", "name,label,is_valid\n" + "\n".join(lines))


@case(classes={"clear": 4, "haze": 4}, notes="labels are its column tags")
def table_of_names_without_endings(data: Path) -> None:
    lines = [f"{n[:-4]},{'clear' if i % 2 else 'haze'}" for i, n in enumerate(_table(data))]
    put(data / "classes.csv", "image_name,tags\n" + "\n".join(lines))


@case(classes={"image": 8}, notes="tells several labels of some images")
def table_of_several_labels(data: Path) -> None:
    lines = [f"{n},{('Mass', 'Mass|Edema')[i % 2]}" for i, n in enumerate(_table(data))]
    put(data / "entries.csv", "Image Index,Finding Labels\n" + "\n".join(lines))


@case(classes={"a": 4, "b": 4}, notes="names alone count")
def table_of_addresses(data: Path) -> None:
    lines = [f"https://live.example/65535/{n}?w=100,{'a' if i % 2 else 'b'}" for i, n in enumerate(_table(data))]
    put(data / "photos.csv", "url,class\n" + "\n".join(lines))


@case(classes={"Cat": 4, "Dog": 4}, notes="not used are its columns id")
def label_studio(data: Path) -> None:
    tasks = [
        {"image": f"/data/upload/1/{n}", "id": i, "choice": ("Cat", "Dog")[i % 2]} for i, n in enumerate(_table(data))
    ]
    put(data / "project-1.json", json.dumps(tasks))


@case(classes={"a": 4, "b": 4}, notes="names alone count")
def table_of_names_before_they_were_converted(data: Path) -> None:
    pictures(data / "img", 8, "Caf\u00e9{}.png")
    lines = [f"img/cafe\u0301{i}.TIF,{'a' if i % 2 else 'b'}" for i in range(8)]
    put(data / "labels.csv", "path,label\n" + "\n".join(lines))


@case(classes={"a": 4, "b": 4}, notes="not used are its columns note")
def table_with_separators_in_quotes(data: Path) -> None:
    lines = [f'"img/{n}";"{"a" if i % 2 else "b"}";"x, y; z {i}"' for i, n in enumerate(_table(data))]
    put(data / "labels.csv", '"path";"label";"note"\n' + "\n".join(lines))


@case(classes={"a": 4, "b": 4})
def table_in_utf_16_without_a_mark(data: Path) -> None:
    lines = [f"img/{n},{'a' if i % 2 else 'b'}" for i, n in enumerate(_table(data))]
    put(data / "labels.csv", ("path,label\r\n" + "\r\n".join(lines)).encode("utf-16-le"))


@case(classes={"a": 4, "b": 3}, rejected=1)
def table_with_what_programs_write_for_nothing(data: Path) -> None:
    lines = [f"img/{n},{'NaN' if i == 0 else 'a' if i % 2 else 'b'}" for i, n in enumerate(_table(data))]
    put(data / "labels.csv", "path,label\n" + "\n".join(lines))


@case(classes={"cat": 4, "dog": 4})
def one_hot_in_words(data: Path) -> None:
    lines = [f"{n},{bool(i % 2)},{not i % 2}" for i, n in enumerate(_table(data))]
    put(data / "truth.csv", "image,cat,dog\n" + "\n".join(lines))


@case(classes={"a": 4, "b": 4}, notes="not used are 8 labels, which are others than those of artist.csv")
def two_tables_of_other_labels(data: Path) -> None:
    for name, words in (("artist", "ab"), ("style", "xy")):
        lines = [f"img/{i:03d}.png,{words[i % 2]}" for i in range(8)]
        put(data / f"{name}.csv", "path,label\n" + "\n".join(lines))
    _table(data)


@case(classes={"a": 3, "b": 5})
def json_of_the_images_of_each_class(data: Path) -> None:
    names = _table(data)
    put(data / "labels.json", json.dumps({"a": names[:3], "b": names[3:]}))


@case(classes={"x": 4, "y": 4}, training=6, holdout=2, notes="not used are its columns label_name")
def json_of_the_images_of_each_split(data: Path) -> None:
    rows = [[f"{name}/{n}", number, name] for number, name in enumerate("xy") for n in pictures(data / name, 4)]
    put(data / "split.json", json.dumps({"train": rows[:3] + rows[5:], "val": [], "test": rows[3:5]}))


@case(classes={"image": 6}, left_out=0, notes="not used are its columns vector")
def stylegan_with_vectors(data: Path) -> None:
    rows = [[name, [0.5, float(i)]] for i, name in enumerate(pictures(data, 6))]
    put(data / "dataset.json", json.dumps({"labels": rows}))


@case(classes={"image": 6}, notes="not used are its columns objects")
def hub_metadata_of_objects(data: Path) -> None:
    rows = [json.dumps({"file_name": name, "objects": {"categories": [0]}}) for name in pictures(data, 6)]
    put(data / "metadata.jsonl", "\n".join(rows))


@case(refused="2 x a table of pixels, which is not read: write its rows as PNG files")
def tables_of_pixels(data: Path) -> None:
    columns = ["label", *(f"pixel{i}" for i in range(784))]
    put(data / "train.csv", ",".join(columns) + "\n" + "\n".join(",".join(["7"] * 785) for _ in range(3)))
    put(data / "fer.csv", "emotion,pixels,Usage\n0,70 80 82 72,Training\n1,1 2 3 4,PublicTest\n")


@case(refused="outer.zip/inner.zip is not a zip archive that can be read")
def a_damaged_archive_in_an_archive(data: Path) -> None:
    zipped(data / "inner.zip", many("a", 4))
    damaged = (data / "inner.zip").read_bytes()[:-30]
    (data / "inner.zip").unlink()
    zipped(data / "outer.zip", {"inner.zip": damaged, "b/0.png": png()})


# --- links ---


@case(classes={"cats": 4, "dogs": 4}, left_out=1, notes="links that lead out of the data")
def a_link_out_of_the_data(data: Path) -> None:
    pictures(data / "cats", 4)
    pictures(data / "dogs", 4)
    pictures(data.parent / "elsewhere", 3)
    (data / "owls").symlink_to(data.parent / "elsewhere")


@case(classes={"cats": 4, "dogs": 4, "owls": 3}, options={"follow_links": True})
def a_link_that_is_followed(data: Path) -> None:
    a_link_out_of_the_data(data)


@case(classes={"cats": 4, "dogs": 4})
def links_into_the_cache_of_dvc(data: Path) -> None:
    cache = data.parent / "cache" / "files" / "md5" / "ab"
    for number in range(8):
        name = f"{number:030x}"
        put(cache / name, png())
        link = data / ("cats" if number % 2 else "dogs") / f"{number}.png"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(cache / name)


@case(classes={"cats": 4, "dogs": 4}, left_out=1)
def a_link_to_a_folder_of_the_data(data: Path) -> None:
    pictures(data / "cats", 4)
    pictures(data / "dogs", 4)
    (data / "again").symlink_to("cats")


@case(classes={"cats": 4, "dogs": 4}, left_out=2, options={"follow_links": True})
def links_to_the_folders_around(data: Path) -> None:
    pictures(data / "cats", 4)
    pictures(data / "dogs", 4)
    for name in ("cats", "dogs"):
        (data / name / "all").symlink_to("..")


@case(classes={"cats": 4, "dogs": 4})
def data_that_are_a_link(data: Path) -> None:
    pictures(data.parent / "real" / "cats", 4)
    pictures(data.parent / "real" / "dogs", 4)
    data.symlink_to(data.parent / "real")
