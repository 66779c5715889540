"""The folder of one training: checkpoints, live progress and sample grids, written by the first worker.

Checkpoints are ours rather than Ray's: written whole or not at all, checked by sha256 when they are read, and kept at
the moment `save` returns (a checkpoint that was reported to Ray may still be lost with its worker).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Self

import safetensors.torch

from ..gan.errors import DamagedError
from ..gan.options import Execution
from ..gan.training_loop import State
from ..workspace.files import disk_errors, sealed, sha256_of, sync, unsealed
from .points import best_of

# The newest may turn out to be damaged.
KEPT = 2
FAILURE_SIZE = 4096


class Checkpoint(NamedTuple):
    """The training's state after `state.images`, with the curves so far: one row for each Progress."""

    state: State
    history: list[dict[str, float]]
    execution: Execution

    @property
    def score(self) -> float:
        """Lower is better; infinite for one that was made because the training was stopped."""
        return self.history[-1].get("score", math.inf)


class TrainingFolder:
    """`checkpoints/<images>/`, `samples/<images>.png` and `progress.jsonl` of the training with one key."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.samples = path / "samples"
        self.progress = path / "progress.jsonl"
        self._stop = path / "stop"
        self._failure = path / "failure"

    def save(self, checkpoint: Checkpoint) -> None:
        """Publish a checkpoint, then remove all but the best and the newest two.

        Raises:
            UserError: there is no space left; earlier checkpoints are intact.
        """
        state, history, execution = checkpoint
        target = self.checkpoints / f"{state.images:012d}"
        staged = target.with_suffix(".tmp")
        with disk_errors(target):
            shutil.rmtree(staged, ignore_errors=True)
            staged.mkdir(parents=True)
            try:
                (staged / "state.safetensors").write_bytes(safetensors.torch.save(state.tensors))
                described = {
                    "images": state.images,
                    "step": state.step,
                    "attempt": state.attempt,
                    "history": history,
                    "execution": execution.model_dump(),
                    "sha256": sha256_of(staged / "state.safetensors"),
                }
                (staged / "checkpoint.json").write_text(sealed(described))
                sync(staged)
                shutil.rmtree(target, ignore_errors=True)
                staged.replace(target)
            finally:
                shutil.rmtree(staged, ignore_errors=True)
        scores = {int(row["images"]): row["score"] for row in history if "score" in row}
        best = best_of(scores) if scores else 0
        for other in self._folders()[:-KEPT]:
            if int(other.name) != best:
                # By another name first: what is half removed must not look like a checkpoint.
                shutil.rmtree(other.replace(other.with_suffix(".tmp")))

    @property
    def reached(self) -> int:
        """Images of the newest checkpoint, whole or not."""
        return max((int(folder.name) for folder in self._folders()), default=0)

    def newest(self) -> Checkpoint | None:
        """Return the newest checkpoint that is whole."""
        return next(self._whole(), None)

    def best(self) -> Checkpoint:
        """Return the whole checkpoint that is published.

        Raises:
            UserError: there is none.
        """
        found = {c.state.images: c for c in self._whole() if "score" in c.history[-1]}
        if not found:
            raise DamagedError(f"{self.path} holds no whole checkpoint: delete it and train again")
        return found[best_of({images: checkpoint.score for images, checkpoint in found.items()})]

    def _folders(self) -> list[Path]:
        return sorted(p for p in self.checkpoints.glob("[0-9]*") if p.is_dir() and p.name.isdigit())

    def _whole(self) -> Iterator[Checkpoint]:
        for folder in reversed(self._folders()):
            try:
                yield _load(folder)
            except (OSError, ValueError, KeyError, TypeError) as error:
                print(f"checkpoint {folder.name} is damaged ({error}) and is not used", file=sys.stderr)

    def damaged(self) -> Iterator[tuple[Path, str]]:
        """Yield the checkpoints that are not what was written, and what is wrong with each."""
        for folder in self._folders():
            try:
                _load(folder)
            except (OSError, ValueError, KeyError, TypeError) as error:
                yield folder, str(error)

    @property
    def stop_requested(self) -> bool:
        return self._stop.exists()

    def request_stop(self) -> None:
        """Ask the first worker to write a checkpoint and end, at the next point of its curves."""
        self._stop.touch()

    def begin(self) -> None:
        """Forget what was asked and told in an earlier run."""
        self._stop.unlink(missing_ok=True)
        self._failure.unlink(missing_ok=True)
        self.progress.unlink(missing_ok=True)

    def start_progress(self, history: list[dict[str, float]]) -> None:
        """Begin `progress.jsonl` anew with the rows of a checkpoint: what came after it is trained again.

        Notes stay.
        """
        self.samples.mkdir(parents=True, exist_ok=True)
        for left in self.checkpoints.glob("*.tmp"):
            # By a process that was killed.
            shutil.rmtree(left)
        with self._failure.open("wb") as file:
            file.write(b" " * FAILURE_SIZE)
        rows, _ = self.read_progress()
        notes = [row for row in rows if "note" in row]
        staged = self.progress.with_suffix(".tmp")
        staged.write_text("".join(json.dumps(row) + "\n" for row in [*notes, *history]))
        staged.replace(self.progress)

    def append_progress(self, row: dict[str, Any]) -> None:
        with self.progress.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def fail(self, reason: str, diverged: bool) -> None:
        """Keep why the training cannot go on; on a full disk too, in space that was taken at the start."""
        try:
            self.append_progress({"error": reason, "diverged": diverged})
        except OSError:
            with self._failure.open("r+b") as file:
                file.write(reason.encode()[:FAILURE_SIZE])

    @property
    def failure(self) -> str:
        """Why the training cannot go on; empty if it can."""
        rows, _ = self.read_progress()
        told = [str(row["error"]) for row in rows if "error" in row]
        kept = self._failure.read_text(errors="replace").strip() if self._failure.exists() else ""
        return told[0] if told else kept

    @property
    def diverged(self) -> bool:
        """Whether it cannot go on because of its own parameters, which no other machine would mend."""
        return any(row.get("diverged", False) for row in self.read_progress()[0])

    def read_progress(self, position: tuple[int, int] = (0, 0)) -> tuple[list[dict[str, Any]], tuple[int, int]]:
        """Whole lines after `position` (file, offset), and the next position; all of a file that was begun anew."""
        try:
            with self.progress.open("rb") as file:
                identity = os.fstat(file.fileno()).st_ino
                start = file.seek(position[1] if position[0] == identity else 0)
                lines = file.read()
        except FileNotFoundError:
            return [], position
        whole = lines[: lines.rfind(b"\n") + 1]
        return [json.loads(line) for line in whole.splitlines()], (identity, start + len(whole))


class CheckpointWriter:
    """Saves checkpoints beside the training, which waits for nothing but the copy of its state.

    `publish` is called after each, in the same thread, and when progress was made, unless it is at work still.
    """

    def __init__(self, folder: TrainingFolder, publish: Callable[[], None]) -> None:
        self._folder, self._publish = folder, publish
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._last: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait for the last checkpoint.

        Raises:
            UserError: it could not be written.
        """
        self._thread.shutdown()
        if kind is None:
            self._finish()

    def save(self, checkpoint: Checkpoint) -> None:
        """Begin to save `checkpoint`, once the one before is kept.

        Raises:
            UserError: the one before could not be written.
        """
        self._finish()
        self._last = self._thread.submit(self._save, checkpoint)

    def progressed(self) -> None:
        if self._last is None or self._last.done():
            self._finish()
            self._last = self._thread.submit(self._publish)

    def _save(self, checkpoint: Checkpoint) -> None:
        self._folder.save(checkpoint)
        self._publish()

    def _finish(self) -> None:
        if self._last is not None:
            self._last.result()


def _load(folder: Path) -> Checkpoint:
    described = unsealed((folder / "checkpoint.json").read_text())
    data = (folder / "state.safetensors").read_bytes()
    if hashlib.sha256(data).hexdigest() != described["sha256"]:
        raise ValueError("state.safetensors does not have the recorded hash")
    tensors = safetensors.torch.load(data)
    state = State(tensors, described["images"], described["step"], described["attempt"])
    return Checkpoint(state, described["history"], Execution(**described["execution"]))
