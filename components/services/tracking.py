"""MLflow: one run for each model, found by the tag `key`, and the registry. The only file that imports it.

Embedded in the workspace (SQLite and files under `mlruns/`) unless `MLFLOW_TRACKING_URI` names a server.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import math
import os
import re
import sqlite3
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from filelock import FileLock

from ..gan.errors import UserError
from ..gan.options import ImageFormat
from ..workspace.artifacts import Evaluation, Gallery, Model
from ..workspace.files import disk_errors, sha256_of
from ..workspace.workspace import Workspace
from .address import masked

if TYPE_CHECKING:
    from mlflow.entities import Metric
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
    from mlflow.tracking import MlflowClient

EXPERIMENT = "ganflow"
# Every change of a champion, a line of JSON for each.
JOURNAL = "champions.jsonl"
# Of a model version: the hash of all its files.
FILES_TAG = "files"
# Where the embedded database holds absolute places.
_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
_DESCRIPTION = "Image generator trained by ganflow"
_SERVING_CODE = Path(__file__).with_name("serving_model.py")
_PACKED_CODE = Path(__file__).parents[1] / "gan"
_REQUIREMENTS = ("mlflow", "numpy", "pandas", "pydantic", "safetensors", "torch")


def address() -> str:
    """The tracking server that the user named, as it may be shown and written down, or `embedded`."""
    return masked(os.environ.get("MLFLOW_TRACKING_URI") or "embedded")


def uri(home: Workspace) -> str:
    """What MLflow is to connect to; it may hold a password."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home.mlruns.absolute()}/mlflow.db"


def _client(home: Workspace) -> MlflowClient:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    # It would print the run's address with the password that the server's has.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    home.mlruns.mkdir(parents=True, exist_ok=True)
    if address() == "embedded":
        _relocate(home)
    import mlflow

    # Migrations and package checks are written to the terminal as information otherwise; errors are raised as well.
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    named = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri(home))
    # MLflow writes this into the environment, where it would look like a server that the user named.
    if named is None:
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    return mlflow.MlflowClient()


@contextmanager
def _server_errors() -> Iterator[None]:
    """Turn what MLflow raises into one sentence."""
    import requests.exceptions
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, requests.exceptions.RequestException) as error:
        reason = masked(" ".join(str(error).split()))[:300]
        raise UserError(
            f"MLflow at {address()} did not do what was asked ({reason}); run the same command again"
        ) from None


def _run_id(client: MlflowClient, home: Workspace, key: str, name: str, tags: Mapping[str, str] | None = None) -> str:
    """The run with the tag `key`, made with these `tags` too if there is none; of several the oldest."""
    experiment = _experiment(client, home)

    def found() -> list[str]:
        runs = client.search_runs([experiment], f"tags.key = '{key}'", order_by=["attribute.start_time ASC"])
        return [str(run.info.run_id) for run in runs]

    if not (ids := found()):
        made = str(client.create_run(experiment, run_name=name, tags={"key": key, **(tags or {})}).info.run_id)
        # Somebody else may have made one at the same moment: all keep the same.
        ids = found()
        if made != ids[0]:
            client.delete_run(made)
    return ids[0]


def _experiment(client: MlflowClient, home: Workspace) -> str:
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        place = (home.mlruns.absolute() / "artifacts").as_uri() if address() == "embedded" else None
        try:
            # Else MLflow's pages take it for one of language models.
            kind = {"mlflow.experimentKind": "custom_model_development"}
            return str(client.create_experiment(EXPERIMENT, artifact_location=place, tags=kind))
        except MlflowException as error:
            experiment = client.get_experiment_by_name(EXPERIMENT)
            if error.error_code != "RESOURCE_ALREADY_EXISTS" or experiment is None:
                raise
    return str(experiment.experiment_id)


@contextmanager
def _alone(home: Workspace) -> Iterator[None]:
    """One process at a time changes the registry from this workspace; those of others are told by what they find."""
    with disk_errors(home.mlruns):
        home.mlruns.mkdir(parents=True, exist_ok=True)
        with FileLock(home.mlruns / ".registry.lock"):
            yield


def _run_name(training: Mapping[str, Any], key: str) -> str:
    return f"{training['network']['name']}-{training['images'] // 1000}k-{key[:6]}"


