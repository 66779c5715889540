"""Small files that unfold to much: what each costs in a process of its own, and what becomes of it.

python -m benchmarks.bombs [--only NAME] [--code FOLDER] [--seconds 120]

Each bomb lies among 80 pictures (or is the whole input), and is preprocessed to 28x28; strips and `params.yaml` are
given to what reads them. `--code`: a checkout of another version, whose readers are measured instead.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.fuzzing.pictures import saved

PROJECT = Path(__file__).resolve().parents[1]


def picture(number: int, size: tuple[int, int] = (32, 32)) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


def good(data: Path) -> None:
    for i in range(80):
        (data / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        (data / "ab"[i % 2] / f"{i}.png").write_bytes(picture(i))


def beside(name: str, content: Callable[[], bytes]) -> Callable[[Path], None]:
    """The bomb is one file among good ones."""

    def make(data: Path) -> None:
        good(data)
        (data / "a" / name).write_bytes(content())

    return make


def npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((1, 1, 200_000), np.uint8))
    return buffer.getvalue()


def npy_header() -> bytes:
    header = b"(" * 60_000 + b"\n"
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(header)) + header


def flat_webp() -> bytes:
    return saved(Image.new("RGB", (12_000, 7_000)), "WEBP", lossless=True)


def flat_png() -> bytes:
    return saved(Image.new("1", (9_400, 9_400)), "PNG")


def deep_png() -> bytes:
    return saved(Image.fromarray(np.zeros((9_000, 9_900), np.uint16)), "PNG")


def many_scans() -> bytes:
    """A progressive JPEG whose last scan is there 20,000 times."""
    content = saved(Image.new("L", (6_000, 6_000)), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * 20_000 + content[-2:]


def png_chunks() -> bytes:
    content = picture(1)
    packed = zlib.compress(b"x" * 900_000, 9)
    text = b"a\0\0" + packed
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    profile = b"p\0\0" + zlib.compress(bytes(50_000_000), 9)
    icc = struct.pack(">I", len(profile)) + b"iCCP" + profile + struct.pack(">I", zlib.crc32(b"iCCP" + profile))
    return content[:33] + icc + chunk * 500 + content[33:]


def gif_frames() -> bytes:
    head = saved(Image.new("P", (4_000, 4_000)), "GIF")
    start = head.index(b"\x2c", 13)
    return head[:start] + head[start:-1] * 50 + head[-1:]


def tiff_pages() -> bytes:
    """One page, whose directory is repeated; all pages name the same strip."""
    pages = [Image.new("1", (8_000, 8_000)) for _ in range(2)]
    return saved(pages[0], "TIFF", compression="group4", save_all=True, append_images=pages[1:] * 50)


def overlapping(data: Path, entries: int = 40, size: int = 500_000) -> None:
    """A zip whose entries all name one stream: a picture of 9,000x9,000."""
    data.mkdir()
    buffer = io.BytesIO()
    content = saved(Image.new("L", (9_000, 9_000)), "PNG", compress_level=9)
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/0.png", content)
        first = archive.infolist()[0]
        for i in range(1, entries):
            again = zipfile.ZipInfo(f"{'ab'[i % 2]}/{i}.png")
            for name in ("header_offset", "compress_size", "file_size", "CRC", "flag_bits", "compress_type"):
                setattr(again, name, getattr(first, name))
            archive.filelist.append(again)
        for i in range(80):
            archive.writestr(f"{'ab'[i % 2]}/good{i}.png", picture(i))
    (data / "bomb.zip").write_bytes(buffer.getvalue())


def zip_growth(data: Path) -> None:
    data.mkdir()
    with zipfile.ZipFile(data / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(80):
            archive.writestr(f"{'ab'[i % 2]}/good{i}.png", picture(i))
        for i in range(10):
            archive.writestr(f"a/{i}.png", bytes(400_000_000), compresslevel=9)


def zip_many(data: Path) -> None:
    data.mkdir()
    with zipfile.ZipFile(data / "bomb.zip", "w") as archive:
        for i in range(80):
            archive.writestr(f"{'ab'[i % 2]}/good{i}.png", picture(i))
        for i in range(200_000):
            archive.writestr(f"a/{i}.png", b"")


def labels(data: Path) -> None:
    data.mkdir()
    rows = 100
    pixels = np.random.default_rng(0).integers(0, 256, (rows, 28, 28), np.uint8)
    (data / "images.idx").write_bytes(struct.pack(">IIII", 0x803, rows, 28, 28) + pixels.tobytes())
    with gzip.open(data / "labels.idx.gz", "wb") as file:
        file.write(struct.pack(">II", 0x801, rows))
        for _ in range(2_000):
            file.write(bytes(2**20))


def parquet(data: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    data.mkdir()
    image = pa.array([bytes(7_000_000)] * 1_024, pa.large_binary())
    table = pa.table({"image": image, "label": ["a", "b"] * 512})
    pq.write_table(table, data / "bomb.parquet", compression="zstd", dictionary_pagesize_limit=2**30)


def tar_headers(data: Path) -> None:
    """3,000 headers of long names behind each other."""
    data.mkdir()
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 4
    (data / "bomb.tar").write_bytes((member.tobuf(tarfile.GNU_FORMAT) + b"aaa\0".ljust(512, b"\0")) * 3_000)


def deep_json(data: Path) -> None:
    data.mkdir()
    with tarfile.open(data / "shard.tar", "w") as archive:
        for i in range(100):
            label = b"[" * 200_000 if i == 7 else b'{"label": %d}' % (i % 2)
            for name, content in ((f"{i}.png", picture(i)), (f"{i}.json", label)):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def deep_folders(data: Path) -> None:
    good(data)
    at = os.open(data / "a", os.O_RDONLY)
    for _ in range(1_500):
        os.mkdir("d", dir_fd=at)
        at, above = os.open("d", os.O_RDONLY, dir_fd=at), at
        os.close(above)
    os.close(at)


def strips(data: Path) -> None:
    data.mkdir()
    for i in range(40):
        pixels = np.random.default_rng(i).integers(0, 256, (600, 4), np.uint8)
        image = Image.fromarray(pixels).resize((16, 60_000), Image.Resampling.NEAREST)
        image.save(data / f"{i}.png")


def aliases(data: Path) -> None:
    data.mkdir()
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{n}: &{n} [{', '.join([f'*{chr(ord(n) - 1)}'] * 9)}]" for n in "bcdefghi"]
    (data.parent / "params.yaml").write_text("\n".join([*lines, "train: {images: *i}", ""]))


# What it is, how it is made, and who reads it.
BOMBS: dict[str, tuple[Callable[[Path], None], str]] = {
    "zip, 40 entries over one stream": (overlapping, "preprocess"),
    "zip, 10 entries of 400 MB of zeros": (zip_growth, "preprocess"),
    "zip, 200,000 empty entries": (zip_many, "preprocess"),
    ".npy of 200,000 channels": (beside("bomb.npy", npy), "preprocess"),
    ".npy header of 60,000 brackets": (beside("bomb.npy", npy_header), "preprocess"),
    "gzipped labels of 2 GB": (labels, "preprocess"),
    "Parquet, 1,024 rows of one 7 MB value": (parquet, "preprocess"),
    "WebP, 84 million pixels of one colour": (beside("bomb.webp", flat_webp), "preprocess"),
    "PNG, 88 million pixels of 1 bit": (beside("bomb.png", flat_png), "preprocess"),
    "PNG, 89 million pixels of 16 bits": (beside("bomb.png", deep_png), "preprocess"),
    "JPEG of 20,000 scans": (beside("bomb.jpg", many_scans), "preprocess"),
    "PNG, 500 text chunks and a profile of 50 MB": (beside("bomb.png", png_chunks), "preprocess"),
    "GIF, 51 frames of 4000x4000": (beside("bomb.gif", gif_frames), "frames"),
    "TIFF, 51 pages of 8000x8000": (beside("bomb.tif", tiff_pages), "frames"),
    "tar, 3,000 headers of long names": (tar_headers, "preprocess"),
    "JSON label of 200,000 brackets": (deep_json, "preprocess"),
    "folders 1,500 deep": (deep_folders, "preprocess"),
    "40 strips of 16x60000": (strips, "init"),
    "params.yaml of aliases": (aliases, "params"),
}


def read(root: Path, way: str) -> str:
    """Read the bomb in this process; what became of it, in a sentence."""
    from components.gan.errors import UserError
    from components.workspace.params import Params, Preprocess
    from components.workspace.workspace import Workspace
    from flows.runner import run_stage

    try:
        if way == "params":
            Params.load(root / "params.yaml")
        elif way == "init":
            from components.ingest.proposals.generating import propose
            from components.ingest.proposals.survey import survey

            (root / "scratch").mkdir()
            proposal = propose(survey(root / "data", root / "scratch"), "strips", 2, 0)
            return f"{proposal.image.width}x{proposal.image.height} is proposed"
        else:
            options = Preprocess(max_rejected=1, frames="all" if way == "frames" else "first")
            run_stage("preprocess", Params(preprocess=options), Workspace(root))
            import pandas as pd

            rejected = pd.read_csv(root / "artifacts" / "dataset" / "rejected.csv")
            reasons = rejected["reason"][~rejected["reason"].str.startswith("same pixels as")]
            return f"{len(reasons)} rejected: {reasons.iloc[0]}" if len(reasons) else "read"
    except UserError as error:
        return str(error)
    except Exception as error:
        return f"TRACEBACK {type(error).__name__}"
    return "read"


def measure(name: str, code: Path, seconds: int) -> dict[str, object]:
    """Peak memory in MB, seconds and outcome of one bomb, read by `code`."""
    make, way = BOMBS[name]
    folder = tempfile.mkdtemp()
    try:
        root = Path(folder)
        make(root / "data")
        made = [*root.glob("data/*bomb*"), *root.glob("data/a/bomb*"), *root.glob("params.yaml")]
        size = sum(f.stat().st_size for f in made or [f for f in root.glob("data/*") if f.is_file()])
        script = (
            "import json, resource, sys, time; from pathlib import Path;"
            f"sys.path[:0] = [{str(code)!r}, {str(PROJECT / 'benchmarks')!r}]; import bombs;"
            "from components.workspace.params import Params; import flows.runner, torch, pandas, components.preprocess;"
            "import components.ingest.proposals.generating;"
            "at = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024;"
            "before, began = at(), time.perf_counter();"
            f"said = bombs.read(Path({folder!r}), {way!r});"
            "print(json.dumps([at() - before, round(time.perf_counter() - began, 1), said]))"
        )
        # Else a bomb that goes off would take the machine with it.
        limited = ["prlimit", f"--as={14 * 2**30}", sys.executable, "-c", script]
        environment = {**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "2"}
        began = time.perf_counter()
        try:
            done = subprocess.run(
                limited, env=environment, cwd=root, capture_output=True, text=True, timeout=seconds, check=False
            )
            megabytes, took, said = json.loads(done.stdout.splitlines()[-1])
        except subprocess.TimeoutExpired:
            megabytes, took, said = None, round(time.perf_counter() - began, 1), "not done"
        except (IndexError, ValueError):
            megabytes, took, said = None, round(time.perf_counter() - began, 1), f"died: {done.stderr[-100:]}"
    finally:
        # Python's own way ends at a thousand folders.
        subprocess.run(["rm", "-rf", folder], check=True)
    return {"bomb": name, "bytes": size, "mb": megabytes, "seconds": took, "said": str(said).replace(folder, "...")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="part of a name")
    parser.add_argument("--code", type=Path, default=PROJECT)
    parser.add_argument("--seconds", type=int, default=120)
    arguments = parser.parse_args()
    for name in BOMBS:
        if arguments.only is None or arguments.only in name:
            print(json.dumps(measure(name, arguments.code.resolve(), arguments.seconds)), flush=True)


if __name__ == "__main__":
    main()
