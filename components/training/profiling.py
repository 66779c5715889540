"""`ganflow train --profile 20..30`: what the steps of a training spend their time and memory on.

The training itself knows nothing of it: around a worker's work its parts are given names and stopwatches, so that the
bits are the same and the key is. On a GPU the stopwatches wait for what was launched, which makes the training slower.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from pydantic import Field
from torch.profiler import ProfilerActivity, profile, record_function

from ..gan import dataset, players, training_loop
from ..gan.errors import NotThereError, UserError
from ..gan.options import TrainingOptions
from ..services.cluster import worker
from ..workspace.files import write_whole
from ..workspace.journal import Record
from ..workspace.workspace import Workspace
from . import checkpoints, scoring, task_scoring

# A trace of more is larger than Perfetto opens.
MOST_STEPS = 100
OPERATORS = 25
TRACE, TABLE, SUMMARY = "trace.json.gz", "operators.txt", "profile.json"
# What is measured by name, and where it is called: the time of an inner part is not that of the one around it.
_PARTS: tuple[tuple[str, Any, str], ...] = (
    ("feeding", dataset.Split, "batch"),
    ("images for the discriminator", training_loop, "paired"),
    ("discriminator", training_loop, "discriminator_step"),
    ("generator", training_loop, "generator_step"),
    ("penalties", training_loop, "gradient_penalty"),
    ("penalties", training_loop, "wgan_gp"),
    ("penalties", training_loop, "path_lengths"),
    ("penalties", training_loop, "orthogonal_penalty"),
    ("EMA", players.Players, "update_ema"),
    ("scores", scoring.Scorer, "__init__"),
    ("scores", scoring.Scorer, "__call__"),
    ("scores", task_scoring.TaskScorer, "__init__"),
    ("scores", task_scoring.TaskScorer, "__call__"),
    ("checkpoints", training_loop, "_state"),
    ("checkpoints", checkpoints.CheckpointWriter, "save"),
    ("checkpoints", checkpoints.CheckpointWriter, "progressed"),
    ("checkpoints", checkpoints.CheckpointWriter, "__exit__"),
    ("waiting for other workers", players, "sum_gradients"),
    ("waiting for other workers", worker, "broadcast"),
    ("waiting for other workers", worker, "sum_over_workers"),
)
_REST = "everything else"


class Steps(NamedTuple):
    """The steps to look at, the first after the start of the process being number 1; both are among them."""

    first: int
    last: int

    @classmethod
    def read(cls, text: str) -> Self:
        """Read `20..30`.

        Raises:
            UserError: it is no such range.
        """
        found = re.fullmatch(r"([1-9][0-9]*)\.\.([1-9][0-9]*)", text.strip())
        if not found or not (steps := cls(int(found[1]), int(found[2]))).first <= steps.last:
            raise UserError(f"--profile {text!r}: name the first and the last step after the start, as in 20..30")
        if steps.number > MOST_STEPS:
            raise UserError(f"--profile {text!r}: at most {MOST_STEPS} steps, or no viewer opens the trace")
        return steps

    @property
    def number(self) -> int:
        return self.last - self.first + 1

    def check(self, options: TrainingOptions, seen: int) -> None:
        """Make sure that so many steps are left after `seen` images.

        Raises:
            UserError: they are not.
        """
        left = -(-(options.images - seen) // (options.batch * options.d_steps))
        if left <= 0:
            raise UserError(NOTHING_LEFT)
        if left < self.last:
            raise UserError(f"only {left:,} steps are left to train: name others by --profile, or raise train.images")


NOTHING_LEFT = (
    "nothing is left to train, and so to profile: the model of these data and parameters is there; --set train.seed=1 "
    "trains another one"
)


class Profile(Record):
    """What was measured: seconds of each part since the start of the process, and memory during the steps."""

    steps: tuple[int, int]
    step_seconds: float = Field(description="of the steps that were looked at, each")
    parts: Mapping[str, float]
    device: str
    peak_memory_mb: float | None = Field(None, description="of the GPU; a processor's is in the trace")

    @property
    def lines(self) -> list[str]:
        """A table of the shares, the largest first."""
        total = sum(self.parts.values()) or 1.0
        ordered = sorted(self.parts.items(), key=lambda part: -part[1])
        return [f"{name:<30} {seconds:>9.2f} s {seconds / total:>6.1%}" for name, seconds in ordered]


def folder_of(key: str, steps: Steps, workspace: Workspace) -> Path:
    """Return where the profile of these steps of a training goes."""
    return workspace.state / "profiles" / f"{key}-{steps.first}-{steps.last}"


def read(folder: Path) -> Profile:
    """Return what a profile of a training says.

    Raises:
        NotThereError: none was made.
    """
    try:
        return Profile.model_validate_json((folder / SUMMARY).read_bytes())
    except (OSError, ValueError):
        raise NotThereError(f"{folder} holds no whole profile: run the same command again") from None


def profiled(work: Callable[[], None], steps: Steps, folder: Path) -> None:
    """Do a worker's `work`; the first worker writes what it found into `folder`."""
    if worker.rank() > 0:
        # It waits at other borders than the first one's, so it has none.
        return work()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    watch = _Watch(torch.cuda.synchronize if device == "cuda" else lambda: None)
    window = _Window(steps, folder, device)
    with ExitStack() as stack:
        for name, owner, attribute in _PARTS:
            stack.enter_context(_replaced(owner, attribute, watch.timed(name, getattr(owner, attribute))))
        # What a step begins and ends with.
        schedule, update = players.Players.schedule, players.Players.update_ema

        @wraps(schedule)
        def beginning(*arguments: Any) -> None:
            watch.begin()
            window.begin_step()
            schedule(*arguments)

        @wraps(update)
        def ending(*arguments: Any) -> None:
            update(*arguments)
            window.end_step()

        stack.enter_context(_replaced(players.Players, "schedule", beginning))
        stack.enter_context(_replaced(players.Players, "update_ema", ending))
        work()
    if window.seconds is not None:
        peak = torch.cuda.max_memory_allocated() / 1e6 if device == "cuda" else None
        found = Profile(
            steps=(steps.first, steps.last),
            step_seconds=round(window.seconds / steps.number, 6),
            parts={name: round(seconds, 4) for name, seconds in watch.parts().items()},
            device=device,
            peak_memory_mb=peak,
        )
        write_whole(folder / SUMMARY, json.dumps(found.model_dump(), indent=2))


