"""Small real data and the tools to run the project as its users do, in processes of their own."""

from __future__ import annotations

import os

# Threads that wait shall leave the processor to the other processes of a test: spinning takes several times as long
# where more of them are at work than there are processors. Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import gzip
import random
import shutil
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from filelock import FileLock
from hypothesis import settings

from components.gan.dataset import Split, SplitName
from components.gan.options import ImageFormat
from components.workspace.artifacts import Dataset
from components.workspace.params import Params, Preprocess
from components.workspace.workspace import Workspace
from flows.runner import run_stage

PROJECT = Path(__file__).resolve().parents[1]
Pixels = npt.NDArray[np.uint8]
SPLITS: tuple[SplitName, ...] = ("training", "development", "holdout")

# The same examples in every run: what fails in one fails in the next.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

# One training of a few seconds, which still writes two checkpoints.
SMALL = """
preprocess: {resolution: 28}
train:
  network: {name: dcgan, generator_width: 16, discriminator_width: 16}
  images: 4096
  log_every: 1024
  checkpoint_every: 2048
evaluate: {samples: 500, copy_checks: 50}
postprocess: {images: 40, steps: [{name: curate}, {name: upscale, factor: 2}], interpolation_frames: 6}
register: {name: ganflow}
# So short a training loses classes.
promote: {min_class_share: 0, min_recall: 0, samples: 500, feature_nets: 2}
"""


def idx(array: npt.NDArray[np.uint8]) -> bytes:
    """`array` in the format of MNIST."""
    return struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--complete", action="store_true", help="a test that is skipped for want of something fails")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and item.config.getoption("--complete"):
        report.outcome = "failed"
        report.longrepr = f"skipped, with --complete: {call.excinfo.value if call.excinfo else 'without a reason'}"
    return report


@pytest.fixture(scope="session")
def digits() -> tuple[Pixels, Pixels]:
    """2,000 real digits (N, 28, 28) with their labels."""
    folder = PROJECT / "data"
    images = gzip.decompress((folder / "images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / "labels-idx1-ubyte.gz").read_bytes())
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)
    return pixels[:2000], np.frombuffer(labels, np.uint8, offset=8)[:2000]


@pytest.fixture(scope="session")
def split_folder(tmp_path_factory: pytest.TempPathFactory, digits: tuple[Pixels, Pixels]) -> Path:
    """A training split of 500 digits in two shards."""
    folder = tmp_path_factory.mktemp("split")
    np.save(folder / "training-00000.npy", digits[0][:300, :, :, None])
    np.save(folder / "training-00001.npy", digits[0][300:500, :, :, None])
    np.save(folder / "training-labels.npy", digits[1][:500].astype(np.int64))
    return folder


@pytest.fixture
def split(split_folder: Path) -> Split:
    return Split(split_folder, "training", ImageFormat(height=28, width=28, channels=1, classes=tuple("0123456789")))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, digits: tuple[Pixels, Pixels]) -> Path:
    """A workspace after all five stages and the gate, called one by one. To be copied, not changed."""
    folder = tmp_path_factory.getbasetemp()
    # Processes that share the tests share it too.
    shared = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    root = shared / "finished"
    with FileLock(shared / "finished.lock"):
        if not (shared / "finished.whole").exists():
            shutil.rmtree(root, ignore_errors=True)
            (root / "data").mkdir(parents=True)
            (root / "params.yaml").write_text(SMALL)
            (root / "data" / "images.idx").write_bytes(idx(digits[0][:700]))
            (root / "data" / "labels.idx").write_bytes(idx(digits[1][:700]))
            for stage in ("preprocess", "train", "evaluate", "postprocess", "register", "promote"):
                succeeded(ganflow(root, stage))
            (shared / "finished.whole").touch()
    return root


@pytest.fixture
def make_workspace(tmp_path: Path, digits: tuple[Pixels, Pixels]) -> Callable[..., Path]:
    """Makes a folder with small parameters and, as an IDX pair, the first `images` digits."""

    def make(name: str = "workspace", images: int = 800) -> Path:
        root = tmp_path / name
        (root / "data").mkdir(parents=True)
        (root / "params.yaml").write_text(SMALL)
        (root / "data" / "images.idx").write_bytes(idx(digits[0][:images]))
        (root / "data" / "labels.idx").write_bytes(idx(digits[1][:images]))
        return root

    return make


def unpack_old_workspace(folder: Path) -> Path:
    """Unpack the workspace that commit 29edf2a left, and `reference` beside it, into `folder`; the workspace.

    `fixtures/make_workspace.py` made it and says what it holds.
    """
    with tarfile.open(PROJECT / "tests" / "fixtures" / "workspace-29edf2a.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "workspace"


@pytest.fixture(scope="session")
def _unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workspace that commit 29edf2a left, which takes a second to unpack. To be copied, not changed."""
    return unpack_old_workspace(tmp_path_factory.mktemp("unpacked"))


@pytest.fixture
def old_workspace(_unpacked: Path, tmp_path: Path) -> Path:
    """A fresh copy of the workspace that commit 29edf2a left, to be changed."""
    shutil.copytree(_unpacked.parent, tmp_path, symlinks=True, dirs_exist_ok=True)
    return tmp_path / _unpacked.name


def environment(**extra: str) -> dict[str, str]:
    """The environment of a user without servers: the embedded default of each tool, and no word to anyone."""
    names = ("RAY_ADDRESS", "PREFECT_API_URL", "PREFECT_HOME", "MLFLOW_TRACKING_URI")
    clean = {name: value for name, value in os.environ.items() if name not in names}
    path = f"{Path(sys.executable).parent}{os.pathsep}{clean['PATH']}"
    # MLflow's server has eight processes more with job execution.
    quiet = {"DVC_NO_ANALYTICS": "1", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return {**clean, "PATH": path, **quiet, **extra}


def ganflow(root: Path, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    command = [str(Path(sys.executable).parent / "ganflow"), *arguments]
    return subprocess.run(command, cwd=root, env=environment(**extra), capture_output=True, text=True, timeout=300)


def made_dataset(root: Path, options: Preprocess) -> Dataset:
    """The data set of the images in `root/data`, in this process."""
    dataset = run_stage("preprocess", Params(preprocess=options), Workspace(root))
    assert isinstance(dataset, Dataset)
    return dataset


def succeeded(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def refused(root: Path, *arguments: str, **extra: str) -> str:
    """The one sentence of a command that cannot do what was asked, and left nothing half-written."""
    result = ganflow(root, *arguments, **extra)
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert not list((root / "artifacts").glob(".*"))
    return lines[0]


@pytest.fixture(autouse=True)
def _repeatable() -> None:
    """Begin every test with the same random numbers and as many threads as the smallest machine has processors."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(2)


@pytest.fixture(autouse=True)
def _tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget after each test where it told MLflow to look: MLflow writes that into the environment."""
    # Only what was set is put back at the end of the test, which is to be as at its beginning.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
