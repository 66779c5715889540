"""Damaged and hostile inputs for every reader: read, rejected or told in a sentence, and none ends in a traceback.

python -m tests.fuzz [--minutes 30] [--seed 0] [--keep FOLDER] [--only READER]

Prints a table of inputs, tracebacks and the slowest input of each reader; the same seed makes the same inputs.
`tests/test_fuzz.py` runs a bounded number of them.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import io
import json
import os
import random
import shutil
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
import torch
import yaml
from PIL import Image

from components.gan.errors import UserError
from components.gan.weights import read_weights
from components.ingest.decoding import decoded, look
from components.ingest.formats import find_raw_images
from components.ingest.part_tables import make_part
from components.ingest.parts import read
from components.pictures.opening import hush, reads_heic
from components.provenance.ledger import Ledger
from components.provenance.picture import read_picture
from components.workspace.artifacts import Dataset, Evaluation, Gallery, Model, Registration
from components.workspace.files import sealed, unsealed
from components.workspace.journal import _sealed
from components.workspace.params import Limits, Params, Preprocess
from components.workspace.params_file import rewritten
from components.workspace.text import printable
from components.workspace.verdict import Verdict
from components.workspace.workspace import Workspace
from flows.drift import Tick
from tests.conftest import SMALL, idx

Bytes = bytes
# So that a bomb that gets through costs the fuzzing little.
LIMITS = Limits(file_bytes=2**22, pixels=2**20, entries=5_000)
OPTIONS = Preprocess(resolution=8, frames="all", heic=reads_heic(), limits=LIMITS)
NUMBERS = (0, 1, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
WORDS = (
    *(b"9" * 5_000, b"-1", b"1e999", b"NaN", b"null", b"[]", b"{}", b'""', b"\0", b"\xff\xfe", b"\n", b"\r\n"),
    *(b"[" * 2_000, b'{"a":' * 2_000, b"/" * 300, b"../" * 9, b"\x1b[2J", b"\xe2\x80\xae", b"=1+1", b"true"),
)


@dataclass
class Reader:
    """Something that reads what strangers write: good inputs, and how one is read."""

    name: str
    seeds: Callable[[], Sequence[bytes]]
    read: Callable[[bytes, Path], None]
    inputs: int = 0
    tracebacks: dict[str, bytes] = field(default_factory=dict)
    slowest: float = 0.0

    def try_one(self, content: bytes) -> None:
        """Read one input in a folder of its own."""
        self.inputs += 1
        began = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="fuzz-", dir=_scratch()) as folder:
            try:
                self.read(content, Path(folder))
            except UserError as error:
                if "\n" in str(error):
                    self.tracebacks.setdefault("a sentence of several lines", content)
            except Exception as error:
                where = traceback.extract_tb(error.__traceback__)
                ours = [f for f in where if "components" in f.filename or "flows" in f.filename] or where
                place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
                self.tracebacks.setdefault(f"{type(error).__name__} at {place}: {str(error)[:100]}", content)
        self.slowest = max(self.slowest, time.perf_counter() - began)


def mutated(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Return an input with one to six damages, each of a random kind."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        # Headers decide more than what follows.
        end = len(data) if rng.random() < 0.5 else min(len(data), 128)
        at = rng.randrange(end) if end else 0
        kind = rng.randrange(9)
        if kind == 0 and data:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and data:
            data[at] = rng.randrange(256)
        elif kind == 2:
            size, order = rng.choice((1, 2, 4, 8)), rng.choice(("little", "big"))
            number = rng.choice(NUMBERS) % 256**size
            data[at : at + size] = number.to_bytes(size, order)
        elif kind == 3:
            del data[at:]
        elif kind == 4:
            del data[at : at + rng.randrange(1, 65)]
        elif kind == 5:
            data[at:at] = data[at : at + rng.randrange(1, 300)]
        elif kind == 6:
            data[at:at] = rng.randbytes(rng.randrange(1, 33))
        elif kind == 7:
            data[at : at + rng.randrange(20)] = rng.choice(WORDS)
        else:
            other = rng.choice(others)
            data[at:] = other[rng.randrange(len(other) + 1) :]
        if len(data) > 2**18:
            break
    return bytes(data)


# --- pictures ---


def picture(number: int, mode: str = "RGB", size: tuple[int, int] = (16, 12)) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).convert(mode)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _of(kind: str, *variants: tuple[str, dict[str, Any]]) -> Callable[[], Sequence[bytes]]:
    return lambda: [saved(picture(i, mode), kind, **options) for i, (mode, options) in enumerate(variants)]


def _frames(mode: str = "RGB") -> dict[str, Any]:
    return {"save_all": True, "append_images": [picture(9, mode), picture(10, mode)]}


def _npy() -> Sequence[bytes]:
    made = []
    for array in (np.zeros((9, 8), np.uint8), np.ones((5, 6, 3), "<u2"), np.zeros((4, 4, 2), ">u2"), np.zeros(3)):
        buffer = io.BytesIO()
        np.save(buffer, array)
        made.append(buffer.getvalue())
    return made


def _exif() -> dict[str, Any]:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x011A] = 6, "words", (72, 1)
    return {"exif": exif}


def read_image(content: bytes, folder: Path) -> None:
    """As preprocessing, `ganflow init` and `ganflow trace` do."""
    for options in (OPTIONS, OPTIONS.model_copy(update={"frames": "first", "channels": 4})):
        for made in decoded(content, options):
            assert isinstance(made, str) or made.pixels.shape[:2] == (8, 8)
            assert not isinstance(made, str) or (made and printable(made) == made)
    look(content, OPTIONS)
    (folder / "picture.png").write_bytes(content)
    read_picture(folder / "picture.png")


PICTURES: dict[str, Callable[[], Sequence[bytes]]] = {
    "PNG": _of(
        "PNG", ("RGB", {}), ("P", {}), ("RGBA", {"compress_level": 0}), ("I;16", {}), ("1", {}), ("RGB", _frames())
    ),
    "JPEG": _of("JPEG", ("RGB", {}), ("L", {}), ("CMYK", {}), ("RGB", {"progressive": True}), ("RGB", _exif())),
    "WebP": _of("WEBP", ("RGB", {}), ("RGBA", {"lossless": True}), ("RGB", _frames())),
    "GIF": _of("GIF", ("P", {}), ("L", {}), ("P", _frames("P"))),
    "TIFF": _of(
        "TIFF",
        *(("RGB", {}), ("1", {"compression": "group4"}), ("RGB", {"compression": "tiff_lzw"}), ("I;16", {})),
        *(("RGB", {"compression": "jpeg"}), ("RGB", {"compression": "tiff_adobe_deflate"}), ("RGB", _frames())),
    ),
    "BMP": _of("BMP", ("RGB", {}), ("P", {}), ("1", {})),
    "PPM": _of("PPM", ("RGB", {}), ("L", {}), ("1", {})),
    "AVIF": _of("AVIF", ("RGB", {}), ("RGBA", {}), ("RGB", _frames())),
    "JPEG 2000": _of("JPEG2000", ("RGB", {}), ("L", {}), ("RGB", {"no_jp2": True})),
    "MPO": _of("MPO", ("RGB", _frames())),
    "ICO": _of("ICO", ("RGBA", {}), ("RGBA", {"bitmap_format": "bmp"})),
    "TGA": _of("TGA", ("RGB", {}), ("L", {}), ("RGBA", {"compression": "tga_rle"})),
    "PCX": _of("PCX", ("RGB", {}), ("L", {}), ("1", {})),
    "npy": _npy,
}


# --- containers ---


def _files() -> dict[str, bytes]:
    return {f"{'ab'[i % 2]}/{i}.png": saved(picture(i), "PNG") for i in range(4)} | {"a/5.npy": _npy()[1]}


def _zips() -> Sequence[bytes]:
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


def _tars() -> Sequence[bytes]:
    long = {f"{'n' * 150}/{'m' * 90}.png": saved(picture(1), "PNG")}
    return [_tar(_files() | long), _tar(_files() | long, tarfile.GNU_FORMAT), gzip.compress(_tar(_files()), mtime=0)]


def _shards() -> Sequence[bytes]:
    files: dict[str, bytes] = {}
    for i in range(4):
        files |= {f"{i}.png": saved(picture(i), "PNG"), f"{i}.{'cls' if i % 2 else 'json'}": b'{"label": 3}'}
    return [_tar(files), _tar(files | {"7.png": saved(picture(7), "PNG"), "7.cls": b"9" * 5_000})]


def _parquets() -> Sequence[bytes]:
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


def _idx() -> Sequence[bytes]:
    """Images and labels behind each other, with the length of the first before them."""
    rng = np.random.default_rng(0)
    images, labels = idx(rng.integers(0, 256, (6, 5, 4), np.uint8)), idx(np.arange(6, dtype=np.uint8))
    pairs = [(images, labels), (gzip.compress(images, mtime=0), gzip.compress(labels, mtime=0))]
    return [len(a).to_bytes(2, "big") + a + b for a, b in pairs]


def _csv() -> Sequence[bytes]:
    good = b"path,label,split\na.png,x,train\nb.png,y,test\n../c.png,x,\n"
    return [good, good + b"a.png," + b"9" * 5_000 + b",\n", b"path\n" + b"n" * 5_000 + b".png\na\0b.png\n"]


def read_container(data: Path, scratch: Path) -> None:
    scratch.mkdir()
    source = find_raw_images(data, scratch, 64, Preprocess(limits=LIMITS))
    assert all(printable(name) == name and reason for name, reason in source.rejected)
    for part in source.parts:
        table, pixels, _ = make_part(part, read(part), OPTIONS)
        assert len(table.rows) == len(pixels)
        assert all(printable(name) == name for name in map(part.name, range(len(part))))


def _as_file(name: str) -> Callable[[bytes, Path], None]:
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


# --- what a workspace of somebody else holds ---


def _described() -> dict[str, Any]:
    """An artifact's JSON in which every kind has what it asks for."""
    training = json.loads(Params().train.loop.model_dump_json())
    image = {"height": 28, "width": 28, "channels": 1, "classes": ["a", "b"]}
    return {
        "key": {"options": "o", "inputs": "i", "code": "c"},
        "files": {},
        **{"training": training, "image": image, "images": 1, "score": 0.5, "dataset": "d"},
        **{"execution": {"workers": 1, "threads": 1, "device": "cpu", "precision": "fp32"}},
        **{"generator_parameters": 1, "discriminator_parameters": 1},
    }