def _log_params(client: MlflowClient, run_id: str, training: Mapping[str, Any], dataset: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    values = dict(_flat({"train": training, "dataset": dataset}))
    client.log_batch(run_id, params=[Param(name, str(value)[:6000]) for name, value in values.items()])


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _metrics(rows: Sequence[Mapping[str, Any]]) -> list[Metric]:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [
        Metric(name, float(value), now, int(row["images"]))
        for row in rows
        for name, value in row.items()
        if name != "images" and value is not None and math.isfinite(value)
    ]


def _log_metrics(client: MlflowClient, run_id: str, metrics: Sequence[Metric]) -> None:
    for start in range(0, len(metrics), 1000):
        client.log_batch(run_id, metrics=metrics[start : start + 1000])


class TrainingLog:
    """Curves and sample grids of a training while it runs. MLflow being away is no reason to lose a training.

    What cannot be sent is kept and sent when MLflow answers again; what it holds already is not sent twice.
    """

    RETRY_SECONDS = 10

    def __init__(self, home: Workspace, key: str, training: Mapping[str, Any], dataset: Mapping[str, Any]) -> None:
        self._what = home, key, training, dataset
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

    def close(self, samples: Path) -> None:
        """Send what is left, and mark the run as finished."""

        def finish() -> None:
            self._send(samples)
            self._client.update_run(self._run_id, status="FINISHED")

        if self._system:
            self._system.finish()
        self._try(finish)
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
        home, key, training, dataset = self._what
        self._client = _client(home)
        self._run_id = _run_id(self._client, home, key, _run_name(training, key))
        _log_params(self._client, self._run_id, training, dataset)
        self._client.update_run(self._run_id, status="RUNNING")
        self._watch_system(home)
        if "ended" in self._client.get_run(self._run_id).data.tags:
            self._client.delete_tag(self._run_id, "ended")
        # What was logged before a resume, or by a call whose answer was lost, is not logged twice.
        logged = self._client.get_metric_history(self._run_id, "generator_loss")
        self._sent = max((metric.step for metric in logged), default=0)

    def _watch_system(self, home: Workspace) -> None:
        """Processor, memory, disk and GPU of this machine beside the curves, under MLflow's names `system/...`."""
        if self._system is None:
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            logging.getLogger("mlflow.system_metrics").setLevel(logging.CRITICAL)
            self._system = SystemMetricsMonitor(self._run_id, tracking_uri=uri(home), resume_logging=True)
            self._system.start()

    def _send(self, samples: Path) -> None:
        from PIL import Image

        while self._waiting:
            row = self._waiting[0]
            step = int(row["images"])
            grid = samples / f"{step:012d}.png"
            if step > (self._sent or 0):
                # First, because the metrics are what tells that a row has been sent.
                if "score" in row and grid.exists():
                    with Image.open(grid) as image:
                        self._client.log_image(self._run_id, image, key="samples", step=step)
                _log_metrics(self._client, self._run_id, _metrics([row]))
                self._sent = step
            del self._waiting[0]


class SweepLog:
    """A run for a sweep, and below it one for each trial; what is logged already is not logged again.

    MLflow being away is no reason to end a sweep.
    """

    _broken = False

    def __init__(self, home: Workspace, key: str, training: Mapping[str, Any], dataset: Mapping[str, Any]) -> None:
        self._key = key
        self._guarded(lambda: self._open(home, training, dataset))

    def _open(self, home: Workspace, training: Mapping[str, Any], dataset: Mapping[str, Any]) -> None:
        self._client, self._home, self._dataset = _client(home), home, dataset
        self._run_id = _run_id(self._client, home, self._key, "sweep", {"kind": "sweep"})
        _log_params(self._client, self._run_id, training, dataset)
        self._client.update_run(self._run_id, status="RUNNING")

    def add(self, key: str, name: str, training: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> None:
        """Log the trial with this key: its parameters and curves."""
        self._guarded(lambda: self._add(key, name, training, history))

    def _add(self, key: str, name: str, training: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> None:
        # Not the key of an ordinary training with these parameters, which has a run of its own.
        tags = {"kind": "trial", "mlflow.parentRunId": self._run_id}
        run_id = _run_id(self._client, self._home, f"{self._key}-{key}", name, tags)
        if self._client.get_run(run_id).info.status != "FINISHED":
            _log_params(self._client, run_id, training, self._dataset)
            _log_metrics(self._client, run_id, _metrics(history))
            self._client.update_run(run_id, status="FINISHED")

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

    def close(self, table: str) -> None:
        """Attach the table of results, as CSV."""
        self._guarded(lambda: self._close(table))

    def _close(self, table: str) -> None:
        self._client.log_text(self._run_id, table, "results.csv")
        self._client.update_run(self._run_id, status="FINISHED")


def register(
    name: str,
    model: Model,
    evaluation: Evaluation,
    gallery: Gallery,
    commit: str | None,
    home: Workspace,
) -> int:
    """Register `model` once for its key, complete its run and make it challenger; its version.

    Raises:
        UserError: the server cannot be reached or refuses.
    """
    with _alone(home), _server_errors():
        client = _client(home)
        key = model.key.id
        training = model.training.model_dump(mode="json")
        run_id = _run_id(client, home, key, _run_name(training, key))
        images = evaluation.training_images, evaluation.holdout_images
        _log_params(client, run_id, training, dataset_facts(model.image, *images, model.dataset))
        _complete_run(client, run_id, model, evaluation, gallery)
        version = _version(client, name, model, evaluation, run_id)
        tags = {
            "key": key,
            FILES_TAG: _files_hash(client.get_model_version(name, str(version)).source),
            "data": model.dataset,
            "commit": commit or "none",
            "params": model.key.options,
            "holdout": evaluation.holdout,
            "feature_net": evaluation.feature_net,
        }
        for tag, value in tags.items():
            client.set_model_version_tag(name, str(version), tag, value)
        client.set_registered_model_alias(name, "challenger", str(version))
        client.update_run(run_id, status="FINISHED")
        return version


class UsedData(NamedTuple):
    """The data set of a run: its version by DVC's hash where it has one, and what is in it."""

    version: str
    facts: Mapping[str, Any]


def attach(
    name: str, version: int, home: Workspace, files: Mapping[str, str | bytes], description: str, data: UsedData
) -> None:
    """Put `files`, by their names, and the data set into the run of a version, and describe it in Markdown.

    Raises:
        UserError: the server cannot be reached or refuses.
    """
    with _alone(home), _server_errors(), tempfile.TemporaryDirectory() as folder:
        client = _client(home)
        described = client.get_model_version(name, str(version))
        for file, content in files.items():
            (Path(folder) / file).write_bytes(content.encode() if isinstance(content, str) else content)
        client.log_artifacts(described.run_id, folder)
        _log_data(client, described.run_id, home, data)
        # Even an equal one would show as a change of the version.
        if described.description != description:
            client.update_model_version(name, str(version), description)


def _log_data(client: MlflowClient, run_id: str, home: Workspace, data: UsedData) -> None:
    from mlflow.entities import Dataset as UsedDataset
    from mlflow.entities import DatasetInput, InputTag

    used = UsedDataset(
        name=home.data.name,
        digest=data.version.removesuffix(".dir")[:32],
        source_type="dvc" if data.version.endswith(".dir") else "ganflow",
        source=json.dumps({"file": "data.dvc", "version": data.version}),
        profile=json.dumps(dict(data.facts)),
    )
    # MLflow keeps one of equal ones.
    client.log_inputs(run_id, [DatasetInput(used, [InputTag("mlflow.data.context", "training")])])


def any_running(home: Workspace) -> bool:
    """Whether MLflow believes that a run is in progress. Imports it only to ask a server."""
    if address() == "embedded":
        query = "SELECT run_uuid FROM runs WHERE status = 'RUNNING' AND lifecycle_stage = 'active'"
        return bool(_read(home, query))
    with _server_errors():
        client = _client(home)
        return bool(client.search_runs([_experiment(client, home)], "attributes.status = 'RUNNING'", max_results=1))


def end_dead_runs(home: Workspace) -> Iterator[str]:
    """Mark runs of this workspace's trainings that MLflow believes to be running as killed; a sentence for each.

    To be called by who holds the workspace, so that no training runs.
    """
    ours = {folder.name for folder in (home.state / "training").glob("*")}
    with _alone(home), _server_errors():
        client = _client(home)
        for run in client.search_runs([_experiment(client, home)], "attributes.status = 'RUNNING'"):
            if run.data.tags.get("key", "").partition("-")[0] in ours or address() == "embedded":
                client.set_tag(run.info.run_id, "ended", "its process is gone; the same command goes on with it")
                client.set_terminated(run.info.run_id, "KILLED")
                yield f"MLflow's run {run.info.run_name} is marked killed, because nothing trains it"


def is_registered(name: str, version: int, key: str, home: Workspace) -> bool:
    """Whether the registry holds `version` of `name` with this key."""
    client = _client(home)
    with _server_errors():
        return _versions(client, name).get(key) == version


def damaged_versions(home: Workspace) -> Iterator[tuple[str, str | None]]:
    """Every registered version, and what is wrong with its files.

    Raises:
        UserError: the server cannot be reached.
    """
    if address() == "embedded" and not (home.mlruns / "mlflow.db").exists():
        return
    client = _client(home)
    with _server_errors():
        versions = [
            version
            for model in client.search_registered_models()
            for version in client.search_model_versions(f"name = '{model.name}'")
        ]
    for version in sorted(versions, key=lambda v: (v.name, int(v.version))):
        wrong = None
        if FILES_TAG in version.tags:
            try:
                if _files_hash(version.source) != version.tags[FILES_TAG]:
                    wrong = "its files are not those that were registered"
            except Exception as error:
                wrong = f"its files cannot be read ({' '.join(str(error).split())[:200]})"
        yield f"{version.name} version {version.version}", wrong


def _files_hash(uri: str) -> str:
    """Hash of the names and bytes of all files of a logged model."""
    import mlflow

    folder = Path(mlflow.artifacts.download_artifacts(uri))
    # Python leaves its caches beside code that it loads.
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.suffix != ".pyc")
    described = [f"{file.relative_to(folder).as_posix()}\0{sha256_of(file)}\n" for file in files]
    if not files:
        raise FileNotFoundError(uri)
    return hashlib.sha256("".join(described).encode()).hexdigest()


def _relocate(home: Workspace) -> None:
    """Let the embedded database find its files where the workspace lies now, after it was moved or copied."""
    database, place = home.mlruns / "mlflow.db", (home.mlruns.absolute() / "artifacts").as_uri()
    if not database.exists():
        return
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        query = "SELECT artifact_location FROM experiments WHERE name = ?"
        try:
            found = connection.execute(query, (EXPERIMENT,)).fetchone()
        except sqlite3.Error:
            return
        if found is None or found[0] == place:
            return
        for table, column in _PLACES:
            connection.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {column} LIKE ? || '%'",
                (place, len(found[0]) + 1, found[0]),
            )


def _versions(client: MlflowClient, name: str) -> dict[str, int]:
    """Versions of the registered model by their key; of several the oldest."""
    found = sorted(client.search_model_versions(f"name = '{name}'"), key=lambda v: -int(v.version))
    return {version.tags["key"]: int(version.version) for version in found if "key" in version.tags}


def _version(client: MlflowClient, name: str, model: Model, evaluation: Evaluation, run_id: str) -> int:
    """The version with the model's key, logged and registered if there is none."""
    import mlflow
    from mlflow.exceptions import MlflowException

    if known := _versions(client, name).get(model.key.id):
        return known
    try:
        client.create_registered_model(name, description=_DESCRIPTION)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    files = [model.folder / "generator.safetensors", model.folder / model.manifest]
    # So that a later gate can tell what this model has seen.
    files.append(evaluation.folder / "training_images.npy")
    # MLflow misses type hints and an example of the input: there is no input, and the signature says so.
    with warnings.catch_warnings(record=True), mlflow.start_run(run_id=run_id, log_system_metrics=False):
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(_SERVING_CODE),
            artifacts={file.name: str(file) for file in files},
            code_paths=[str(_PACKED_CODE)],
            signature=_signature(model),
            pip_requirements=[f"{package}=={importlib.metadata.version(package)}" for package in _REQUIREMENTS],
        )
    # With the tag from the start: a version without a key would be made a second time.
    version = client.create_model_version(
        name, logged.model_uri, run_id, tags={"key": model.key.id}, model_id=logged.model_id
    )
    # Somebody else may have made one at the same moment: all keep the oldest.
    kept = _versions(client, name)[model.key.id]
    if kept != int(version.version):
        client.delete_model_version(name, version.version)
        client.delete_logged_model(logged.model_id)
    return kept


