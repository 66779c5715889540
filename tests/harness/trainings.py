"""Real trainings in processes of their own, seen through what they write."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

PROJECT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
DIGITS = 2_000
PARAMS = """
preprocess: {resolution: 28}
train:
  network: {name: dcgan, generator_width: 32, discriminator_width: 16}
  images: %d
  log_every: 512
  checkpoint_every: 4096
evaluate: {samples: 500, copy_checks: 50}
postprocess: {images: 20, interpolation_frames: 0}
"""
IMAGES = 40_960
QUIET = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "DVC_NO_ANALYTICS": "1"}
NAMED = ("RAY_ADDRESS", "PREFECT_API_URL", "MLFLOW_TRACKING_URI")

Found = dict[str, Any]


def workspace(root: Path, images: int = IMAGES) -> Path:
    """With the first digits, preprocessed."""
    (root / "data").mkdir(parents=True)
    (root / "params.yaml").write_text(PARAMS % images)
    for name, header, size in (("images-idx3-ubyte", 16, 28 * 28), ("labels-idx1-ubyte", 8, 1)):
        whole = gzip.decompress((PROJECT / "data" / f"{name}.gz").read_bytes())
        fewer = whole[:4] + DIGITS.to_bytes(4, "big") + whole[8:header] + whole[header : header + DIGITS * size]
        (root / "data" / f"{name}.idx").write_bytes(fewer)
    Run(root, "preprocess").finished()
    return root


class Run:
    """One command of ganflow at work, seen through what it writes."""

    def __init__(self, root: Path, *arguments: str, **variables: str) -> None:
        self.root = root
        self.began = time.monotonic()
        environment = {name: value for name, value in os.environ.items() if name not in NAMED} | QUIET | variables
        self._out = (root / "out.txt").open("w+")
        self.process = subprocess.Popen(
            [str(BIN / "ganflow"), *arguments],
            cwd=root,
            env=environment,
            stdout=self._out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # A test that runs in the background has inherited deafness to Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
        )
        self.tree = psutil.Process(self.process.pid)

    @property
    def output(self) -> str:
        return (self.root / "out.txt").read_text()

    @property
    def folder(self) -> Path:
        return next((self.root / ".ganflow" / "training").glob("*/checkpoints"), Path("?/?")).parent

    def images(self) -> int:
        """How far the curves go."""
        try:
            lines = (self.folder / "progress.jsonl").read_text().splitlines()
        except OSError:
            return 0
        rows = [json.loads(line) for line in lines if line.endswith("}")]
        return max((int(row.get("images", 0)) for row in rows), default=0)

    def checkpoints(self) -> list[int]:
        return sorted(int(p.name) for p in self.folder.glob("checkpoints/*") if p.name.isdigit())

    def until(self, condition: Callable[[], bool], seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.output}"
            assert time.monotonic() < deadline, f"waited {seconds} s: {self.output}"
            time.sleep(0.02)

    def trained(self, checkpoints: int = 2) -> Run:
        """Itself, once it has so many checkpoints, and has gone on a little."""
        self.until(lambda: len(self.checkpoints()) >= checkpoints and self.images() > self.checkpoints()[-1] + 1024)
        return self

    def recovered(self, since: float, before: int) -> Found:
        """Wait for the first point that is trained anew; what that took, and how much is trained again."""
        newest = self.checkpoints()[-1]
        # Curves begin anew with those of the checkpoint.
        self.until(lambda: self.images() == newest, 180)
        self.until(lambda: self.images() > newest, 180)
        return {"recovery_seconds": round(time.monotonic() - since, 1), "images_again": before - newest}

    def workers(self) -> list[psutil.Process]:
        found = []
        for each in self.tree.children(recursive=True):
            with suppress(psutil.Error):
                if "RayTrainWorker" in " ".join(each.cmdline()):
                    found.append(each)
        return found

    def finished(self, seconds: float = 400) -> str:
        code = self.process.wait(seconds)
        assert code == 0, self.output
        return self.output

    def kill_everything(self) -> None:
        """As a power cut does."""
        for each in [self.tree, *self.tree.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        self.process.wait()


def model_hash(root: Path) -> str:
    """Of the published networks and the curves, without what a fault may change."""
    digest = hashlib.sha256()
    for name in ("generator.safetensors", "discriminator.safetensors", "history.csv"):
        digest.update((root / "artifacts" / "model" / name).read_bytes())
    return digest.hexdigest()


def undisturbed(folder: Path, workers: str = "auto") -> str:
    """The hash of the model that the same training makes without a fault."""
    root = workspace(folder / f"undisturbed-{workers}")
    Run(root, "train", "--set", f"train.workers={workers}").finished()
    return model_hash(root)