def _dataset() -> dict[str, Any]:
    return {
        "key": {"options": "o", "inputs": "i", "code": "c"},
        "files": {"training-labels.npy": {"size": 1, "sha256": "0" * 64}},
        "image": {"height": 28, "width": 28, "channels": 1, "classes": ["a", "b"]},
        **{"splits": {"training": 3}, "class_counts": {"training": {"a": 3}}, "mean": [0.5], "std": [0.5]},
        **{"rejected": 0, "duplicates": 0, "source": "s"},
    }


def read_manifest(content: bytes, folder: Path) -> None:
    """As it is, and sealed as a stranger can."""
    texts = [content.decode("utf-8", "surrogateescape")]
    with contextlib.suppress(ValueError, RecursionError, TypeError, AttributeError):
        texts.append(sealed(json.loads(content)))
    for kind in (Dataset, Model, Evaluation, Gallery, Registration):
        for text in texts:
            (folder / kind.manifest).write_text(text, errors="surrogateescape")
            kind.load(folder)


def _manifests() -> Sequence[bytes]:
    return [json.dumps(_described()).encode(), sealed(_described()).encode(), json.dumps(_dataset()).encode()]


def read_verdict(content: bytes, folder: Path) -> None:
    (folder / "verdict.json").write_bytes(content)
    Verdict.last(folder, "ganflow", 3)