def _signature(model: Model) -> Any:
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import DataType, ParamSchema, ParamSpec, Schema, TensorSpec

    return ModelSignature(
        outputs=Schema([TensorSpec(np.dtype("uint8"), (-1, *model.image.shape))]),
        params=ParamSchema(
            [
                ParamSpec("n", DataType.long, 1),
                ParamSpec("seed", DataType.long, 0),
                ParamSpec("truncation", DataType.double, 1.0),
                ParamSpec("class", DataType.string, ""),
            ]
        ),
    )


def _complete_run(client: MlflowClient, run_id: str, model: Model, evaluation: Evaluation, gallery: Gallery) -> None:
    """Curves that the run lacks, scores, and the files that its page shows."""
    import pandas as pd

    logged = client.get_metric_history(run_id, "generator_loss")
    seen = max((metric.step for metric in logged), default=0)
    history = pd.read_csv(model.folder / "history.csv")
    rows = history[history["images"] > seen].to_dict("records")
    _log_metrics(client, run_id, _metrics([{str(k): v for k, v in row.items()} for row in rows]))
    _log_metrics(client, run_id, _metrics([{"images": model.images, **evaluation.metrics}]))
    client.log_artifact(run_id, str(evaluation.folder / "metrics.json"))
    for name in gallery.files:
        folder = Path(name).parent.as_posix()
        client.log_artifact(run_id, str(gallery.folder / name), None if folder == "." else folder)


