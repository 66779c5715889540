"""Stage: Dataset -> Model."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import safetensors.torch
from tqdm import tqdm

from .gan.dataset import Split, to_image
from .gan.errors import StoppedError, UserError
from .gan.features import feature_net, require_feature_net
from .gan.models import build
from .gan.options import Execution, TrainingOptions
from .gan.symptoms import symptom
from .gan.training_loop import START, DivergedError, State
from .services.cluster import placement, session, trainer, worker
from .services.storage import Storage, passed_environment
from .services.tracking import live, runs
from .training import cost, shared_data
from .training.checkpoints import KEPT, Checkpoint, CheckpointWriter, TrainingFolder
from .training.mirror import TrainingMirror
from .training.scoring import cache_of_node, judged_training, resolve_precision
from .workspace.artifacts import Dataset, Model
from .workspace.files import disk_errors, staging
from .workspace.graph import key_of
from .workspace.params import Train
from .workspace.workspace import Workspace

LOG_SECONDS = 5
# How often a training that diverged goes on from its last state with other noise.
ATTEMPTS = 3
# For pictures, curves and what else is written beside checkpoints.
SPARE_BYTES = 20_000_000


def train(options: Train, dataset: Dataset, out: Path) -> Model:
    """Train on `dataset`, going on from the last checkpoint of the same training, and publish its best networks.

    Raises:
        UserError: the networks cannot make such images, the data is damaged, training diverged or kept failing.
    """
    workspace = Workspace.around(out)
    key = key_of("train", options, dataset.content)
    if found := Model.find(out, key):
        return found
    require_feature_net(dataset.image)
    dataset.verified()
    networks = build(options.network, dataset.image)
    parameters = [sum(p.numel() for p in network.parameters()) for network in networks]
    training = TrainingOptions(**options.model_dump(exclude={"size", "workers", "storage"}))
    run = TrainingFolder(workspace.state / "training" / key.id)
    mirror = _mirror(run.path, options.storage, key.id)
    if mirror:
        mirror.pull()
    newest = run.newest()
    if newest is None or newest.state.images < options.images:
        session.start()
        execution = newest.execution if newest else resolve(options)
        wanted = options.wanted_workers
        span = wanted if isinstance(wanted, tuple) else (execution.workers, execution.workers)
        placement.check_free(placement.Placement(span[0], execution.threads, execution.device == "cuda"))
        if options.storage:
            shared_data.publish_dataset(dataset, Storage(options.storage))
        else:
            placement.check_every_node_sees(dataset.folder.absolute())
        _check_space(run.path, 4 * (4 * parameters[0] + 3 * parameters[1]))
        if newest:
            print(f"training goes on at image {newest.state.images:,} of {options.images:,}", flush=True)
        features = threading.Thread(target=_feature_net, args=(dataset, workspace.state), daemon=True)
        features.start()
        config = {
            "options": training.model_dump(mode="json"),
            "execution": execution.model_dump(),
            "key": key.id,
            "dataset": str(dataset.folder.absolute()),
            "content": dataset.content,
            "state": str(workspace.state.absolute()),
            "storage": options.storage,
            "environment": passed_environment() if options.storage else {},
        }
        run.begin()
        with _live(partial(_report, run, mirror, training, dataset, key.id, workspace)):
            _fit(config, execution, span, run)
        session.release()
        if mirror:
            mirror.pull()
        if run.failure:
            raise UserError(run.failure)
    best = run.best()
    with staging(out) as folder:
        for published, name in (("generator", "ema"), ("discriminator", "discriminator")):
            weights = {k.split("/", 1)[1]: v for k, v in best.state.tensors.items() if k.startswith(f"{name}/")}
            safetensors.torch.save_file(weights, folder / f"{published}.safetensors")
        last = run.newest()
        assert last is not None
        pd.DataFrame(last.history).to_csv(folder / "history.csv", index=False)
        Model.describe(
            folder,
            key,
            training=training,
            image=dataset.image,
            execution=best.execution,
            images=best.state.images,
            score=best.score,
            generator_parameters=parameters[0],
            discriminator_parameters=parameters[1],
            dataset=dataset.content,
        )
    return Model.load(out)


def _fit(config: dict[str, Any], execution: Execution, workers: tuple[int, int], run: TrainingFolder) -> None:
    """Train in Ray's workers; whatever happens to them, as long as checkpoints are made in between.

    Raises:
        UserError: workers kept failing without getting anywhere.
    """
    while True:
        reached = run.reached
        try:
            return trainer.fit(_worker, config, execution, workers, run.path.absolute(), run.request_stop)
        except StoppedError:
            raise
        except UserError:
            if run.failure:
                # A worker knows better why.
                return
            if run.reached == reached:
                raise


def _check_space(folder: Path, state: int) -> None:
    """Check that the disk has room for checkpoints of `state` bytes, before hours of work depend on it."""
    folder.mkdir(parents=True, exist_ok=True)
    needed, free = (KEPT + 2) * state + SPARE_BYTES, shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"this training needs {needed / 1e6:,.0f} MB for checkpoints at {folder}, where {free / 1e6:,.0f} MB are "
            "free: make room and run again"
        )


def resolve(options: Train) -> Execution:
    """What this machine or cluster decides, by a fixed table: a stopwatch would make a rerun differ in its bits.

    Raises:
        UserError: there are too few processors.
    """
    workers, threads, gpu = placement.place(options.wanted_workers)
    if workers > options.shares:
        raise UserError(f"train.workers = {workers} is more than a batch of {options.batch} can be shared by")
    precision = resolve_precision(options, gpu)
    return Execution(workers=workers, threads=threads, device="cuda" if gpu else "cpu", precision=precision)


def _mirror(folder: Path, uri: str | None, key: str) -> TrainingMirror | None:
    """The copy of a training's folder at the storage, if there is one."""
    return TrainingMirror(folder, Storage(uri) / f"training/{key}") if uri else None


