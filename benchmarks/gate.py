"""What the gate vetoes, by pipelines of their own: `python -m benchmarks.gate [--workspace DIR] [--keep DIR]`.

One that is trained on 32 images, one that never saw a class, one that collapsed, and one with nothing wrong. Prints a
JSON line for each. How often the gate's comparison is right `benchmarks/gate_years.py` measures.
"""

from __future__ import annotations

import argparse
import gzip
import json
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from components.workspace.verdict import Verdict
from components.workspace.workspace import Workspace

GANFLOW = Path(sys.executable).parent / "ganflow"


def digits(folder: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """The clone's digits (N, 28, 28) and their labels."""
    names = "images-idx3", "labels-idx1"
    images, labels = (gzip.decompress((folder / f"{name}-ubyte.gz").read_bytes()) for name in names)
    return np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28), np.frombuffer(labels, np.uint8, offset=8)


def write_idx(folder: Path, prefix: str, pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in (("images-idx3", pixels), ("labels-idx1", labels)):
        header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        (folder / f"{prefix}{name}-ubyte").write_bytes(header + array.tobytes())


def vetoed(data: Path, root: Path) -> Iterator[tuple[str, Verdict]]:
    """What the gate says of models that no score may save, each made by a run of its own."""
    pixels, labels = digits(data)
    sevens = np.flatnonzero(labels[:8_000] == 7)
    cases = {
        "32 images": (np.arange(32), ["train.images=64000"]),
        # A class without any image is refused before the training.
        "a class seen twice": (np.r_[sevens[:2], np.flatnonzero(labels[:8_000] != 7)], ["train.images=48000"]),
        "collapsed": (np.arange(8_000), ["train.images=16000", "train.network={name: dcgan, latent: 1}"]),
        "nothing wrong": (np.arange(8_000), ["train.images=48000"]),
    }
    for name, (chosen, options) in cases.items():
        workspace = Workspace(root / name.replace(" ", "-"))
        if not workspace.registration.exists():
            write_idx(workspace.data, "train-", pixels[chosen], labels[chosen])
            write_idx(workspace.data, "t10k-", pixels[8_000:], labels[8_000:])
            workspace.params.write_text("")
            for stage in ("preprocess", "train", "evaluate", "postprocess", "register", "promote"):
                values = [f"--set={option}" for option in options]
                subprocess.run([GANFLOW, stage, *values], cwd=workspace.root, check=True, stdout=subprocess.DEVNULL)
        yield name, Verdict.model_validate_json((workspace.verdict / "verdict.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=Path())
    parser.add_argument("--keep", type=Path, help="folder for the workspaces, to go on from")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        keep = given.keep or Path(temporary)
        for name, verdict in vetoed(given.workspace / "data", keep.absolute()):
            failed = {check.name: round(check.value, 3) for check in verdict.checks if not check.passed}
            print(json.dumps({"trained on": name, "answer": verdict.answer, "vetoes": failed}), flush=True)


if __name__ == "__main__":
    main()