class Published(NamedTuple):
    """A version of a registered model: its number, its model's key, and the folder with weights and description."""

    name: str
    version: int
    key: str
    folder: Path


def champion(name: str, home: Workspace) -> Published | None:
    """The champion of the registered model `name`, its files fetched if they lie elsewhere; None if there is none.

    Raises:
        UserError: the server cannot be reached, or the files are gone.
    """
    import mlflow

    with _alone(home), _server_errors():
        client = _client(home)
        known = client.search_registered_models(f"name = '{name}'")
        number = _champion(client, home, name) if known else None
        if number is None:
            return None
        version = client.get_model_version(name, str(number))
        folder = Path(mlflow.artifacts.download_artifacts(version.source)) / "artifacts"
    return Published(name, number, version.tags["key"], folder)


def champions(name: str, home: Workspace) -> list[dict[str, Any]]:
    """Every change of the champion of `name` that was made, the oldest first."""
    return [entry for entry in _journal(home) if entry["name"] == name and entry["state"] == "done"]


def was_rolled_back(name: str, version: int, home: Workspace) -> bool:
    """Whether the last that happened to `version` is that it was taken back."""
    changes = [entry for entry in champions(name, home) if version in (entry["version"], entry["before"])]
    return bool(changes) and changes[-1].get("rollback", False) and changes[-1]["before"] == version


