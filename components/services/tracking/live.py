"""What is sent to MLflow while a training or sweep runs; MLflow being away is no reason to lose either."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...pictures.opening import opened
from ...workspace.workspace import Workspace
from ..address import masked

if TYPE_CHECKING:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from .connection import open_client, uri
from .names import GRIDS, Names
from .runs import NOTE, REPORT, begin_note, claim, ensure_run, finish, log_metrics, log_params, run_name_of, run_of


class TrainingLog:
    """Curves and sample grids of a training while it runs. MLflow being away is no reason to lose a training.

    What cannot be sent is kept and sent when MLflow answers again; what it holds already is not sent twice.
    """

    RETRY_SECONDS = 10

    def __init__(self, workspace: Workspace, key: str, training: Mapping[str, Any], dataset: Mapping[str, Any]) -> None:
        self._what = workspace, key, training, dataset
        self._waiting: list[Mapping[str, Any]] = []
        # Of the run in MLflow, while it answers: asked for anew after every failure.
        self._sent: int | None = None
        self._told, self._next_try = False, 0.0
        self._system: SystemMetricsMonitor | None = None
        self._try(lambda: None)

    def add(self, rows: Sequence[Mapping[str, Any]], samples: Path) -> None:
        """Log `rows` of progress, and for rows with a score the grid in the folder `samples`."""
        self._waiting += rows
        if self._waiting and time.monotonic() >= self._next_try:
            self._try(lambda: self._send(samples))

    def close(self, samples: Path, cost: Mapping[str, float]) -> None:
        """Send what is left, and what the training has used so far, and mark the run as finished."""

        def send_all() -> None:
            self._send(samples)
            log_metrics(self._client, self._run_id, self._names.cost(cost))
            finish(self._client, self._what[0], self._run_id)

        if self._system:
            self._system.finish()
        self._try(send_all)
        if self._waiting:
            print("MLflow cannot be reached; `register` will log the rest of the curves", file=sys.stderr)

    def _try(self, action: Callable[[], object]) -> None:
        try:
            if self._sent is None:
                self._open()
            waiting = len(self._waiting)
            action()
            if self._told:
                print(f"MLflow answers again: {waiting} points of the curves are sent", file=sys.stderr)
            self._told = False
        except Exception as error:
            self._sent = None
            self._next_try = time.monotonic() + self.RETRY_SECONDS
            if not self._told:
                reason = masked(" ".join(str(error).split()))[:200]
                print(f"MLflow cannot be reached ({reason}); training goes on, its curves are kept", file=sys.stderr)
            self._told = True

    def _open(self) -> None:
        workspace, key, training, dataset = self._what
        self._client = open_client(workspace)
        self._run_id = ensure_run(self._client, workspace, key, run_name_of(training, key))
        log_params(self._client, self._run_id, training, dataset)
        begin_note(self._client, self._run_id, _note(training, dataset))
        claim(self._client, workspace, self._run_id)
        self._watch_system(workspace)
        if "ended" in self._client.get_run(self._run_id).data.tags:
            self._client.delete_tag(self._run_id, "ended")
        # What was logged before a resume, or by a call whose answer was lost, is not logged twice.
        self._names = Names.of_run(self._client, self._run_id)
        self._sent = self._names.last_step(self._client, self._run_id)

    def _watch_system(self, workspace: Workspace) -> None:
        """Processor, memory, disk and GPU of this machine beside the curves, under MLflow's names `system/...`."""
        if self._system is None:
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            logging.getLogger("mlflow.system_metrics").setLevel(logging.CRITICAL)
            self._system = SystemMetricsMonitor(self._run_id, tracking_uri=uri(workspace), resume_logging=True)
            self._system.start()

    def _send(self, samples: Path) -> None:
        while self._waiting:
            row = self._waiting[0]
            step = int(row["images"])
            grid = samples / f"{step:012d}.png"
            if step > (self._sent or 0):
                # First, because the metrics are what tells that a row has been sent.
                if "score" in row and grid.exists():
                    with opened(grid) as image:
                        self._client.log_image(self._run_id, image, key=GRIDS, step=step)
                log_metrics(self._client, self._run_id, self._names.curves([row]))
                self._sent = step
            del self._waiting[0]


def send_folder(workspace: Workspace, key: str, folder: Path, place: str) -> str | None:
    """Put a folder into the run of the model `key` and return `place`, its name there; None where that cannot be."""
    try:
        if run_id := run_of(key, workspace):
            open_client(workspace).log_artifacts(run_id, str(folder), place)
            return place
    except Exception as error:
        print(f"MLflow cannot be reached ({masked(' '.join(str(error).split()))[:200]})", file=sys.stderr)
    return None


def _note(training: Mapping[str, Any], dataset: Mapping[str, Any]) -> str:
    """Say of a run what is trained on what, until its result is known."""
    return (
        f"A `{training['network']['name']}` learns from {dataset['training_images']:,} images of "
        f"{dataset['resolution']} pixels; it sees {training['images']:,} in all. Curves and samples stand under Model "
        "metrics. What it makes and how good it is stands here once the gate has judged it (`ganflow promote`)."
    )


class SweepLog:
    """A run for a sweep, and below it one for each trial; what is logged already is not logged again.

    MLflow being away is no reason to end a sweep.
    """

    _broken = False

    def __init__(self, workspace: Workspace, key: str, training: Mapping[str, Any], dataset: Mapping[str, Any]) -> None:
        self._key = key
        self._guarded(lambda: self._open(workspace, training, dataset))

    def _open(self, workspace: Workspace, training: Mapping[str, Any], dataset: Mapping[str, Any]) -> None:
        self._client, self._workspace, self._dataset = open_client(workspace), workspace, dataset
        self._run_id = ensure_run(self._client, workspace, self._key, "sweep", {"kind": "sweep"})
        log_params(self._client, self._run_id, training, dataset)
        claim(self._client, workspace, self._run_id)

    def add(self, key: str, name: str, training: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> None:
        """Log the trial with this key: its parameters and curves."""
        self._guarded(lambda: self._add(key, name, training, history))

    def _add(self, key: str, name: str, training: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> None:
        # Not the key of an ordinary training with these parameters, which has a run of its own.
        tags = {"kind": "trial", "mlflow.parentRunId": self._run_id}
        run_id = ensure_run(self._client, self._workspace, f"{self._key}-{key}", name, tags)
        if self._client.get_run(run_id).info.status != "FINISHED":
            log_params(self._client, run_id, training, self._dataset)
            log_metrics(self._client, run_id, Names.of_run(self._client, run_id).curves(history))
            self._client.set_terminated(run_id)

    def _guarded(self, action: Callable[[], object]) -> None:
        if self._broken:
            return
        try:
            action()
        except Exception as error:
            self._broken = True
            reason = masked(" ".join(str(error).split()))[:200]
            print(
                f"MLflow cannot be reached ({reason}); the sweep goes on, the same command will log it", file=sys.stderr
            )

    def close(self, table: str, note: str) -> None:
        """Attach the table of results, as CSV, and describe the sweep in Markdown."""
        self._guarded(lambda: self._close(table, note))

    def _close(self, table: str, note: str) -> None:
        self._client.log_text(self._run_id, table, f"{REPORT}/results.csv")
        self._client.set_tag(self._run_id, NOTE, note)
        finish(self._client, self._workspace, self._run_id)
