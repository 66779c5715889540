"""The folder of one training: checkpoints, live progress and sample grids, written by the first worker.

Checkpoints are ours rather than Ray's: written whole or not at all, checked by sha256 when they are read, and kept at
the moment the call returns (a checkpoint that was reported to Ray may still be lost with its worker).
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch

from .artifacts import disk_errors, sha256_of, sync
from .gan.options import Execution, UserError
from .gan.training_loop import State


class Checkpoint(NamedTuple):
    """The training's state after `state.images`, with the curves so far: one row for each Progress."""

    state: State
    history: list[dict[str, float]]
    execution: Execution

    @property
    def score(self) -> float:
        return self.history[-1]["score"]


class TrainingFolder:
    """`checkpoints/<images>/`, `samples/<images>.png` and `progress.jsonl` of the training with one key."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.samples = path / "samples"
        self.progress = path / "progress.jsonl"

    def save(self, checkpoint: Checkpoint) -> None:
        """Publish a checkpoint, then remove all but the best and the newest.

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
                    "history": history,
                    "execution": execution.model_dump(),
                    "sha256": sha256_of(staged / "state.safetensors"),
                }
                (staged / "checkpoint.json").write_text(json.dumps(described))
                sync(staged)
                shutil.rmtree(target, ignore_errors=True)
                staged.replace(target)
            finally:
                shutil.rmtree(staged, ignore_errors=True)
        scores = {int(row["images"]): row["score"] for row in history if "score" in row}
        best = min(scores, key=lambda images: (scores[images], -images))
        for other in self._folders():
            if int(other.name) not in (best, state.images):
                shutil.rmtree(other)

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole."""
        return next(self._whole(), None)

    def best(self) -> Checkpoint:
        """The whole checkpoint with the lowest score; of equal ones the newest."""
        found = list(self._whole())
        if not found:
            raise UserError(f"{self.path} holds no whole checkpoint: delete it and train again")
        return min(found, key=lambda checkpoint: checkpoint.score)

    def _folders(self) -> list[Path]:
        return sorted(p for p in self.checkpoints.glob("[0-9]*") if p.is_dir() and p.name.isdigit())

    def _whole(self) -> Iterator[Checkpoint]:
        for folder in reversed(self._folders()):
            try:
                described = json.loads((folder / "checkpoint.json").read_text())
                data = folder / "state.safetensors"
                if sha256_of(data) != described["sha256"]:
                    raise ValueError("its hash differs")
                state = State(safetensors.torch.load_file(data), described["images"], described["step"])
                yield Checkpoint(state, described["history"], Execution(**described["execution"]))
            except (OSError, ValueError, KeyError) as error:
                print(f"checkpoint {folder.name} is damaged ({error}) and is not used", file=sys.stderr)

    def start_progress(self, history: list[dict[str, float]]) -> None:
        """Begin `progress.jsonl` anew with the rows of a checkpoint: what came after it is trained again."""
        self.samples.mkdir(parents=True, exist_ok=True)
        staged = self.progress.with_suffix(".tmp")
        staged.write_text("".join(json.dumps(row) + "\n" for row in history))
        staged.replace(self.progress)

    def append_progress(self, row: dict[str, Any]) -> None:
        with self.progress.open("a") as file:
            file.write(json.dumps(row) + "\n")

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