def rollback(name: str, home: Workspace) -> tuple[int, int | None]:
    """Make the one before champion again, once: the champion now, and who was it until now if anything was done.

    Raises:
        UserError: there is nobody to go back to, or the server cannot be reached.
    """
    with _alone(home), _server_errors():
        client = _client(home)
        now = _champion(client, home, name)
        changes = champions(name, home)
        if now is None or not changes or changes[-1]["version"] != now:
            raise UserError(f"{name} has no champion that this workspace made: there is nothing to roll back")
        if changes[-1].get("rollback"):
            return now, None
        before = changes[-1]["before"]
        if before is None:
            raise UserError(f"version {now} of {name} is its first champion: there is no one before")
        _crown(client, home, name, before, now, rollback=True)
        return before, now


def set_champion(name: str, version: int, expected: int | None, home: Workspace) -> bool:
    """Make `version` the champion if `expected` is it until now (None: nobody); whether it was so.

    Raises:
        UserError: the server cannot be reached or refuses.
    """
    with _alone(home), _server_errors():
        client = _client(home)
        if _champion(client, home, name) != expected:
            return False
        _crown(client, home, name, version, expected)
        return True


def _champion(client: MlflowClient, home: Workspace, name: str) -> int | None:
    """The champion's version, after what an interrupted change of it still lacks has been done."""
    alias = client.get_registered_model(name).aliases.get("champion")
    now = None if alias is None else int(alias)
    last = next((entry for entry in reversed(_journal(home)) if entry["name"] == name), None)
    if last and last["state"] == "begun" and last["before"] == now:
        now = int(last["version"])
        client.set_registered_model_alias(name, "champion", str(now))
        _write_down(home, name, now, last["before"], "done", last.get("rollback", False))
    return now


def _crown(
    client: MlflowClient, home: Workspace, name: str, version: int, before: int | None, rollback: bool = False
) -> None:
    """Write the change down, then make it: whoever comes after a crash in between finishes it."""
    _write_down(home, name, version, before, "begun", rollback)
    client.set_registered_model_alias(name, "champion", str(version))
    _write_down(home, name, version, before, "done", rollback)


def _write_down(
    home: Workspace, name: str, version: int, before: int | None, state: str, rollback: bool = False
) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    entry = {"time": now, "name": name, "version": version, "before": before, "state": state, "tracking": address()}
    entry |= {"rollback": True} if rollback else {}
    with (home.mlruns / JOURNAL).open("ab+") as journal:
        # What a crash cut off stays a line of its own, which no reader takes for an entry.
        if journal.seek(0, os.SEEK_END) and not _ends_a_line(journal):
            journal.write(b"\n")
        journal.write(json.dumps(entry).encode() + b"\n")
        journal.flush()
        os.fsync(journal.fileno())


def _ends_a_line(file: BinaryIO) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _journal(home: Workspace) -> list[dict[str, Any]]:
    """All changes of champions at the present server that were written down whole."""
    try:
        lines = (home.mlruns / JOURNAL).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    entries = []
    for line in lines:
        with suppress(ValueError):
            entries.append(json.loads(line))
    return [entry for entry in entries if entry["tracking"] == address()]


def dataset_facts(image: ImageFormat, training: int, holdout: int, content: str) -> dict[str, Any]:
    """What a run says about its data."""
    return {
        "resolution": f"{image.width}x{image.height}",
        "channels": image.channels,
        "classes": ", ".join(image.classes)[:500],
        "training_images": training,
        "holdout_images": holdout,
        "content": content,
    }


