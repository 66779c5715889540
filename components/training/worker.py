"""What each training worker does: trains from the newest checkpoint, and from there with other noise if it diverges."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Self

from ..gan.dataset import to_image
from ..gan.errors import DivergedError, UserError
from ..gan.options import Execution, TrainingOptions
from ..gan.training_loop import START, State
from ..services.cluster import worker
from ..services.storage import Storage, passed_environment
from ..workspace.artifacts import Dataset
from ..workspace.files import disk_errors
from ..workspace.params import Train
from ..workspace.workspace import Workspace
from . import cost, shared_data
from .checkpoints import Checkpoint, CheckpointWriter, TrainingFolder
from .mirror import TrainingMirror
from .scoring import cache_of_node, scored_training

# How often a training that diverged goes on from its last state with other noise.
ATTEMPTS = 3


class TrainingJob(NamedTuple):
    """What a process that trains is told: the options, where data and caches lie, and the variables that it may need.

    `content`: of the data set, its hash. With a `storage` the folders are those of the machine that started the run.
    """

    options: TrainingOptions
    execution: Execution
    dataset: Path
    content: str
    state: Path
    storage: str | None
    environment: Mapping[str, str]

    @classmethod
    def of(cls, options: Train, execution: Execution, dataset: Dataset, workspace: Workspace) -> Self:
        """Return the job of training with these options on a data set of the workspace."""
        environment = passed_environment() if options.storage else {}
        folders = dataset.folder.absolute(), dataset.content, workspace.state.absolute()
        return cls(options.loop, execution, *folders, options.storage, environment)

    @property
    def cache(self) -> Path:
        """Where this process keeps feature nets and what it fetches.

        A node that shares nothing but the storage with the machine that started the run has a folder of its own.
        """
        return cache_of_node() if self.storage else self.state

    def load_dataset(self) -> Dataset:
        """Return the data set, fetched from the storage if there is one.

        Raises:
            UserError: it is missing or damaged.
        """
        if self.storage:
            return shared_data.fetch_dataset(self.content, Storage(self.storage), self.cache / "datasets")
        return Dataset.load(self.dataset)


def work(job: TrainingJob, key: str) -> None:
    """Train; the first rank writes checkpoints, sample grids and progress. What a user can mend is not tried again."""
    os.environ.update(job.environment)
    first = worker.rank() == 0
    run = TrainingFolder(job.cache / "training" / (f"{key}-{worker.rank()}" if job.storage else key))
    mirror = TrainingMirror.of_training(run.path, job.storage, key)
    if run.failure:
        # The first one's, for which this one was started again.
        return
    try:
        with disk_errors(run.path):
            _train_or_try_again(job, job.load_dataset(), run, mirror)
    except UserError as error:
        if mirror and not first:
            raise
        run.fail(str(error), diverged=isinstance(error, DivergedError))
        if mirror:
            mirror.push()
        worker.abort_group()


def _train_or_try_again(job: TrainingJob, dataset: Dataset, run: TrainingFolder, mirror: TrainingMirror | None) -> None:
    """Train from the newest checkpoint; from there with other noise where a loss or weight is no longer finite."""
    first, attempt = worker.rank() == 0, 0
    while True:
        if mirror:
            # All ranks go on from what all can see.
            shutil.rmtree(run.path, ignore_errors=True)
            mirror.pull()
        newest = run.newest()
        start = newest.state if newest else START
        attempt = max(attempt, start.attempt)
        history = newest.history if newest else []
        try:
            with CheckpointWriter(run, mirror.push if mirror and first else lambda: None) as writer:
                if first:
                    run.start_progress(history)
                _train(job, dataset, run, writer, start._replace(attempt=attempt), history)
            return
        except DivergedError as error:
            attempt += 1
            if attempt > ATTEMPTS:
                raise DivergedError(
                    f"{error}, for the last of {attempt} times, each with other noise: "
                    "raise train.r1_gamma or lower the learning rates"
                ) from None
            if first:
                note = f"{error}; going back to image {start.images:,}, with other noise ({attempt} of {ATTEMPTS})"
                run.append_progress({"note": note})
        # The first rank has kept its last checkpoint, which all go on from.
        worker.barrier()


def _train(
    job: TrainingJob,
    dataset: Dataset,
    run: TrainingFolder,
    writer: CheckpointWriter,
    start: State,
    history: list[dict[str, float]],
) -> None:
    execution = job.execution.model_copy(update={"workers": worker.workers()})
    first, began = worker.rank() == 0, time.monotonic()
    spent = cost.Meter(run.path, gpu=execution.device == "cuda")
    for progress, row, grid in scored_training(job.options, dataset, execution, job.cache, start, judging=first):
        stopping = worker.broadcast(run.stop_requested)
        seconds = worker.sum_over_workers(spent.seconds())
        if first:
            spent.keep(seconds)
            if grid is not None:
                to_image(grid).save(run.samples / f"{progress.images:012d}.png")
            history = [*history, row]
            if "score" in row or stopping:
                writer.save(Checkpoint(progress.state(), history, execution))
            speed = (progress.images - start.images) / (time.monotonic() - began)
            run.append_progress(row | {"images_per_second": speed})
            writer.progressed()
        if stopping:
            return
