"""Stage: Dataset -> Model. Starts the workers and watches over them; what they do stands in `training/worker.py`."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from .gan.dataset import Split
from .gan.errors import StoppedError, UserError
from .gan.options import Execution
from .measures.directions import require_directions
from .measures.features import require_feature_net
from .services.cluster import placement, session, trainer
from .services.storage import Storage
from .training import begun, profiling, shared_data
from .training.checkpoints import KEPT, Checkpoint, TrainingFolder
from .training.mirror import TrainingMirror
from .training.progress import shown
from .training.publish import parameter_counts, publish
from .training.scoring import resolve_precision
from .training.worker import TrainingJob, work
from .workspace.artifacts import Dataset, Key, Model
from .workspace.feature_nets import load_feature_net
from .workspace.params import Train
from .workspace.workspace import Workspace

# For pictures, curves and what else is written beside checkpoints.
SPARE_BYTES = 20_000_000


def train(
    options: Train, dataset: Dataset, key: Key, workspace: Workspace, profile: profiling.Steps | None = None
) -> Model:
    """Train on `dataset`, going on from the last checkpoint of the same training, and publish its best networks.

    `profile`: steps to look at; what is found stands in a folder of `profiles`.

    Raises:
        UserError: the networks cannot make such images, the data is damaged, training diverged or kept failing; or
            there is nothing to profile.
    """
    require_feature_net(dataset.image)
    dataset.verified()
    if options.task.name == "restyle":
        # What could not be judged is not trained.
        training, holdout = (Split(dataset.folder, name, dataset.image) for name in ("training", "holdout"))
        require_directions(holdout.labels, np.unique(training.labels), dataset.image.classes)
    parameters = parameter_counts(options.network, dataset.image, options.task)
    workspace.check_training(key.id)
    run = TrainingFolder(workspace.state / "training" / key.id)
    mirror = TrainingMirror.of_training(run.path, options.storage, key.id)
    if mirror:
        mirror.pull()
    newest = run.newest()
    if profile:
        _check_profile(profile, options, newest.state.images if newest else 0)
    if newest is None or newest.state.images < options.images:
        begun.begin(options, dataset, key, workspace)
        averages = 1 + len(options.ema_half_lives)
        # Weights, their averages, and two moments of Adam's for each.
        _check_space(run.path, 4 * ((3 + averages) * parameters.generator + 3 * parameters.discriminator))
        _run(options, dataset, key, run, mirror, newest, workspace, profile)
    return publish(run, options.loop, dataset, key, workspace.model)


def resolve(options: Train) -> Execution:
    """Return what this machine or cluster decides, by a fixed table: a stopwatch would make a rerun differ in its bits.

    Raises:
        UserError: there are too few processors.
    """
    workers, threads, gpu = placement.place(options.wanted_workers)
    if workers > options.shares:
        raise UserError(f"train.workers = {workers} is more than a batch of {options.batch} can be shared by")
    precision = resolve_precision(options, gpu)
    return Execution(workers=workers, threads=threads, device="cuda" if gpu else "cpu", precision=precision)


def _run(
    options: Train,
    dataset: Dataset,
    key: Key,
    run: TrainingFolder,
    mirror: TrainingMirror | None,
    newest: Checkpoint | None,
    workspace: Workspace,
    profile: profiling.Steps | None,
) -> None:
    """Train until the end, from the checkpoint `newest` if there is one, and show how far it is.

    Raises:
        UserError: there is no room for it, or it diverged or kept failing.
        StoppedError: the user stopped it.
    """
    session.start()
    execution = newest.execution if newest else resolve(options)
    wanted = options.wanted_workers
    span = wanted if isinstance(wanted, tuple) else (execution.workers, execution.workers)
    placement.check_free(placement.Placement(span[0], execution.threads, execution.device == "cuda"))
    if options.storage:
        shared_data.publish_dataset(dataset, Storage(options.storage))
    else:
        placement.check_every_node_sees(dataset.folder.absolute())
    if newest:
        print(f"training goes on at image {newest.state.images:,} of {options.images:,}", flush=True)
    threading.Thread(target=_make_feature_net, args=(dataset, workspace), daemon=True).start()
    job = TrainingJob.of(options, execution, dataset, workspace)
    run.begin()
    task = partial(work, job, key.id)
    if profile:
        task = partial(profiling.profiled, task, profile, profiling.folder_of(key.id, profile, workspace).absolute())
    with shown(run, mirror, options.loop, dataset, key.id, workspace):
        _fit(task, job.execution, span, run)
    session.release()
    if mirror:
        mirror.pull()
    if run.failure:
        if run.diverged:
            # Its parameters have to change, so it does not wait to be finished with them.
            begun.end(key, workspace)
        raise UserError(run.failure)


def _fit(task: Callable[[], None], execution: Execution, workers: tuple[int, int], run: TrainingFolder) -> None:
    """Do the task in Ray's workers; whatever happens to them, as long as checkpoints are made in between.

    Raises:
        UserError: workers kept failing without getting anywhere.
    """
    while True:
        reached = run.reached
        try:
            return trainer.fit(task, execution, workers, run.path.absolute(), run.request_stop)
        except StoppedError:
            raise
        except UserError:
            if run.failure:
                # A worker knows better why.
                return
            if run.reached == reached:
                raise


def _check_profile(profile: profiling.Steps, options: Train, seen: int) -> None:
    """Check that the steps will be done, by a worker that writes where this process reads.

    Raises:
        UserError: they will not.
    """
    if options.storage:
        raise UserError("--profile needs workers that see this folder: it does not work with train.storage")
    profile.check(options.loop, seen)


def _check_space(folder: Path, state: int) -> None:
    """Check that the disk has room for checkpoints of `state` bytes, before hours of work depend on it."""
    folder.mkdir(parents=True, exist_ok=True)
    needed, free = (KEPT + 2) * state + SPARE_BYTES, shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"this training needs {needed / 1e6:,.0f} MB for checkpoints at {folder}, where {free / 1e6:,.0f} MB are "
            "free: make room and run again"
        )


def _make_feature_net(dataset: Dataset, workspace: Workspace) -> None:
    """Make the feature net while the workers start; they find it in the cache."""
    load_feature_net(Split(dataset.folder, "training", dataset.image), dataset.content, workspace.state / "features")