def aliases(name: str, version: int, home: Workspace) -> list[str]:
    """Aliases of a version now."""
    if address() != "embedded":
        client = _client(home)
        with _server_errors():
            found = client.get_registered_model(name).aliases
            return sorted(alias for alias, number in found.items() if int(number) == version)
    query = "SELECT alias FROM registered_model_aliases WHERE name = ? AND version = ? ORDER BY alias"
    return [alias for (alias,) in _read(home, query, name, version)]


def tags(name: str, version: int, home: Workspace) -> dict[str, str]:
    """Tags of a version: the commit, the hash of the data and the scores that it was registered with."""
    if address() != "embedded":
        client = _client(home)
        with _server_errors():
            return dict(client.get_model_version(name, str(version)).tags)
    query = "SELECT key, value FROM model_version_tags WHERE name = ? AND version = ?"
    return {key: value for key, value in _read(home, query, name, version)}


def _read(home: Workspace, query: str, *values: str | int) -> list[tuple[str, ...]]:
    """Rows of the embedded database, read directly: importing MLflow would make "nothing to do" take seconds."""
    database = home.mlruns / "mlflow.db"
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute(query, values).fetchall()
    except sqlite3.Error:
        return []


# --- what the ledger keeps, and how the registry is made from it again ---


class RecordedVersion(NamedTuple):
    """A model version as the ledger knows it; `place`: of its files, from `mlruns/`."""

    name: str
    version: int
    model_id: str
    place: str
    tags: Mapping[str, str]


class RecordedRun(NamedTuple):
    """The run of the model with `key` as the ledger knows it; `begun` and `ended` in seconds since 1970."""

    key: str
    run_id: str
    training: Mapping[str, Any]
    dataset: Mapping[str, Any]
    curves: Sequence[Mapping[str, Any]]
    scores: Mapping[str, Any] | None
    begun: float
    ended: float
    versions: Sequence[RecordedVersion]


def run_of(key: str, home: Workspace) -> str | None:
    """The id of the run with the tag `key`; None if there is none, or MLflow cannot be reached."""
    if address() == "embedded":
        query = (
            "SELECT runs.run_uuid FROM runs JOIN tags ON tags.run_uuid = runs.run_uuid "
            "WHERE tags.key = 'key' AND tags.value = ? AND runs.lifecycle_stage = 'active' ORDER BY runs.start_time"
        )
        return next((row[0] for row in _read(home, query, key)), None)
    with suppress(UserError):
        client = _client(home)
        with _server_errors():
            experiment = client.get_experiment_by_name(EXPERIMENT)
            if experiment is not None:
                runs = client.search_runs([experiment.experiment_id], f"tags.key = '{key}'")
                return next((str(run.info.run_id) for run in reversed(runs)), None)
    return None


def experiment_of(run_id: str | None, home: Workspace) -> str | None:
    """The experiment of a run of the embedded database, or of the only one that a server has for us."""
    if run_id is None:
        return None
    if address() == "embedded":
        rows = _read(home, "SELECT experiment_id FROM runs WHERE run_uuid = ?", run_id)
        return next((str(row[0]) for row in rows), None)
    with suppress(UserError):
        client = _client(home)
        with _server_errors():
            return str(client.get_run(run_id).info.experiment_id)
    return None


def recorded_version(name: str, version: int, home: Workspace) -> dict[str, Any] | None:
    """What it takes to make a version again: run_id, model_id, place (None on a server) and tags; None if unknown."""
    if address() != "embedded":
        try:
            client = _client(home)
            with _server_errors():
                found = client.get_model_version(name, str(version))
        except UserError:
            return None
        return {"run_id": found.run_id, "model_id": found.model_id, "place": None, "tags": dict(found.tags)}
    query = "SELECT run_id, source, storage_location FROM model_versions WHERE name = ? AND version = ?"
    known = "SELECT artifact_location FROM experiments WHERE name = ?"
    for run_id, source, location in _read(home, query, name, version):
        ((root,),) = _read(home, known, EXPERIMENT)
        place = f"artifacts{location.removeprefix(root)}" if location.startswith(root) else None
        model_id = source.removeprefix("models:/")
        return {"run_id": run_id, "model_id": model_id, "place": place, "tags": tags(name, version, home)}
    return None


class KnownVersion(NamedTuple):
    """A model version of the embedded registry; `ids`: of its run and logged model, `key` and `data`: its tags."""

    name: str
    number: int
    ids: frozenset[str]
    key: str
    data: str
    aliases: frozenset[str]


