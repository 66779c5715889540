"""Files that unfold to more than they look, hostile archives, and names: rejected by counts, or told in a sentence.

`benchmarks/bombs.py` measures what the large ones cost.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import struct
import subprocess
import tarfile
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.gan.errors import UserError
from components.gan.models import build
from components.gan.network_options import DCGAN
from components.gan.options import ImageFormat
from components.ingest.formats import find_raw_images
from components.ingest.parts import PART_BYTES, Source, read
from components.ingest.proposals.proposal import shape_of
from components.ingest.proposals.survey import survey
from components.workspace.data_hashes import data_content
from components.workspace.params import Limits, Params, Preprocess
from components.workspace.text import uncelled
from components.workspace.workspace import Workspace
from flows.runner import run_stage
from tests.conftest import idx
from tests.fuzzing.pictures import picture, saved


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "scratch").mkdir()
    return tmp_path / "data"


def found(data: Path, **limits: int) -> Source:
    return find_raw_images(data, data.parent / "scratch", 64, Preprocess(limits=Limits(**limits)))


def png(number: int) -> bytes:
    return saved(picture(number), "PNG")


def good_zip(archive: zipfile.ZipFile) -> None:
    for i in range(6):
        archive.writestr(f"{'ab'[i % 2]}/{i}.png", png(i))


def test_entries_that_share_bytes_are_rejected(data: Path) -> None:
    with zipfile.ZipFile(data / "bomb.zip", "w") as archive:
        good_zip(archive)
        first = archive.infolist()[0]
        for i in range(50):
            again = zipfile.ZipInfo(f"a/again{i}.png")
            for name in ("header_offset", "compress_size", "file_size", "CRC", "flag_bits", "compress_type"):
                setattr(again, name, getattr(first, name))
            archive.filelist.append(again)
    source = found(data)
    assert len(source) == 5
    assert {reason for _, reason in source.rejected} == {"shares its bytes with another entry of the archive"}


def test_links_and_odd_entries_of_archives_are_named(data: Path) -> None:
    with zipfile.ZipFile(data / "links.zip", "w") as archive:
        good_zip(archive)
        link = zipfile.ZipInfo("a/link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("a/zeros.png", bytes(10**7), zipfile.ZIP_DEFLATED)
    assert dict(found(data).rejected) == {
        "links.zip/a/link.png": "a link, which is not followed",
        "links.zip/a/zeros.png": "grows more than 200-fold when it is unpacked",
    }
    (data / "links.zip").unlink()
    with tarfile.open(data / "links.tar", "w") as archive:
        kinds = {"hard": tarfile.LNKTYPE, "soft": tarfile.SYMTYPE, "pipe": tarfile.FIFOTYPE, "device": tarfile.CHRTYPE}
        for i in range(4):
            member = tarfile.TarInfo(f"{'ab'[i % 2]}/{i}.png")
            member.size = len(png(i))
            archive.addfile(member, io.BytesIO(png(i)))
        for name, kind in kinds.items():
            member = tarfile.TarInfo(f"a/{name}.png")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    source = found(data)
    assert len(source) == 4
    assert dict(source.rejected) == {
        "links.tar/a/hard.png": "a link, which is not followed",
        "links.tar/a/soft.png": "a link, which is not followed",
        "links.tar/a/pipe.png": "not a regular file",
        "links.tar/a/device.png": "not a regular file",
    }


def test_a_liar_about_sizes_unpacks_to_no_more_than_it_says(data: Path) -> None:
    with zipfile.ZipFile(data / "liar.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        good_zip(archive)
        archive.writestr("a/liar.png", bytes(3 * 10**5))
        archive.infolist()[-1].file_size = 10
    contents = [content for part in found(data).parts for content in read(part)]
    assert contents.count("is damaged inside its archive") == 1
    assert sum(isinstance(content, bytes) for content in contents) == 6


def test_a_part_holds_little_however_it_is_packed(data: Path) -> None:
    """Whoever sends parts to a cluster holds one of them, unpacked."""
    with zipfile.ZipFile(data / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(24):
            archive.writestr(f"{i}.bmp", random_text(i) * 40)
    source = found(data)
    assert len(source) == 24
    for part in source.parts:
        assert sum(len(content) for content in read(part)) < PART_BYTES + 6 * 10**6
    assert len(source.parts) > 1


def random_text(number: int) -> bytes:
    return np.random.default_rng(number).bytes(50_000) * 2


def test_labels_that_go_on_are_not_unpacked(data: Path) -> None:
    (data / "images.idx").write_bytes(idx(np.zeros((3, 4, 5), np.uint8)))
    with gzip.open(data / "labels.idx.gz", "wb") as file:
        file.write(struct.pack(">II", 0x801, 3))
        for _ in range(100):
            file.write(bytes(2**20))
    tracemalloc.start()
    with pytest.raises(UserError, match="cut short"):
        found(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10**7


@pytest.mark.parametrize("shape", [(3, 0, 5), (3, 5, 0)])
def test_images_without_pixels_are_refused(data: Path, shape: tuple[int, ...]) -> None:
    (data / "images.idx").write_bytes(idx(np.zeros(shape, np.uint8)))
    (data / "labels.idx").write_bytes(idx(np.zeros(3, np.uint8)))
    with pytest.raises(UserError, match="cut short"):
        found(data)


def test_rows_that_share_one_value_are_refused_before_they_fill_the_disk(data: Path) -> None:
    for kind in (pa.binary(), pa.struct([("bytes", pa.binary())])):
        value = bytes(10**6)
        rows: list[Any] = [value if kind == pa.binary() else {"bytes": value}] * 200
        pq.write_table(pa.table({"image": pa.array(rows, kind)}), data / "bomb.parquet", compression="zstd")
        with pytest.raises(UserError, match="grows more than 200-fold"):
            found(data)
        assert sum(file.stat().st_size for file in (data.parent / "scratch").iterdir()) <= 2**24


def test_counts_are_parameters(data: Path) -> None:
    for i in range(10):
        (data / f"{i}.png").write_bytes(png(i))
    with pytest.raises(UserError, match=r"raise preprocess\.limits\.entries"):
        found(data, entries=9)
    (data / "large.png").write_bytes(bytes(10**6))
    assert found(data, file_bytes=10**5).rejected == [("large.png", "too large a file")]


def test_limits_are_in_the_key_only_where_they_were_changed() -> None:
    later = {
        *("limits", "heic", "development", "near_duplicates", "source", "labels", "splits", "strict", "follow_links"),
        *("bits", "min_class_images", "patches_per_file", "reduce", "input", "hidden_pairs"),
    }
    assert Preprocess().hashed.keys() == Preprocess().model_dump().keys() - later
    assert Preprocess(limits=Limits(pixels=5)).hashed["limits"] == {"pixels": 5}
    assert Preprocess(heic=True).hashed["heic"] is True


def test_folders_may_be_deeper_than_python_calls_functions(data: Path, tmp_path: Path) -> None:
    for i in range(40):
        (data / "ab"[i % 2]).mkdir(exist_ok=True)
        (data / "ab"[i % 2] / f"{i}.png").write_bytes(png(i))
    at = os.open(data / "a", os.O_RDONLY)
    for _ in range(1_200):
        os.mkdir("d", dir_fd=at)
        at, above = os.open("d", os.O_RDONLY, dir_fd=at), at
        os.close(above)
    os.close(at)
    source = found(data)
    assert len(source) == 40
    ((_, reason),) = source.rejected
    assert reason == "lies in more than 100 folders (preprocess.limits.depth)"
    assert len(data_content(data, tmp_path)) == 64
    # Python's own way, by which pytest cleans up, ends at a thousand folders.
    subprocess.run(["rm", "-rf", data], check=True)


def test_names_are_shown_and_written_harmlessly(data: Path) -> None:
    names = [
        *(
            b"\x1b]0;OWNED\x07\x1b[2J.png",
            b"line\nganflow: all is well.png",
            b"=1+1.png",
            b"+x.png",
            b"@x.png",
            b"-x.png",
        ),
        *(b"\xff\xfe.png", "photo\u202egnp.exe.png".encode(), "\u732b.png".encode()),
    ]
    for label in ("a", "=cmd()\x1b[2J"):
        (data / label).mkdir()
        for i in range(60):
            (data / label / f"{i}.png").write_bytes(png(i + 100 * len(label)))
    for name in names:
        (data / "=cmd()\x1b[2J" / os.fsdecode(name)).write_bytes(b"broken")
    dataset = run_stage(
        "preprocess", Params(preprocess=Preprocess(resolution=8, max_rejected=1)), Workspace(data.parent)
    )
    assert dataset.image.classes == (r"=cmd()\x1b[2J", "a")  # type: ignore[attr-defined]
    with (dataset.folder / "rejected.csv").open(encoding="utf-8", newline="") as table:
        _, *rows = csv.reader(table)
    assert len(rows) == len(names)
    assert all(cell.isprintable() and cell[0] not in "=+-@" for row in rows for cell in row)
    assert {uncelled(path).rpartition("/")[2] for path, _ in rows} >= {
        "=1+1.png",
        "-x.png",
        "\u732b.png",
        r"\xff\xfe.png",
    }


@pytest.mark.parametrize("size", [(200, 4000), (4000, 200), (16, 6000), (3000, 1), (7, 7), (1, 1)])
def test_what_is_proposed_can_be_made(data: Path, size: tuple[int, int]) -> None:
    for i in range(12):
        (data / f"{i}.png").write_bytes(saved(picture(i, "L", size), "PNG"))
    height, width = shape_of(survey(data, data.parent / "scratch"), 64)
    assert Preprocess(resolution=(height, width)).shape == (height, width)
    assert max(height, width) <= 4 * min(height, width)
    build(DCGAN(), ImageFormat(height=height, width=width, channels=1, classes=("image",)))


def test_nothing_but_broken_files_is_told(data: Path) -> None:
    for i in range(5):
        (data / f"{i}.png").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"none of 5 files .* can be read \(the first: 0.png: not an image\)"):
        survey(data, data.parent / "scratch")


def test_a_damaged_header_in_a_tar_ends_the_reading_with_a_sentence(data: Path) -> None:
    """It was taken for the end, and what followed was lost; looked at for another archive, it had no end."""
    with tarfile.open(data / "set.tar", "w") as archive:
        for i in range(4):
            member = tarfile.TarInfo(f"{i}.png")
            member.size = len(png(i))
            archive.addfile(member, io.BytesIO(png(i)))
        places = [member.offset for member in archive.getmembers()]
    content = bytearray((data / "set.tar").read_bytes())
    content[places[2] + 3] ^= 1
    (data / "set.tar").write_bytes(content)
    with pytest.raises(UserError, match=r"set\.tar is not a tar archive that can be read"):
        found(data)