# --- in each training worker ---


def _worker(config: dict[str, Any]) -> None:
    """Train; the first rank writes checkpoints, sample grids and progress. What a user can mend is not tried again."""
    os.environ.update(config["environment"])
    first, state, uri = worker.rank() == 0, Path(config["state"]), config["storage"]
    if uri:
        # This node shares nothing but the storage with the one that started the run.
        state = cache_of_node()
    run = TrainingFolder(state / "training" / (f"{config['key']}-{worker.rank()}" if uri else config["key"]))
    mirror = _mirror(run.path, uri, config["key"])
    if run.failure:
        # The first one's, for which this one was started again.
        return
    try:
        with disk_errors(run.path):
            if uri:
                dataset = shared_data.fetch_dataset(config["content"], Storage(uri), state / "datasets")
            else:
                dataset = Dataset.load(Path(config["dataset"]))
            _train_or_try_again(config, dataset, run, mirror, state)
    except UserError as error:
        if mirror and not first:
            raise
        run.fail(str(error))
        if mirror:
            mirror.push()
        worker.abort_group()


def _train_or_try_again(
    config: dict[str, Any], dataset: Dataset, run: TrainingFolder, mirror: TrainingMirror | None, cache: Path
) -> None:
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
                _train(config, dataset, run, writer, cache, start._replace(attempt=attempt), history)
            return
        except DivergedError as error:
            attempt += 1
            if attempt > ATTEMPTS:
                raise UserError(
                    f"{error}, for the last of {attempt} times, each with other noise: "
                    "raise train.r1_gamma or lower the learning rates"
                ) from None
            if first:
                note = f"{error}; going back to image {start.images:,}, with other noise ({attempt} of {ATTEMPTS})"
                run.append_progress({"note": note})
        # The first rank has kept its last checkpoint, which all go on from.
        worker.barrier()


def _train(
    config: dict[str, Any],
    dataset: Dataset,
    run: TrainingFolder,
    writer: CheckpointWriter,
    cache: Path,
    start: State,
    history: list[dict[str, float]],
) -> None:
    options = TrainingOptions.model_validate(config["options"])
    execution = Execution.model_validate(config["execution"] | {"workers": worker.workers()})
    first, began = worker.rank() == 0, time.monotonic()
    spent = cost.Meter(run.path, gpu=execution.device == "cuda")
    for progress, row, grid in judged_training(options, dataset, execution, cache, start, judging=first):
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


# --- beside `fit`, in the process that called it ---


def _feature_net(dataset: Dataset, state: Path) -> None:
    """Make the feature net while the workers start; they find it in the cache."""
    feature_net(Split(dataset.folder, "training", dataset.image), dataset.content, state / "features")


@contextmanager
def _live(report: Callable[[threading.Event], None]) -> Iterator[None]:
    """Show progress and send it to MLflow, from a thread that reads what the first worker writes."""
    done = threading.Event()
    reporter = threading.Thread(target=report, args=(done,), daemon=True)
    reporter.start()
    try:
        yield
    finally:
        done.set()
        reporter.join()


def _report(
    run: TrainingFolder,
    mirror: TrainingMirror | None,
    options: TrainingOptions,
    dataset: Dataset,
    key: str,
    workspace: Workspace,
    done: threading.Event,
) -> None:
    facts = runs.dataset_facts(dataset.image, dataset.splits["training"], dataset.splits["holdout"], dataset.content)
    log = live.TrainingLog(workspace, key, options.model_dump(mode="json"), facts)
    position, seen, finished, waiting, sent = (0, 0), 0, False, [], time.monotonic()
    history: list[dict[str, Any]] = []
    told: set[str] = set()
    with tqdm(total=options.images, desc="train", unit="img", unit_scale=True, disable=None) as bar:
        while not finished:
            finished = done.wait(2 if mirror else 1)
            if mirror:
                # A storage that does not answer for a moment is no reason to stop; the workers notice for themselves.
                with suppress(UserError):
                    mirror.pull_progress()
            rows, position = run.read_progress(position)
            for row in rows:
                if (note := row.get("note")) and note not in told:
                    bar.write(note)
                    told.add(note)
            fresh = [row for row in rows if row.get("images", 0) > seen]
            for row in fresh:
                seen = int(row["images"])
                bar.update(seen - bar.n)
                _show(bar, row, options)
                history.append(row)
                if (trouble := symptom(history)) and trouble.partition(":")[0] not in told:
                    bar.write(f"at image {seen:,}, {trouble}")
                    told.add(trouble.partition(":")[0])
            waiting += fresh
            # Seldom, because a processor that trains has no time to spare.
            if finished or time.monotonic() - sent > LOG_SECONDS:
                log.add(waiting, run.samples)
                waiting, sent = [], time.monotonic()
    log.close(run.samples)


def _show(bar: tqdm[Any], row: dict[str, Any], options: TrainingOptions) -> None:
    text = (
        f"G {row['generator_loss']:.2f}, D {row['discriminator_loss']:.2f}, "
        f"D accuracy {row['discriminator_accuracy']:.0%}"
    )
    if not bar.disable:
        bar.set_postfix_str(text)
    elif "score" in row and "images_per_second" in row:
        speed = row["images_per_second"]
        left = max(0, options.images - row["images"]) / speed
        print(
            f"train {row['images']:,} of {options.images:,} images, {speed:,.0f}/s, {left:.0f} s left, {text}, "
            f"score {row['score']:.3g}",
            flush=True,
        )