class Inventory(NamedTuple):
    """All that the embedded database knows; of runs and logged models by id when they were deleted, None if not."""

    versions: Sequence[KnownVersion]
    runs: Mapping[str, float | None]
    models: Mapping[str, float | None]


def inventory(home: Workspace) -> Inventory:
    """What MLflow's database in the workspace holds, read without MLflow.

    An alias whose change a crash cut off counts as given already. What is deleted and has its files elsewhere counts
    as not deleted.

    Raises:
        UserError: a server is named, or the database is gone or cannot be read.
    """
    if address() != "embedded":
        raise UserError(f"what is registered at {address()} may need them, which is not asked")
    database = home.mlruns / "mlflow.db"
    if not database.exists():
        if (home.mlruns / "artifacts").exists() or (home.mlruns / JOURNAL).exists():
            raise UserError("MLflow's database may need them, and is gone: `ganflow rebuild-registry` restores it")
        return Inventory([], {}, {})
    ours = f"e.name = '{EXPERIMENT}' AND {{0}}.{{1}} LIKE e.artifact_location || '/%'"
    deleted = f"CASE WHEN {{0}}.lifecycle_stage = 'deleted' AND {ours} THEN {{2}} END"
    queries = (
        "SELECT name, version, run_id, source, storage_location FROM model_versions",
        "SELECT name, version, key, value FROM model_version_tags",
        "SELECT name, version, alias FROM registered_model_aliases",
        f"SELECT run_uuid, {deleted.format('runs', 'artifact_uri', 'coalesce(deleted_time, 0)')} "
        "FROM runs JOIN experiments e USING (experiment_id)",
        f"SELECT model_id, {deleted.format('logged_models', 'artifact_location', 'last_updated_timestamp_ms')} "
        "FROM logged_models JOIN experiments e USING (experiment_id)",
    )
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            # One moment of all tables.
            connection.execute("BEGIN")
            versions, tagged, aliased, runs, models = (connection.execute(query).fetchall() for query in queries)
    except sqlite3.Error as error:
        raise UserError(f"MLflow's database may need them, and cannot be read ({error}): {database}") from None
    tags = {(name, version, key): value for name, version, key, value in tagged}
    aliased += {entry["name"]: (entry["name"], entry["version"], "champion") for entry in _journal(home)}.values()
    return Inventory(
        [
            KnownVersion(
                name,
                number,
                frozenset(re.findall(r"(?:\bm-)?\b[0-9a-f]{32}\b", " ".join(filter(None, places)))),
                tags.get((name, number, "key"), ""),
                tags.get((name, number, "data"), ""),
                frozenset(alias for named, version, alias in aliased if (named, version) == (name, number)),
            )
            for name, number, *places in versions
        ],
        *({name: None if time is None else time / 1000 for name, time in rows} for rows in (runs, models)),
    )


def forget(runs: Sequence[str], models: Sequence[str], home: Workspace) -> None:
    """Take what was deleted of these runs and logged models out of the embedded database for good.

    Raises:
        UserError: MLflow refuses.
    """
    if not runs and not models:
        return
    known = inventory(home)
    runs, models = (
        [name for name in names if there.get(name) is not None]
        for names, there in ((runs, known.runs), (models, known.models))
    )
    if not runs and not models:
        return
    with _alone(home), _server_errors():
        # What `mlflow gc` calls, which would remove their files before their rows.
        store: Any = _client(home)._tracking_client.store
        for run in runs:
            store._hard_delete_run(run)
        for model in models:
            store._hard_delete_logged_model(model)


def written_champion(name: str, home: Workspace) -> int | None:
    """The champion by the journal of its changes, whatever became of the registry."""
    changes = champions(name, home)
    return int(changes[-1]["version"]) if changes else None


