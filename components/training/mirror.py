"""The copy of a training's folder at the storage, for nodes that share no disk."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Self

from ..services.storage import Storage
from ..workspace.files import disk_errors, sha256_of, sync, unsealed

# Files of a training, see `checkpoints.TrainingFolder`.
STATE, JSON, PROGRESS = "state.safetensors", "checkpoint.json", "progress.jsonl"
# Of a folder, see `cost`.
COST = "cost"


# --- trainings ---


class TrainingMirror:
    """The folder of a training (`checkpoints.TrainingFolder`) on a disk, and its copy: the root of `storage`.

    One process pushes, the first worker, after it has pulled; any may pull at any moment.
    """

    def __init__(self, folder: Path, storage: Storage) -> None:
        self._folder = folder
        self._storage = storage
        # Which state of a local file the storage holds: a training that goes on may write other bytes of equal size.
        self._held: dict[str, tuple[int, ...]] = {}

    @classmethod
    def of_training(cls, folder: Path, uri: str | None, key: str) -> Self | None:
        """Return the copy of the training with this key at the storage `uri`, if there is one."""
        return cls(folder, Storage(uri) / f"training/{key}") if uri else None

    def push(self) -> None:
        """Upload what is new: checkpoints, sample grids, progress; then remove checkpoints that are gone here."""
        here = [str(Path(name).parent) for name in self._names(f"checkpoints/*[0-9]/{JSON}")]
        new = [checkpoint for checkpoint in here if not self._holds(f"{checkpoint}/{JSON}")]
        for checkpoint in new:
            # Nobody shall find the new state with the old JSON.
            self._storage.delete(f"{checkpoint}/{JSON}")
            self._put(f"{checkpoint}/{STATE}")
            self._put(f"{checkpoint}/{JSON}")
        for name in [*self._names("samples/*.png"), *self._names(f"{COST}/*.json"), *self._names(PROGRESS)]:
            if not self._holds(name):
                self._put(name)
        if new:
            for checkpoint in self._stored_checkpoints() - set(here):
                self._storage.delete(f"{checkpoint}/{JSON}")
                self._storage.delete(checkpoint)

    def pull(self) -> None:
        """Fetch every whole checkpoint, sample grids and progress; checkpoints that exist only here stay."""
        with disk_errors(self._folder):
            for checkpoint in sorted(self._stored_checkpoints()):
                self._pull_checkpoint(checkpoint)
        for name in self._storage.sizes(COST):
            # Whatever lies here: a file is written again and again, by one process.
            if self._storage.get(name, self._folder / name):
                self._hold(name)
        self.pull_progress()

    def pull_progress(self) -> None:
        """Fetch progress and new sample grids alone: three small requests, and two for each grid."""
        fetched = self._folder / "progress.fetched"
        there = self._storage.get(PROGRESS, fetched)
        # Published before the progress and listed after it: a row finds its grid.
        for name, size in self._storage.sizes("samples").items():
            sample = self._folder / name
            if (sample.is_file() and sample.stat().st_size == size) or self._storage.get(name, sample):
                self._hold(name)
        if there:
            fetched.replace(self._folder / PROGRESS)
            self._hold(PROGRESS)

    def _pull_checkpoint(self, checkpoint: str) -> None:
        target = self._folder / checkpoint
        staged = target.with_suffix(".tmp")
        try:
            if not self._storage.get(f"{checkpoint}/{JSON}", staged / JSON):
                return
            described = (staged / JSON).read_bytes()
            digest = unsealed(described.decode())["sha256"]
            if not _is_copy(target, described, digest):
                if not self._storage.get(f"{checkpoint}/{STATE}", staged / STATE):
                    return
                if sha256_of(staged / STATE) != digest:
                    raise ValueError("its hash differs")
                sync(staged)
                shutil.rmtree(target, ignore_errors=True)
                staged.replace(target)
            self._hold(f"{checkpoint}/{JSON}")
        except (ValueError, KeyError, TypeError) as error:
            print(f"{self._storage.uri}/{checkpoint} is damaged ({error}) and is not used", file=sys.stderr)
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def _names(self, pattern: str) -> list[str]:
        return [path.relative_to(self._folder).as_posix() for path in sorted(self._folder.glob(pattern))]

    def _stored_checkpoints(self) -> set[str]:
        """Whole ones, and what remains of others."""
        return {str(Path(name).parent) for name in self._storage.sizes("checkpoints")}

    def _put(self, name: str) -> None:
        self._storage.put(self._folder / name, name)
        self._hold(name)

    def _hold(self, name: str) -> None:
        self._held[name] = self._stamp(name)

    def _holds(self, name: str) -> bool:
        return self._held.get(name) == self._stamp(name)

    def _stamp(self, name: str) -> tuple[int, ...]:
        status = (self._folder / name).stat()
        return status.st_mtime_ns, status.st_size, status.st_ino


def _is_copy(folder: Path, described: bytes, digest: str) -> bool:
    try:
        return (folder / JSON).read_bytes() == described and sha256_of(folder / STATE) == digest
    except FileNotFoundError:
        return False