def _verdicts() -> Sequence[bytes]:
    numbers = dict.fromkeys(("improvement", "low", "high", "margin", "alpha", "kid_challenger", "floor"), 0.5)
    said = {"name": "ganflow", "challenger": 3, "champion": 2, "answer": "keep", "reason": "r", "checks": [], **numbers}
    check = {"name": "copying", "passed": False, "words": "w"}
    return [json.dumps(said).encode(), json.dumps(said | {"checks": [check] * 3}).encode()]


def read_ledger(content: bytes, folder: Path) -> None:
    """The lines as they are, and sealed as a stranger can."""
    workspace = Workspace(folder)
    workspace.ledger.parent.mkdir(parents=True)
    for lines in (content, b"\n".join(_sealed(line.rstrip(b"}")) for line in content.splitlines())):
        workspace.ledger.write_bytes(lines)
        ledger = Ledger(workspace)
        ledger.entries()
        for word in ledger.damage():
            assert printable(word) == word


def _ledgers() -> Sequence[bytes]:
    facts = {"images": 3, "classes": ["a"], "source": "0" * 64, "files": "f"}
    entry = {
        "kind": "dataset",
        "key": "k",
        "content": "c",
        "parents": {},
        "flow_run": None,
        "time": "t",
        "facts": facts,
    }
    line = json.dumps({"entry": entry, "previous": None}).encode()
    return [line + b"\n" + line, _sealed(line[:-1]) + b"\n"]


def read_journal(content: bytes, folder: Path) -> None:
    from components.workspace.journal import Journal

    (folder / "drift.jsonl").write_bytes(content)
    for tick in Journal(folder / "drift.jsonl").records(Tick):
        tick.described()


def _journals() -> Sequence[bytes]:
    tick = {"time": "2026", "champion": 3, "new": 60, "used": 50, "statistic": 0.1, "p_value": 0.5, "alpha": 0.01}
    return [b"\n".join([json.dumps(tick).encode()] * 3)]


def read_params(content: bytes, folder: Path) -> None:
    path = folder / "params.yaml"
    path.write_bytes(content)
    with contextlib.suppress(UserError):
        Params.load(path, ["train.images=9"])
    rewritten(content.decode("utf-8", "replace"), {"train.images": 5})


