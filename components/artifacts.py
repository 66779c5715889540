"""What stages hand to each other: a folder, and the JSON that describes it and is written last.

Everything in an artifact is a pure function of its key: no date, duration, run id, host or absolute path.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from filelock import FileLock, Timeout
from pydantic import AfterValidator, Field

from .gan.options import Execution, ImageFormat, Options, TrainingOptions, UserError

SMALL_FILE = 2**16


@dataclass(frozen=True)
class Workspace:
    """A folder with parameters, data and results; the clone is one, `--workspace DIR` names another."""

    root: Path

    @classmethod
    def around(cls, out: Path) -> Workspace:
        """The workspace of an artifact's folder, `<root>/artifacts/model` or `<root>/mlruns/registration`."""
        return cls(out.absolute().parent.parent)

    @property
    def params(self) -> Path:
        return self.root / "params.yaml"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def dataset(self) -> Path:
        return self.root / "artifacts" / "dataset"

    @property
    def model(self) -> Path:
        return self.root / "artifacts" / "model"

    @property
    def evaluation(self) -> Path:
        return self.root / "artifacts" / "evaluation"

    @property
    def gallery(self) -> Path:
        return self.root / "artifacts" / "gallery"

    @property
    def registration(self) -> Path:
        return self.root / "mlruns" / "registration"

    @property
    def verdict(self) -> Path:
        return self.root / "mlruns" / "verdict"

    @property
    def mlruns(self) -> Path:
        return self.root / "mlruns"

    @property
    def state(self) -> Path:
        """Training state, feature nets, Prefect's home: all but the ledger may be deleted at the price of time."""
        return self.root / ".ganflow"

    @property
    def ledger(self) -> Path:
        """What came from what (`ledger.py`): the one thing here that cannot be made again."""
        return self.state / "ledger.jsonl"

    def exclusive(self) -> AbstractContextManager[object]:
        """Hold the workspace, until the block ends or else the process does; a holder that died holds nothing.

        Raises:
            BusyError: another process holds it.
        """
        lock = _lock(self.root)
        holder = self.state / "holder.json"
        with disk_errors(holder):
            self.state.mkdir(parents=True, exist_ok=True)
            try:
                held: AbstractContextManager[object] = lock.acquire(timeout=0)
            except Timeout:
                raise BusyError(self.root, holder) from None
            if lock.lock_counter == 1:
                since = datetime.now().astimezone().isoformat(timespec="seconds")
                staged = holder.with_suffix(".tmp")
                staged.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}))
                staged.replace(holder)
                for left in [*self.root.glob("artifacts/.*-*"), *self.root.glob("mlruns/.*-*")]:
                    # Begun, or replaced, by a process that was killed.
                    shutil.rmtree(left, ignore_errors=True)
        return held


@cache
def _lock(root: Path) -> FileLock:
    """One for each workspace and process: a stage takes what its flow holds already."""
    return FileLock(root / ".ganflow" / "lock", thread_local=False)


class BusyError(UserError):
    """Another process works in the workspace."""

    exit_code = 3

    def __init__(self, root: Path, holder: Path) -> None:
        try:
            held = json.loads(holder.read_text())
            by = f"process {held['pid']} on {held['host']} since {held['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            by = "another process"
        super().__init__(f"{root} is in use by {by}: wait for its end, or name another folder by --workspace")


class Key(Options):
    """What a stage's result depends on, as three hashes; equal keys mean equal results."""

    options: str
    inputs: str
    code: str

    @property
    def id(self) -> str:
        return hashlib.sha256(f"{self.options}{self.inputs}{self.code}".encode()).hexdigest()[:16]


class OtherVersionError(UserError):
    """An artifact whose JSON this version does not know; it is made again."""


class FileRecord(Options):
    size: int
    sha256: str


def _inside(name: str) -> str:
    if not name or name.startswith("/") or "\\" in name or {"", ".", ".."} & {*name.split("/")}:
        raise ValueError(f"{name!r} does not lie in the artifact's folder")
    return name


