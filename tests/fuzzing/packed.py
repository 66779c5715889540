"""Good archives, arrays and tables, and how they are read."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.ingest.formats import find_raw_images
from components.ingest.part_tables import make_part
from components.ingest.parts import read
from components.workspace.params import Preprocess
from components.workspace.text import printable
from tests.conftest import idx
from tests.fuzzing.pictures import LIMITS, OPTIONS, npy, picture, saved


def _files() -> dict[str, bytes]:
    return {f"{'ab'[i % 2]}/{i}.png": saved(picture(i), "PNG") for i in range(4)} | {"a/5.npy": npy()[1]}


def zips() -> Sequence[bytes]:
    made = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for name, content in _files().items():
                archive.writestr(name, content)
            archive.writestr("9" * 5_000 + "/6.png", b"x")
        made.append(buffer.getvalue())
    return made


def _tar(files: dict[str, bytes], kind: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("a/link.png")
        link.type, link.linkname = tarfile.LNKTYPE, "a/0.png"
        archive.addfile(link)
    return buffer.getvalue()


def tars() -> Sequence[bytes]:
    long = {f"{'n' * 150}/{'m' * 90}.png": saved(picture(1), "PNG")}
    return [_tar(_files() | long), _tar(_files() | long, tarfile.GNU_FORMAT), gzip.compress(_tar(_files()), mtime=0)]


def shards() -> Sequence[bytes]:
    files: dict[str, bytes] = {}
    for i in range(4):
        files |= {f"{i}.png": saved(picture(i), "PNG"), f"{i}.{'cls' if i % 2 else 'json'}": b'{"label": 3}'}
    return [_tar(files), _tar(files | {"7.png": saved(picture(7), "PNG"), "7.cls": b"9" * 5_000})]


def parquets() -> Sequence[bytes]:
    images = [*_files().values()]
    hub = json.dumps({"info": {"features": {"label": {"names": ["x", "y"]}}}})
    struct_ = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    tables = (
        pa.table({"image": pa.array([{"bytes": c, "path": "p"} for c in images], struct_), "label": [0, 1, 0, 1, 5]}),
        pa.table({"img": images, "label": ["a", "9" * 5_000, "b", None, "a"]}),
    )
    made = []
    for table in tables:
        for compression in ("NONE", "ZSTD"):
            buffer = io.BytesIO()
            pq.write_table(table.replace_schema_metadata({"huggingface": hub}), buffer, compression=compression)
            made.append(buffer.getvalue())
    return made


def idx_pairs() -> Sequence[bytes]:
    """Images and labels behind each other, with the length of the first before them."""
    rng = np.random.default_rng(0)
    images, labels = idx(rng.integers(0, 256, (6, 5, 4), np.uint8)), idx(np.arange(6, dtype=np.uint8))
    pairs = [(images, labels), (gzip.compress(images, mtime=0), gzip.compress(labels, mtime=0))]
    return [len(a).to_bytes(2, "big") + a + b for a, b in pairs]


def csv_tables() -> Sequence[bytes]:
    good = b"path,label,split\na.png,x,train\nb.png,y,test\n../c.png,x,\n"
    return [good, good + b"a.png," + b"9" * 5_000 + b",\n", b"path\n" + b"n" * 5_000 + b".png\na\0b.png\n"]


def npz() -> Sequence[bytes]:
    buffer = io.BytesIO()
    np.savez(buffer, images=np.zeros((2, 8, 8), np.uint8), labels=np.zeros(2, np.uint8))
    return [buffer.getvalue()]


def read_container(data: Path, scratch: Path) -> None:
    scratch.mkdir()
    source = find_raw_images(data, scratch, 64, Preprocess(limits=LIMITS))
    assert all(printable(name) == name and reason for name, reason in source.rejected)
    for part in source.parts:
        table, pixels, _ = make_part(part, read(part), OPTIONS)
        assert len(table.rows) == len(pixels)
        assert all(printable(name) == name for name in map(part.name, range(len(part))))


def as_file(name: str) -> Callable[[bytes, Path], None]:
    def read_file(content: bytes, folder: Path) -> None:
        (folder / "data").mkdir()
        (folder / "data" / name).write_bytes(content)
        read_container(folder / "data", folder / "scratch")

    return read_file


def read_idx(content: bytes, folder: Path) -> None:
    (folder / "data").mkdir()
    cut = int.from_bytes(content[:2], "big")
    (folder / "data" / "images-idx3-ubyte").write_bytes(content[2 : 2 + cut])
    (folder / "data" / "labels-idx1-ubyte").write_bytes(content[2 + cut :])
    read_container(folder / "data", folder / "scratch")


def read_csv(content: bytes, folder: Path) -> None:
    (folder / "data").mkdir()
    for name in ("a.png", "b.png"):
        (folder / "data" / name).write_bytes(b"x")
    (folder / "data" / "labels.csv").write_bytes(content)
    read_container(folder / "data", folder / "scratch")