def _params() -> Sequence[bytes]:
    everything = yaml.safe_dump(Params().model_dump(mode="json")).encode()
    aliases = "a: &a [x, x]\n" + "".join(f"{n}: &{n} [*{chr(ord(n) - 1)}, *{chr(ord(n) - 1)}]\n" for n in "bcdef")
    return [SMALL.encode(), everything, aliases.encode(), b"train: &t {images: 5}\nevaluate: {<<: *t}\n"]


def _safetensors() -> Sequence[bytes]:
    return [
        safetensors.torch.save({"a": torch.zeros(3, 4), "b": torch.ones(2, dtype=torch.bfloat16)}),
        safetensors.torch.save({f"layer{i}.weight": torch.zeros(i, 2) for i in range(8)}),
    ]


def readers() -> list[Reader]:
    """Return all of them, anew."""
    return [
        *(Reader(name, seeds, read_image) for name, seeds in PICTURES.items()),
        *([Reader("HEIC", _heic, read_image)] if reads_heic() else []),
        Reader("IDX", _idx, read_idx),
        Reader("zip", _zips, _as_file("pictures.zip")),
        Reader("npz", _npz, _as_file("arrays.npz")),
        Reader("tar", _tars, _as_file("pictures.tar")),
        Reader("WebDataset", _shards, _as_file("shard-000.tar")),
        Reader("Parquet", _parquets, _as_file("train.parquet")),
        Reader("labels.csv", _csv, read_csv),
        Reader("safetensors", _safetensors, lambda content, _: void(read_weights(content))),
        Reader("ledger", _ledgers, read_ledger),
        Reader("journal", _journals, read_journal),
        Reader("verdict.json", _verdicts, read_verdict),
        Reader("manifests", _manifests, read_manifest),
        Reader("sealed JSON", _manifests, read_sealed),
        Reader("params.yaml", _params, read_params),
    ]


def void(_: object) -> None:
    """Let go of a result."""


def read_sealed(content: bytes, folder: Path) -> None:
    with contextlib.suppress(ValueError):
        unsealed(content.decode("utf-8", "replace"))


def _npz() -> Sequence[bytes]:
    buffer = io.BytesIO()
    np.savez(buffer, images=np.zeros((2, 8, 8), np.uint8), labels=np.zeros(2, np.uint8))
    return [buffer.getvalue()]


def _heic() -> Sequence[bytes]:
    import pillow_heif

    pillow_heif.register_heif_opener()
    return [saved(picture(1, size=(64, 64)), "HEIF"), saved(picture(2, "L", size=(64, 64)), "HEIF")]


@cache
def _scratch() -> Path | None:
    """Memory, where there is some: a fuzz run writes hundreds of thousands of small files."""
    shm = Path("/dev/shm")
    return shm if shm.is_dir() and os.access(shm, os.W_OK) else None


def inputs(reader: Reader, count: int, seed: int) -> None:
    """Let a reader read its good inputs, and `count` damaged ones."""
    hush()
    seeds = reader.seeds()
    if not reader.inputs:
        for content in seeds:
            reader.try_one(content)
    rng = random.Random(f"{seed} {reader.name} {reader.inputs}")
    for _ in range(count):
        reader.try_one(mutated(rng.choice(seeds), seeds, rng))


def table(done: Sequence[Reader]) -> str:
    """Return the result as Markdown."""
    lines = ["| reader | inputs | tracebacks | slowest, s |", "|---|---|---|---|"]
    lines += [f"| {r.name} | {r.inputs:,} | {len(r.tracebacks)} | {r.slowest:.2f} |" for r in done]
    count, found = sum(r.inputs for r in done), sum(len(r.tracebacks) for r in done)
    return "\n".join([*lines, f"| all | {count:,} | {found} | {max(r.slowest for r in done):.2f} |"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the inputs that end in a traceback")
    parser.add_argument("--only", help="name of a reader")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    done = [reader for reader in readers() if arguments.only in (None, reader.name)]
    until = time.monotonic() + 60 * arguments.minutes
    while time.monotonic() < until:
        for reader in done:
            # As many as a second has room for.
            inputs(reader, max(5, min(500, int(reader.inputs / max(reader.slowest, 0.01) / 50))), arguments.seed)
    print(table(done))
    for reader in done:
        for error, content in reader.tracebacks.items():
            print(f"{reader.name}: {error}", file=sys.stderr)
            if arguments.keep:
                arguments.keep.mkdir(parents=True, exist_ok=True)
                (arguments.keep / f"{reader.name}-{hashlib.sha256(content).hexdigest()[:12]}").write_bytes(content)
    for left in (_scratch() or Path(tempfile.gettempdir())).glob("fuzz-*"):
        shutil.rmtree(left, ignore_errors=True)
    sys.exit(any(reader.tracebacks for reader in done))


if __name__ == "__main__":
    main()