class _Watch:
    """A stopwatch for each part; the time of a part within another is that of the inner one alone."""

    def __init__(self, settle: Callable[[], None]) -> None:
        self._settle = settle
        self._seconds: dict[str, float] = {}
        self._running: list[str] = []
        self._since: float | None = None

    def begin(self) -> None:
        """Begin to count, with the first step."""
        if self._since is None:
            self._since = time.perf_counter()

    def timed(self, name: str, part: Callable[..., Any]) -> Callable[..., Any]:
        """Return `part` under a name, which the trace shows too."""

        @wraps(part)
        def measured(*arguments: Any, **named: Any) -> Any:
            with record_function(name):
                self._turn()
                self._running.append(name)
                try:
                    return part(*arguments, **named)
                finally:
                    self._turn()
                    self._running.pop()

        return measured

    def parts(self) -> dict[str, float]:
        self._turn()
        return dict(self._seconds)

    def _turn(self) -> None:
        """Count what has passed for the part that runs."""
        if self._since is not None:
            self._settle()
            now, name = time.perf_counter(), self._running[-1] if self._running else _REST
            self._seconds[name] = self._seconds.get(name, 0.0) + now - self._since
            self._since = now


class _Window:
    """Records the steps that were asked for, and writes down what was recorded."""

    def __init__(self, steps: Steps, folder: Path, device: str) -> None:
        self._steps, self._folder, self._device = steps, folder, device
        self._at, self._began = 0, 0.0
        self._profile: profile | None = None
        # Of all steps together, once they are done.
        self.seconds: float | None = None

    def begin_step(self) -> None:
        self._at += 1
        if self._at == self._steps.first:
            activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self._device == "cuda" else [])]
            self._profile = profile(activities=activities, profile_memory=True, acc_events=True)
            self._profile.start()
            self._began = time.perf_counter()

    def end_step(self) -> None:
        if self._at == self._steps.last and self._profile is not None:
            if self._device == "cuda":
                torch.cuda.synchronize()
            self.seconds = time.perf_counter() - self._began
            recorded, self._profile = self._profile, None
            recorded.stop()
            self._write(recorded)

    def _write(self, recorded: profile) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        recorded.export_chrome_trace(str(self._folder / TRACE))
        dearest = "self_cuda_time_total" if self._device == "cuda" else "self_cpu_time_total"
        table = recorded.key_averages().table(sort_by=dearest, row_limit=OPERATORS, max_name_column_width=60)
        write_whole(self._folder / TABLE, f"{table}\n")


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, original)