def rebuild(home: Workspace, runs: Sequence[RecordedRun], challengers: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Put runs, versions and aliases that the embedded registry lacks back under their numbers and ids.

    Yields each of them, and what could not be restored of it: "" if nothing is missing.

    Raises:
        UserError: a server is named, whose ids and numbers nobody but itself can set.
    """
    if address() != "embedded":
        raise UserError(
            f"rebuild-registry restores the workspace's own database, not {address()}: unset MLFLOW_TRACKING_URI, or "
            "run `ganflow register`, which registers the present model there"
        )
    with _alone(home), _server_errors():
        client = _client(home)
        experiment = _experiment(client, home)
        for run in sorted(runs, key=lambda run: run.begun):
            run_id = _restore_run(client, home, experiment, run)
            yield f"run {run_id} of model {run.key}", "" if run.curves else "its curves are gone"
            for version in run.versions:
                missing = _restore_version(client, home, experiment, run_id, version)
                yield f"{version.name} version {version.version}", missing
        for name in sorted({version.name for run in runs for version in run.versions}):
            yield from _restore_aliases(client, home, name, challengers.get(name))


def _restore_run(client: MlflowClient, home: Workspace, experiment: str, run: RecordedRun) -> str:
    """The run of `run.key`, made again if it is not there; its id."""
    found = client.search_runs([experiment], f"tags.key = '{run.key}'", order_by=["attribute.start_time ASC"])
    if found and found[0].info.status == "FINISHED":
        return str(found[0].info.run_id)
    if found:
        run_id = str(found[0].info.run_id)
    else:
        made = client.create_run(
            experiment, int(run.begun * 1000), {"key": run.key}, run_name=_run_name(run.training, run.key)
        ).info.run_id
        run_id = run.run_id
        _rename(home, made, run_id, ("runs", "run_uuid"), ("runs", "artifact_uri"), ("tags", "run_uuid"))
    _log_params(client, run_id, run.training, run.dataset)
    logged = client.get_metric_history(run_id, "generator_loss")
    seen = max((metric.step for metric in logged), default=0)
    _log_metrics(client, run_id, _metrics([row for row in run.curves if row["images"] > seen]))
    if run.scores:
        _log_metrics(client, run_id, _metrics([run.scores]))
    if any((home.mlruns / "artifacts" / run_id / "artifacts" / "images").glob("samples+*")):
        # What makes MLflow's pages show them.
        client.set_tag(run_id, "mlflow.loggedImages", True)
    client.set_terminated(run_id, "FINISHED", int(run.ended * 1000))
    return run_id


def _restore_version(
    client: MlflowClient, home: Workspace, experiment: str, run_id: str, version: RecordedVersion
) -> str:
    """Make a version again under its number if it is not there; why that cannot be done."""
    from mlflow.entities import LoggedModelOutput
    from mlflow.exceptions import MlflowException

    name, number, model_id = version.name, version.version, version.model_id
    for found in client.search_model_versions(f"name = '{name}'"):
        if int(found.version) == number:
            same = found.tags.get("key") == version.tags["key"]
            return "" if same else f"model {found.tags.get('key')} was registered under its number since"
    folder = home.mlruns / version.place
    if not folder.resolve().is_relative_to(home.mlruns.resolve()) or not folder.is_dir():
        return f"its files are gone from {folder}"
    if _files_hash(folder.absolute().as_uri()) != version.tags.get(FILES_TAG):
        return f"its files in {folder} are not those that were registered"
    with suppress(MlflowException):
        client.create_registered_model(name, description=_DESCRIPTION)
    try:
        client.get_logged_model(model_id)
    except MlflowException:
        params = client.get_run(run_id).data.params
        made = client.create_logged_model(experiment, "model", run_id, params=params).model_id
        client.finalize_logged_model(made, "READY")
        places = [("logged_models", "model_id"), ("logged_models", "artifact_location")]
        places += [(f"logged_model_{kind}", "model_id") for kind in ("tags", "params")]
        _rename(home, made, model_id, *places)
        client.log_outputs(run_id, [LoggedModelOutput(model_id, 0)])
    registered = client.create_model_version(
        name, f"models:/{model_id}", run_id, tags=dict(version.tags), model_id=model_id
    )
    with closing(sqlite3.connect(home.mlruns / "mlflow.db", timeout=60)) as database, database:
        for table in ("model_versions", "model_version_tags"):
            query = f"UPDATE {table} SET version = ? WHERE name = ? AND version = ?"
            database.execute(query, (number, name, int(registered.version)))
    return ""


def _restore_aliases(
    client: MlflowClient, home: Workspace, name: str, challenger: int | None
) -> Iterator[tuple[str, str]]:
    versions = {int(version.version) for version in client.search_model_versions(f"name = '{name}'")}
    if not versions:
        return
    held = client.get_registered_model(name).aliases
    for alias, version in (("champion", written_champion(name, home)), ("challenger", challenger)):
        if alias in held:
            version = int(held[alias])
        elif version in versions:
            client.set_registered_model_alias(name, alias, str(version))
        if version is not None:
            missing = "" if version in versions else f"version {version} is not there"
            yield f"{name} {alias}, version {version}", missing
    # A change that a crash cut off before is finished now.
    _champion(client, home, name)


def _rename(home: Workspace, old: str, new: str, *places: tuple[str, str]) -> None:
    """Give what MLflow has just made under an id of its own the id that it had once."""
    with closing(sqlite3.connect(home.mlruns / "mlflow.db", timeout=60)) as database, database:
        for table, column in places:
            database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (old, new))
