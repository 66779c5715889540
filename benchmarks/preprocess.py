"""Preprocessing against plain Pillow loops, how two cores share it, and its peak memory for very many images.

python -m benchmarks.preprocess [--images 20000] [--many 1000000] [--rounds 3]

A plain loop opens, crops and scales the same PNG files (128x128 to 64x64) into one array, and does not hash, check,
split or write anything. `plain` is one loop over all files, `two_plain` two processes with half of the files each;
`two_ours` two whole preprocessings on one core each, with half of the files each.
The many images are 32x32 in WebDataset shards.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from components.workspace.params import Params, Preprocess
from components.workspace.workspace import Workspace
from flows.runner import run_stage

PROJECT = Path(__file__).resolve().parents[1]


def make(folder: Path, count: int) -> None:
    """Distinct colour images with the smooth areas and edges of photographs."""
    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        (folder / "data" / label).mkdir(parents=True)
    for i in range(count):
        small = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        small.resize((128, 128), Image.Resampling.BICUBIC).save(
            folder / "data" / "ab"[i % 2] / f"{i}.png", compress_level=1
        )


def plain(folder: Path, part: slice = slice(None)) -> dict[str, float]:
    began = time.perf_counter()
    files = sorted((folder / "data").rglob("*.png"))[part]
    out = np.empty((len(files), 64, 64, 3), np.uint8)
    for i, path in enumerate(files):
        with Image.open(path) as image:
            out[i] = np.asarray(ImageOps.fit(image.convert("RGB"), (64, 64), Image.Resampling.LANCZOS))
    return {"seconds": time.perf_counter() - began}


def two_plain(folder: Path) -> dict[str, float]:
    began = time.perf_counter()
    halves = [multiprocessing.Process(target=plain, args=(folder, slice(half, None, 2))) for half in range(2)]
    for process in halves:
        process.start()
    for process in halves:
        process.join()
    return {"seconds": time.perf_counter() - began}


def two_ours(folder: Path) -> dict[str, float]:
    """Two workspaces, each with half of the files and a core of its own."""
    for half in range(2):
        for path in sorted((folder / "data").rglob("*.png"))[half::2]:
            link = folder / f"half{half}" / path.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.hardlink_to(path)
    apart = [multiprocessing.Process(target=on_one_core, args=(folder / f"half{half}", half)) for half in range(2)]
    began = time.perf_counter()
    for process in apart:
        process.start()
    for process in apart:
        process.join()
    seconds = time.perf_counter() - began
    for half in range(2):
        shutil.rmtree(folder / f"half{half}")
    return {"seconds": seconds}


def on_one_core(folder: Path, half: int) -> None:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[half % len(cores)]})
    ours(folder)


def make_many(folder: Path, count: int, shard: int = 10_000) -> None:
    """`count` distinct 32x32 images with labels, as a WebDataset."""
    (folder / "data").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for first in tqdm(range(0, count, shard), desc="make", unit="shard"):
        with tarfile.open(folder / "data" / f"shard-{first // shard:05d}.tar", "w") as archive:
            small = rng.integers(0, 256, (min(shard, count - first), 6, 6, 3), dtype=np.uint8)
            for i, pixels in enumerate(small, first):
                buffer = io.BytesIO()
                image = Image.fromarray(pixels).resize((32, 32), Image.Resampling.BICUBIC)
                image.save(buffer, "jpeg", quality=90)
                for name, content in ((f"{i:08d}.jpg", buffer.getvalue()), (f"{i:08d}.cls", b"%d" % (i % 10))):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))


def ours_32(folder: Path) -> dict[str, float]:
    return ours(folder, 32)


def ours(folder: Path, resolution: int = 64) -> dict[str, float]:
    began = time.perf_counter()
    run_stage("preprocess", Params(preprocess=Preprocess(resolution=resolution)), Workspace(folder))
    return {"seconds": time.perf_counter() - began}


def apart(only: str, folder: Path) -> dict[str, float]:
    """One measurement in a process of its own, with that process's peak memory."""
    code = (
        "import json, resource, sys; from pathlib import Path; from benchmarks.preprocess import *;"
        f"found = {only}(Path(sys.argv[1]));"
        "found['peak_mb'] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024;"
        "found['peak_mb_of_a_child'] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024;"
        "print(json.dumps(found))"
    )
    process = [sys.executable, "-c", code, str(folder)]
    out = subprocess.run(process, cwd=PROJECT, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, float] = json.loads(out.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--many", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {"plain": [], "two_plain": [], "two_ours": [], "ours": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, arguments.images)
        few = 0.0
        for _ in range(arguments.rounds):
            for variant, found in seconds.items():
                subprocess.run(["rm", "-rf", str(folder / "artifacts"), str(folder / ".ganflow")], check=True)
                measured = apart(variant, folder)
                found.append(measured["seconds"])
                few = measured["peak_mb"]
    result = {
        **seconds,
        "ratio_to_one_loop": median(b / a for a, b in zip(seconds["plain"], seconds["ours"], strict=True)),
        "share_of_two_loops": median(a / b for a, b in zip(seconds["two_plain"], seconds["ours"], strict=True)),
        "share_of_two_ours": median(a / b for a, b in zip(seconds["two_ours"], seconds["ours"], strict=True)),
        "peak_mb_few": few,
    }
    if arguments.many:
        with tempfile.TemporaryDirectory() as name:
            make_many(Path(name), arguments.many)
            result |= {f"{key}_many": value for key, value in apart("ours_32", Path(name)).items()}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
