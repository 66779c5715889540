"""Preprocessing against a plain Pillow loop, and its peak memory as the number of images grows.

python -m benchmarks.preprocess [--images 5000] [--many 50000] [--rounds 3]

The plain loop opens, crops and scales the same PNG files (128x128 to 64x64) into one array, and does not hash, check,
split or write anything.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image, ImageOps

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


def plain(folder: Path) -> dict[str, float]:
    began = time.perf_counter()
    files = sorted((folder / "data").rglob("*.png"))
    out = np.empty((len(files), 64, 64, 3), np.uint8)
    for i, path in enumerate(files):
        with Image.open(path) as image:
            out[i] = np.asarray(ImageOps.fit(image.convert("RGB"), (64, 64), Image.Resampling.LANCZOS))
    return {"seconds": time.perf_counter() - began}


def ours(folder: Path) -> dict[str, float]:
    from components.params import Preprocess
    from components.preprocess import preprocess

    began = time.perf_counter()
    preprocess(Preprocess(resolution=64), folder / "data", folder / "artifacts" / "dataset")
    return {"seconds": time.perf_counter() - began}


def apart(only: str, folder: Path) -> dict[str, float]:
    """One measurement in a process of its own, with that process's peak memory."""
    code = (
        "import json, resource, sys; from pathlib import Path; from benchmarks.preprocess import plain, ours;"
        f"found = {only}(Path(sys.argv[1]));"
        "found['peak_mb'] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024; print(json.dumps(found))"
    )
    process = [sys.executable, "-c", code, str(folder)]
    out = subprocess.run(process, cwd=PROJECT, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, float] = json.loads(out.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5_000)
    parser.add_argument("--many", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
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
    with tempfile.TemporaryDirectory() as name:
        make(Path(name), arguments.many)
        many = apart("ours", Path(name))["peak_mb"]
    ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
    print(json.dumps({**seconds, "ratio": median(ratios), "peak_mb_few": few, "peak_mb_many": many}))


if __name__ == "__main__":
    main()
