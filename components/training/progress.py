"""How far a training is: beside it, in the process that started it, on the terminal and in MLflow."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tqdm import tqdm

from ..gan.errors import UserError
from ..gan.options import TrainingOptions
from ..gan.symptoms import symptom
from ..services.tracking import live, runs
from ..workspace.artifacts import Dataset
from ..workspace.workspace import Workspace
from .checkpoints import TrainingFolder
from .cost import spent
from .mirror import TrainingMirror

LOG_SECONDS = 5


@contextmanager
def shown(
    run: TrainingFolder,
    mirror: TrainingMirror | None,
    options: TrainingOptions,
    dataset: Dataset,
    key: str,
    workspace: Workspace,
) -> Iterator[None]:
    """Show progress and send it to MLflow, from a thread that reads what the first worker writes."""
    done = threading.Event()
    arguments = (run, mirror, options, dataset, key, workspace, done)
    reporter = threading.Thread(target=_report, args=arguments, daemon=True)
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
                    _write(bar, note)
                    told.add(note)
            fresh = [row for row in rows if row.get("images", 0) > seen]
            for row in fresh:
                seen = int(row["images"])
                bar.update(seen - bar.n)
                _show(bar, row, options)
                history.append(row)
                if (trouble := symptom(history)) and trouble.partition(":")[0] not in told:
                    _write(bar, f"at image {seen:,}, {trouble}")
                    told.add(trouble.partition(":")[0])
            waiting += fresh
            # Seldom, because a processor that trains has no time to spare.
            if finished or time.monotonic() - sent > LOG_SECONDS:
                log.add(waiting, run.samples)
                waiting, sent = [], time.monotonic()
    cost = spent(run.path)
    log.close(run.samples, cost.model_dump() if cost else {})


def _show(bar: tqdm[Any], row: dict[str, Any], options: TrainingOptions) -> None:
    text = _words(row)
    bar.set_postfix_str(text)
    if "score" in row and "images_per_second" in row:
        speed = row["images_per_second"]
        left = max(0, options.images - row["images"]) / speed
        # Above the bar: how the scores came to be stays to be read.
        _write(
            bar,
            f"train {row['images']:,} of {options.images:,} images, {speed:,.0f}/s, {left:.0f} s left, {text}, "
            f"score {row['score']:.3g}",
        )


def _write(bar: tqdm[Any], line: str) -> None:
    bar.write(line)
    sys.stdout.flush()


def _words(row: dict[str, Any]) -> str:
    """Return what a point of the curves says of the players; a discriminator that rests says nothing."""
    words = [f"G {row['generator_loss']:.2f}"]
    if "pixel_error" in row:
        words = [f"error {row['pixel_error'] / max(row['baseline_error'], 1e-9):.2f} of the baseline's", *words]
    if "discriminator_loss" in row:
        words += [f"D {row['discriminator_loss']:.2f}", f"D accuracy {row['discriminator_accuracy']:.0%}"]
    return ", ".join(words)
