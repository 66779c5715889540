"""Pictures in pairs: how they lie on a disk, which belong together, and what becomes of those that do not."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from components.gan.dataset import Split
from components.gan.errors import UserError
from components.ingest.pairs.finding import find_pairs
from components.ingest.proposals.carrying import lacking_of_domains
from components.ingest.proposals.survey import survey
from components.preprocess import preprocess
from components.workspace.artifacts import Dataset, Key
from components.workspace.params import Preprocess
from components.workspace.workspace import Workspace

SIDE, COUNT = 16, 48
Pixels = npt.NDArray[np.uint8]
Files = Mapping[str, bytes]


def picture(number: int, size: tuple[int, int] = (SIDE, SIDE)) -> Pixels:
    """Return what is to be made (H, W, 3); its partner is its negative."""
    return np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)


def encoded(pixels: Pixels, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def target(number: int, kind: str = "PNG") -> bytes:
    return encoded(picture(number), kind)


def given(number: int, kind: str = "PNG") -> bytes:
    return encoded(255 - picture(number), kind)


def put(root: Path, files: Files) -> None:
    for name, content in files.items():
        path = root / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def pairs(inputs: str, targets: str, count: int = COUNT) -> dict[str, bytes]:
    """Return pairs at paths with `{i}`, and `{s}` for a split: every fourth is for tests."""
    files = {}
    for i in range(count):
        split = "train" if i % 4 else "test"
        files[inputs.format(i=i, s=split)] = given(i)
        files[targets.format(i=i, s=split)] = target(i, "BMP" if targets.endswith("bmp") else "PNG")
    return files


def run(root: Path, **options: object) -> Dataset:
    whole = Preprocess.model_validate({"resolution": SIDE, "max_rejected": 1.0, **options})
    return preprocess(whole, "data", Key(options="o", inputs="i", code="c"), Workspace(root))


def every(dataset: Dataset) -> tuple[Pixels, Pixels]:
    """Return all images of a data set, and their inputs."""
    found = [
        (split.pixels(index), split.inputs(index))
        for name in dataset.splits
        if dataset.splits[name]
        for split in [Split(dataset.folder, name, dataset.image)]  # type: ignore[arg-type]
        for index in [np.arange(len(split))]
    ]
    images, inputs = (np.concatenate(each) for each in zip(*found, strict=True))
    return images, inputs


def check_negatives(dataset: Dataset, count: int = COUNT) -> None:
    images, inputs = every(dataset)
    assert dataset.image.paired and len(images) == count
    assert (inputs == 255 - images).all()


def rejected(dataset: Dataset) -> dict[str, str]:
    with (dataset.folder / "rejected.csv").open(newline="") as file:
        return {row["path"]: row["reason"] for row in csv.DictReader(file)}


# --- layouts ---


def as_zips(root: Path) -> None:
    (root / "data").mkdir()
    for name, make in (("A", given), ("B", target)):
        with zipfile.ZipFile(root / "data" / f"{name}.zip", "w") as archive:
            for i in range(COUNT):
                archive.writestr(f"{i}.png", make(i))


def as_one_zip(root: Path) -> None:
    (root / "data").mkdir()
    with zipfile.ZipFile(root / "data" / "pairs.zip", "w") as archive:
        for name, content in pairs("set/input/{i}.png", "set/target/{i}.png").items():
            archive.writestr(name, content)


def as_parquet(root: Path) -> None:
    """Two files of a hub, each with rows that are counted from 0."""
    (root / "data").mkdir()
    for shard in range(2):
        rows = [i for i in range(COUNT) if i % 2 == shard]
        columns = {
            "input_image": [{"bytes": given(i), "path": f"in-{i}.png"} for i in rows],
            "edit_prompt": ["turn it round" for _ in rows],
            "edited_image": [{"bytes": target(i), "path": f"out-{i}.png"} for i in rows],
        }
        pq.write_table(pa.table(columns), root / "data" / f"train-{shard:05d}-of-00002.parquet")


def as_table(root: Path) -> None:
    put(root, pairs("raw/x{i}.png", "done/y{i}.png"))
    rows = "".join(f"done/y{i}.png,raw/x{i}.png\n" for i in range(COUNT))
    (root / "data" / "labels.csv").write_text("path,input\n" + rows)


def as_tables_of_splits(root: Path) -> None:
    """As hubs have it: a table in each split, with paths from there, which are those of other pictures elsewhere."""
    for split in ("train", "test"):
        chosen = [i for i in range(COUNT) if (i % 4 == 0) == (split == "test")]
        rows = []
        for place, i in enumerate(chosen):
            put(root, {f"{split}/in/{place}.png": given(i), f"{split}/{place}.png": target(i)})
            rows.append(json.dumps({"file_name": f"{place}.png", "input": f"in/{place}.png"}))
        put(root, {f"{split}/metadata.jsonl": "\n".join(rows).encode()})


def as_table_of_other_words(root: Path) -> None:
    """A column with a space, and paths that lead up from the folder of the table."""
    put(root, pairs("raw/x{i}.png", "done/y{i}.png"))
    rows = "".join(f"y{i}.png,../raw/x{i}.png\n" for i in range(COUNT))
    put(root, {"done/list.csv": f"Target Image,Input Image\n{rows}".encode()})


def as_halves(root: Path) -> None:
    put(root, {f"{i}.png": encoded(np.concatenate([255 - picture(i), picture(i)], 1)) for i in range(COUNT)})


def folders(inputs: str, targets: str) -> Callable[[Path], None]:
    return lambda root: put(root, pairs(inputs, targets))


LAYOUTS = {
    "A and B": (folders("A/{i}.png", "B/{i}.bmp"), "A"),
    "A and B with splits inside": (folders("A/{s}/{i}.png", "B/{s}/{i}.png"), "A"),
    "splits with A and B inside": (folders("{s}/A/{i}.png", "{s}/B/{i}.png"), "A"),
    "pix2pixHD": (folders("{s}_A/{i}.png", "{s}_B/{i}.png"), "A"),
    "trainA of equal names": (folders("{s}A/{i}.png", "{s}B/{i}.png"), "A"),
    "input and target with classes": (folders("input/c{s}/{i}.png", "target/c{s}/{i}.png"), "input"),
    "reduced": (folders("lr/x4/{i:04}x4.png", "hr/{i:04}.png"), "lr"),
    "DIV2K, whose splits stand within names": (
        folders("DIV2K_{s}_LR_bicubic/X8/{i:04}x8.png", "DIV2K_{s}_HR/{i:04}.png"),
        "DIV2K_LR_bicubic",
    ),
    "sides at the beginning of names, with splits": (
        folders("{s}/Low/low{i:05}.png", "{s}/Normal/normal{i:05}.png"),
        "Low",
    ),
    "rain": (folders("{s}/rain/rain-{i}.png", "{s}/norain/norain-{i}.png"), "rain"),
    "other words for the sides in names": (folders("{s}/data/{i}_rain.png", "{s}/gt/{i}_clean.png"), "data"),
    "CycleGAN's names of pairs, with splits": (folders("{s}A/{i}_A.png", "{s}B/{i}_B.png"), "A"),
    "sides within themselves": (folders("A/A/{i}.png", "B/B/{i}.png"), "A"),
    "edges, which are no masks here": (folders("edges/{i}.png", "photos/{i}.png"), "edges"),
    "names in other letters": (folders("A/Bild-Ä{i}.PNG", "B/bild-a\u0308{i}.png"), "A"),
    "archives": (as_zips, "A"),
    "an archive": (as_one_zip, "input"),
    "a hub's Parquet": (as_parquet, "input_image"),
    "a table": (as_table, "input"),
    "a table in each of the splits": (as_tables_of_splits, "input"),
    "a table of other words": (as_table_of_other_words, "Input Image"),
    "halves": (as_halves, "left"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_recognised_and_read(layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lay, side = LAYOUTS[layout]
    lay(tmp_path)
    (tmp_path / "scratch").mkdir()
    assert find_pairs(tmp_path / "data", tmp_path / "scratch").input == side
    dataset = run(tmp_path, input=side)
    check_negatives(dataset)
    assert not rejected(dataset)
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("pairs")]
    assert len(told) == 1 and (side in told[0]) and ("48" in told[0] or side == "left")
    if "{s}" in str(layout) or "splits" in layout or layout == "pix2pixHD":
        assert dataset.splits["holdout"] == COUNT // 4


def test_the_other_direction(tmp_path: Path) -> None:
    as_halves(tmp_path / "halves")
    put(tmp_path / "folders", pairs("A/{i}.png", "B/{i}.png"))
    for name, side in (("halves", "right"), ("folders", "B")):
        images, inputs = every(run(tmp_path / name, input=side))
        wanted = {(255 - picture(i)).tobytes() for i in range(COUNT)}
        assert {image.tobytes() for image in images} == wanted and (inputs == 255 - images).all()


def test_folders_of_any_name_are_told(tmp_path: Path) -> None:
    put(tmp_path, pairs("{s}/noto/{i}.png", "{s}/fluent/{i}.png"))
    (tmp_path / "scratch").mkdir()
    with pytest.raises(UserError, match=r"no pairs are recognised .*noto.*--input"):
        find_pairs(tmp_path / "data", tmp_path / "scratch")
    dataset = run(tmp_path, input="noto")
    check_negatives(dataset)
    assert dataset.splits["holdout"] == COUNT // 4


def test_domains_are_no_pairs(tmp_path: Path) -> None:
    """Whether names agree tells train_A and train_B of pix2pixHD from trainA and trainB of CycleGAN."""
    put(tmp_path, pairs("trainA/a{i}.png", "trainB/b{i}.png"))
    (tmp_path / "scratch").mkdir()
    with pytest.raises(UserError, match=r"0 of 96 pictures in A and B have a partner.*--task restyle"):
        find_pairs(tmp_path / "data", tmp_path / "scratch")
    with pytest.raises(UserError, match=r"no picture in A has the name of one in B"):
        run(tmp_path, input="A")


def test_names_alike_but_for_more_than_the_side_are_no_pairs(tmp_path: Path) -> None:
    """A letter that begins a word says no side, and of several pictures that differ by such words none is a pair."""
    put(tmp_path, pairs("A/{i}.png", "B/{i}.png"))
    put(tmp_path, {"A/another.png": given(900), "B/nother.png": target(900)})
    put(tmp_path, {"A/100.png": given(901), "B/b_100.png": target(901), "B/B-100.png": target(902)})
    put(tmp_path, {"A/rain.png": given(903), "B/clean.png": target(903)})
    dataset = run(tmp_path, input="A")
    check_negatives(dataset)
    assert len(rejected(dataset)) == 7


def test_reduced_pictures_in_several_sizes_are_refused(tmp_path: Path) -> None:
    put(tmp_path, pairs("LR/X4/{i}x4.png", "HR/{i}.png") | pairs("LR/X2/{i}x2.png", "HR/{i}.png"))
    (tmp_path / "scratch").mkdir()
    several = "share a name with several .* X2 and X4.*: leave one of each"
    with pytest.raises(UserError, match=f"144 of 144 pictures in LR and HR {several}"):
        find_pairs(tmp_path / "data", tmp_path / "scratch")
    with pytest.raises(UserError, match=r"has a name that only one has .* leave one of each"):
        run(tmp_path, input="LR")


def test_two_frames_of_a_photo_are_cut_alike(tmp_path: Path) -> None:
    """A crop takes the same part of both, also where the input is smaller; so do pieces."""
    files = {}
    for i in range(COUNT):
        large = np.asarray(Image.fromarray(picture(i, (12, 20))).resize((80, 48), Image.Resampling.BICUBIC))
        files[f"hr/{i}.png"] = encoded(large)
        files[f"lr/{i}x2.png"] = encoded(np.asarray(Image.fromarray(large).reduce(2)))
    put(tmp_path, files)
    for options in ({"fit": "crop", "resolution": 48}, {"fit": "pad"}, {"fit": "stretch"}, {"fit": "patches"}):
        images, inputs = every(run(tmp_path, input="lr", **{"resolution": 16, **options}))
        differs = np.abs(images.astype(int) - inputs).mean((1, 2, 3))
        shifted = np.abs(images.astype(int) - np.roll(inputs, 4, 2)).mean((1, 2, 3))
        assert differs.max() < 12 and (differs < shifted).mean() > 0.95


def test_channels_and_transparency_of_both(tmp_path: Path) -> None:
    """A grey input of a colour image, and a colour input of a grey one, have the channels of both."""
    put(tmp_path, {f"A/{i}.png": encoded(picture(i)[:, :, 0]) for i in range(COUNT)})
    put(tmp_path, {f"B/{i}.png": target(i) for i in range(COUNT)})
    for side in ("A", "B"):
        dataset = run(tmp_path, input=side)
        images, inputs = every(dataset)
        colour, grey = (images, inputs) if side == "A" else (inputs, images)
        assert dataset.image.channels == 3 and (grey == colour[:, :, :, :1]).all()
    images, inputs = every(run(tmp_path, input="A", channels=4))
    assert images.shape == inputs.shape == (COUNT, SIDE, SIDE, 4) and (inputs[..., 3] == 255).all()


# --- bad input ---


def test_what_has_no_partner_is_named_with_the_reason(tmp_path: Path) -> None:
    put(tmp_path, pairs("A/{i}.png", "B/{i}.png"))
    truncated = given(900)[:200]
    put(
        tmp_path,
        {
            "A/alone.png": given(901),
            "B/also-alone.png": target(902),
            "A/twice.png": given(903),
            "A/twice.jpg": given(904, "JPEG"),
            "B/twice.bmp": target(903, "BMP"),
            "A/broken.png": truncated,
            "B/broken.png": target(900),
            "A/other.png": encoded(picture(905, (16, 20))),
            "B/other.png": target(905),
            "C/3.png": target(906),
            "C/readme.png": target(907),
        },
    )
    (tmp_path / "data" / "A" / "link.png").symlink_to(tmp_path / "nowhere.png")
    put(tmp_path, {"B/link.png": target(908)})
    dataset = run(tmp_path, input="A")
    check_negatives(dataset)
    found = rejected(dataset)
    several = "2 inputs and 1 targets have its name: which belong together is not told"
    assert found.pop("B/broken.png").startswith("its input: ")
    assert found == {
        "A/link.png": "a link that leads nowhere",
        "A/alone.png": "has no partner: no picture in B has its name",
        "B/also-alone.png": "has no partner: no picture in A has its name",
        "B/link.png": "has no partner: no picture in A has its name",
        **dict.fromkeys(("A/twice.png", "A/twice.jpg", "B/twice.bmp"), several),
        "B/other.png": "its input has 20x16 pixels, which is another shape than 16x16",
        "C/3.png": "a third picture of the name of a pair: it lies neither with the inputs nor with the targets",
    }
    assert "C/readme.png" in (dataset.folder / "left_out.csv").read_text()


def test_equal_names_of_several_endings_pair_by_these(tmp_path: Path) -> None:
    put(tmp_path, pairs("A/{i}.png", "B/{i}.png"))
    put(tmp_path, {"A/0.bmp": given(500, "BMP"), "B/0.bmp": target(500, "BMP")})
    check_negatives(run(tmp_path, input="A"), COUNT + 1)


def test_halves_of_an_odd_width_are_rejected(tmp_path: Path) -> None:
    as_halves(tmp_path)
    put(tmp_path, {"odd.png": encoded(picture(1, (16, 33)))})
    dataset = run(tmp_path, input="left")
    check_negatives(dataset)
    assert rejected(dataset) == {"odd.png": "its width of 33 pixels is odd, so it has no two equal halves"}


def test_pieces_need_a_whole_factor(tmp_path: Path) -> None:
    put(tmp_path, {f"hr/{i}.png": encoded(picture(i, (48, 48))) for i in range(COUNT)})
    put(tmp_path, {f"lr/{i}.png": encoded(picture(i, (32, 32) if i else (24, 24))) for i in range(COUNT)})
    with pytest.raises(UserError, match=r"32x32 pixels, .* a whole number of times smaller or larger"):
        run(tmp_path, input="lr", fit="patches", max_rejected=0.0)


@pytest.mark.parametrize(
    ("files", "side", "sentence"),
    [
        (pairs("A/{i}.png", "B/{i}.png", 4), "input", "no folder, column or half .* has that name .*A, B"),
        (pairs("one/{i}.png", "two/{i}.png", 4) | {"three/1.png": target(1)}, "one", "beside it must lie one folder"),
        (pairs("A/{i}.png", "A/b{i}.png", 4), "A", "beside it must lie one folder .*none"),
        (pairs("A/{i}.png", "more/A/b{i}.png", 4), "A", "beside it must lie one folder .*none"),
    ],
)
def test_a_side_that_is_not_told_is_refused(tmp_path: Path, files: Files, side: str, sentence: str) -> None:
    put(tmp_path, files)
    with pytest.raises(UserError, match=sentence):
        run(tmp_path, input=side)


def test_a_table_that_names_what_is_not_there(tmp_path: Path) -> None:
    as_table(tmp_path)
    with (tmp_path / "data" / "labels.csv").open("a") as file:
        file.write("done/y900.png,raw/gone.png\ndone/y901.png,\n")
    put(tmp_path, {f"done/y{i}.png": target(i) for i in (900, 901)} | {"raw/unused.png": given(902)})
    dataset = run(tmp_path, input="input")
    check_negatives(dataset)
    assert rejected(dataset) == {
        "done/y900.png": "its input 'raw/gone.png' is not here",
        "done/y901.png": "labels.csv states no input for it",
        "raw/unused.png": "no row of labels.csv makes a pair of it",
    }


def test_a_column_that_names_no_pictures_says_nothing_of_pairs(tmp_path: Path) -> None:
    """Words, and numbers by which pictures of both folders are called, in columns called as the folder of inputs."""
    put(tmp_path, pairs("input/{i}.png", "target/{i}.png"))
    prompts = "".join(f"target/{i}.png,turn it round\n" for i in range(COUNT))
    numbers = "".join(f"target/{i}.png,{i % 2}\n" for i in range(COUNT))
    put(tmp_path, {"a.csv": f"path,input\n{prompts}".encode(), "b.csv": f"path,input\n{numbers}".encode()})
    check_negatives(run(tmp_path, input="input"))


def test_a_pair_that_tables_state_twice_counts_once(tmp_path: Path) -> None:
    as_table(tmp_path)
    put(tmp_path, {"more.csv": (tmp_path / "data" / "labels.csv").read_bytes()})
    dataset = run(tmp_path, input="input")
    check_negatives(dataset)
    assert dataset.duplicates == 0


def test_a_table_whose_inputs_are_not_here_is_named(tmp_path: Path) -> None:
    put(tmp_path, {f"done/y{i}.png": target(i) for i in range(COUNT)})
    put(tmp_path, {"pairs.csv": b"path,input\ndone/y1.png,raw/x1.png\n"})
    with pytest.raises(UserError, match=r"pairs.csv states no pair of pictures that are here"):
        run(tmp_path, input="input")


def test_all_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="set frames to first"):
        Preprocess(input="A", frames="all")


# --- sides ---


def test_pairs_of_one_target_or_one_input_stand_on_one_side(tmp_path: Path) -> None:
    """Several inputs of one target are several pairs; equal pairs count once."""
    files = pairs("A/{i}.png", "B/{i}.png", 60)
    for i in range(60, 90):
        # Of every second another input of the same target, of the others another target of the same input.
        files[f"A/{i}.png"] = given(i if i % 2 else i - 60)
        files[f"B/{i}.png"] = target(i - 60 if i % 2 else i)
    files |= {"A/90.png": files["A/5.png"], "B/90.png": files["B/5.png"]}
    put(tmp_path, files)
    dataset = run(tmp_path, input="A")
    assert sum(dataset.splits.values()) == 90 and dataset.duplicates == 1
    side: dict[bytes, set[str]] = {}
    for name in dataset.splits:
        split = Split(dataset.folder, name, dataset.image)  # type: ignore[arg-type]
        index = np.arange(len(split))
        for image in (*split.pixels(index), *(255 - split.inputs(index))):
            side.setdefault(image.tobytes(), set()).add(name)
    assert all(len(names) == 1 for names in side.values()) and min(dataset.splits.values()) > 0


def test_a_held_out_pair_whose_input_is_trained_on_is_left_out(tmp_path: Path) -> None:
    files = pairs("{s}/A/{i}.png", "{s}/B/{i}.png")
    put(tmp_path, files | {"test/A/x.png": files["train/A/1.png"], "test/B/x.png": target(700)})
    dataset = run(tmp_path, input="A")
    assert dataset.splits["holdout"] == COUNT // 4 and dataset.between_sides == 1
    left = (dataset.folder / "left_out.csv").read_text()
    assert 'test/B/x.png,"has the same input as train/B/1.png, which stands on another side"' in left


def test_one_input_of_all_is_refused(tmp_path: Path) -> None:
    put(tmp_path, {f"A/{i}.png": given(0) for i in range(COUNT)} | {f"B/{i}.png": target(i) for i in range(COUNT)})
    with pytest.raises(UserError, match="48 of 48 pairs have one and the same input"):
        run(tmp_path, input="A")


def test_data_without_pairs_keep_their_bytes_and_hash(tmp_path: Path) -> None:
    """As they were made before there were pairs."""
    rng = np.random.default_rng(5)
    for split, count in (("train", 60), ("test", 20)):
        for kind in "AB":
            for i in range(count):
                put(tmp_path, {f"{split}/{kind}/{i}.png": encoded(rng.integers(0, 256, (20, 20, 3), np.uint8))})
    dataset = run(tmp_path, resolution=20, max_rejected=0.01)
    assert dataset.content == "f59eee1292982ef2cf7724dc94c99b243b63db814bc6d93493ce44bb7540e431"


# --- domains ---


def test_a_domain_without_pictures_to_be_judged_by_is_told_before_training(tmp_path: Path) -> None:
    """As evaluation asks for two of each, whether the data hold pictures out or their content decides."""
    put(tmp_path / "stated", pairs("{s}A/a{i}.png", "{s}B/b{i}.png"))
    put(tmp_path / "few", {f"A/{i}.png": target(i) for i in range(COUNT)} | {f"B/{i}.png": given(i) for i in range(2)})
    put(tmp_path / "enough", pairs("A/{i}.png", "B/{i}.png"))
    for name in ("stated", "few", "enough"):
        (tmp_path / name / "scratch").mkdir()
    stated, few, enough = (
        survey(tmp_path / name / "data", tmp_path / name / "scratch") for name in ("stated", "few", "enough")
    )
    assert lacking_of_domains(stated, 0.2) == lacking_of_domains(enough, 0.2) == ""
    assert "0 pictures would be held out" in lacking_of_domains(enough, 0.0)
    assert re.match("of the domain B [01] pictures would be held out", lacking_of_domains(few, 0.2))
    for i in range(4, COUNT, 4):
        (tmp_path / "stated" / "data" / "testB" / f"b{i}.png").unlink()
    stated = survey(tmp_path / "stated" / "data", tmp_path / "stated" / "scratch")
    assert "domain B 1 pictures would be held out" in lacking_of_domains(stated, 0.9)