class Artifact(Options):
    """A folder and the JSON that describes it; subclasses say what the JSON holds."""

    manifest: ClassVar[str]

    key: Key
    files: dict[Annotated[str, AfterValidator(_inside)], FileRecord]
    folder: Path = Field(exclude=True)

    @cached_property
    def content(self) -> str:
        """Hash of all but the key, so that an edit of code that changes no result goes no further down."""
        described = self.model_dump(mode="json", exclude={"key"})
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The artifact in `folder`, its files checked for presence and size.

        Raises:
            UserError: it is missing or damaged.
        """
        path = folder / cls.manifest
        if not path.exists():
            made_by = cls.__name__.lower()
            raise UserError(f"there is no {made_by} at {folder}: run `ganflow run`, which makes it")
        try:
            artifact = cls(**unsealed(path.read_text()), folder=folder)
        except (ValueError, TypeError):
            raise OtherVersionError(
                f"{path} is damaged, or of another version of ganflow: `ganflow run` makes it again"
            ) from None
        for name, record in artifact.files.items():
            file = folder / name
            if not file.is_file() or file.stat().st_size != record.size:
                raise _damaged(folder, f"{name} is missing or has another size")
        return artifact

    @classmethod
    def find(cls, folder: Path, key: Key) -> Self | None:
        """The artifact in `folder` if it is whole and carries `key`."""
        try:
            artifact = cls.load(folder)
        except UserError:
            return None
        return artifact if artifact.key == key else None

    def verified(self) -> Self:
        """Itself, after a check of every byte.

        Raises:
            UserError: a file does not have the recorded hash.
        """
        for name, record in self.files.items():
            if sha256_of(self.folder / name) != record.sha256:
                raise _damaged(self.folder, f"{name} does not have the recorded hash")
        return self

    @classmethod
    def describe(cls, folder: Path, key: Key, **facts: Any) -> None:
        """Write the JSON of the files in `folder`: the last act before it is published."""
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        files = {
            path.relative_to(folder).as_posix(): FileRecord(size=path.stat().st_size, sha256=sha256_of(path))
            for path in paths
        }
        artifact = cls(key=key, files=files, folder=folder, **facts)
        (folder / cls.manifest).write_text(sealed(artifact.model_dump(mode="json")))


class Dataset(Artifact):
    """uint8 shards and labels of two splits (`gan.dataset`), and the table of rejected files `rejected.csv`."""

    manifest = "dataset.json"

    image: ImageFormat
    splits: dict[str, int] = Field(description="images in each split")
    class_counts: dict[str, dict[str, int]] = Field(description="images of each class in each split")
    mean: tuple[float, ...] = Field(description="of each channel of the training split, in [0, 1]")
    std: tuple[float, ...]
    rejected: int
    duplicates: int
    source: str = Field(description="hash of the raw data")


class Model(Artifact):
    """`generator.safetensors` (moving average), `discriminator.safetensors`, `history.csv`."""

    manifest = "model.json"

    training: TrainingOptions
    image: ImageFormat
    execution: Execution
    images: int = Field(description="images seen by the published networks")
    score: float = Field(description="the in-training score that chose them")
    generator_parameters: int
    discriminator_parameters: int
    dataset: str = Field(description="content hash of the data set")


class Evaluation(Artifact):
    """`metrics.json`, and the samples it was measured on: `samples.npy` (N, H, W, C) with the table `samples.csv`.

    For the gate features of both, `features.npy` (N, F) and `holdout.npy` (M, F), and hashes of the training images,
    `training_images.npy`.
    """

    manifest = "evaluation.json"

    metrics: dict[str, float] = Field(description="the same as metrics.json")
    intervals: dict[str, tuple[float, float]] = Field(
        description="95 % intervals of those that have one, from resampling"
    )
    samples: int
    training_images: int
    holdout_images: int
    feature_net: str = Field(description="hash of the classifier's weights")
    holdout: str = Field(description="hash of the holdout's images and labels")
    model: str = Field(description="content hash of the model")


class Picture(Options):
    """One finished image of a gallery."""

    file: str
    seed: int
    label: str
    steps: tuple[str, ...]


class Gallery(Artifact):
    """Finished images, `contact_sheet.png`, `interpolation.webp`, `report.html`."""

    manifest = "gallery.json"

    pictures: tuple[Picture, ...]
    model: str = Field(description="content hash of the model")


class Registration(Artifact):
    """Which version of the registered model this model is; nothing that changes later."""

    manifest = "registration.json"

    name: str
    version: int
    model_key: str
    tracking: str = Field(description="address of the tracking server, `embedded` for the workspace's own")


def sealed(described: Mapping[str, Any]) -> str:
    """JSON of `described` that ends with the hash of all that stands before."""
    text = json.dumps(described, indent=2, sort_keys=True).removesuffix("\n}")
    return f'{text},\n  "seal": "{hashlib.sha256(text.encode()).hexdigest()}"\n}}\n'


def unsealed(text: str) -> dict[str, Any]:
    """What `sealed` was given.

    Raises:
        ValueError: the text is not what `sealed` wrote.
    """
    start, mark, _ = text.rpartition(',\n  "seal": ')
    described = json.loads(f"{start}\n}}") if mark else None
    if not isinstance(described, dict) or sealed(described) != text:
        raise ValueError("it is not what was written")
    return described


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        # In one piece if it is small: a digest of a file takes a large buffer first.
        if len(start := file.read(SMALL_FILE)) < SMALL_FILE:
            return hashlib.sha256(start).hexdigest()
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """A folder to build `out` in; it takes the place of `out` when the block ends, and vanishes when it fails.

    A reader finds the old folder, the new one or none, never a mixture.

    Raises:
        UserError: there is no space left.
    """
    with disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        try:
            folder.chmod(0o755)
            yield folder
            sync(folder)
            if out.exists():
                old = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
                out.replace(old)
                folder.replace(out)
                shutil.rmtree(old)
            else:
                folder.replace(out)
            _sync_path(out.parent)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def disk_errors(where: Path) -> Iterator[None]:
    """Turn a full or read-only disk into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG):
            raise
        reason = os.strerror(error.errno).lower()
        raise UserError(
            f"cannot write {where}: {reason}; earlier results are intact, make room and run again"
        ) from None


def sync(folder: Path) -> None:
    """Flush every file of `folder`, and the folder itself, to the disk."""
    for path in [*(p for p in folder.rglob("*")), folder]:
        _sync_path(path)


def _sync_path(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _damaged(folder: Path, what: str) -> UserError:
    return UserError(f"{folder} is damaged ({what}): delete that folder and run `ganflow run`, which makes it again")
