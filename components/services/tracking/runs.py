"""One MLflow run for each model, found by the tag `key`: parameters, curves, scores and pictures."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ...gan.errors import NotThereError, UnreachableError
from ...gan.options import ImageFormat
from ...workspace.artifacts import Evaluation, Gallery, Model
from ...workspace.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run
    from mlflow.tracking import MlflowClient
from ..process import Claim, drop_claim
from .connection import address, ensure_experiment, open_client, registry_lock, server_errors
from .database import EXPERIMENT, read_rows
from .names import Names
from .places import check_place
from .source import source_tags

# The tag that says who worked on a run last.
_CLAIM = "ganflow.claim"
# Folders of a run's files. `images` is MLflow's own, for pictures over time.
PICTURES, REPORT = "pictures", "report"
# A description that a run's page shows, and of a registered model the hash of the one that ganflow wrote.
NOTE, _DESCRIBED = "mlflow.note.content", "ganflow.description"
# Of a registered model before one of its versions was judged.
DESCRIPTION = "Image generator trained by ganflow"


def ensure_run(
    client: MlflowClient, workspace: Workspace, key: str, name: str, tags: Mapping[str, str] | None = None
) -> str:
    """Return the run with the tag `key`, made with these `tags` too if there is none; of several the oldest."""
    experiment = ensure_experiment(client, workspace)

    def found() -> list[str]:
        runs = client.search_runs([experiment], f"tags.key = '{key}'", order_by=["attribute.start_time ASC"])
        return [str(run.info.run_id) for run in runs]

    if not (ids := found()):
        described = {"key": key, **source_tags(), **(tags or {})}
        made = str(client.create_run(experiment, run_name=name, tags=described).info.run_id)
        # Somebody else may have made one at the same moment: all keep the same.
        ids = found()
        if made != ids[0]:
            client.delete_run(made)
    _check_files(client, ids[0], workspace)
    return ids[0]


def _check_files(client: MlflowClient, run_id: str, workspace: Workspace) -> None:
    """Make sure that the files of a run lie where they may be read and written.

    Raises:
        RefusedError: they do not.
    """
    check_place(client.get_run(run_id).info.artifact_uri, f"the files of run {run_id}", workspace)


def run_name_of(training: Mapping[str, Any], key: str) -> str:
    return f"{training['network']['name']}-{training['images'] // 1000}k-{key[:6]}"


def log_params(client: MlflowClient, run_id: str, training: Mapping[str, Any], dataset: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    values = dict(flat({"train": training, "dataset": dataset}))
    client.log_batch(run_id, params=[Param(name, str(value)[:6000]) for name, value in values.items()])


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested values by their paths, as `network.name`."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def log_metrics(client: MlflowClient, run_id: str, metrics: Sequence[Metric]) -> None:
    for start in range(0, len(metrics), 1000):
        client.log_batch(run_id, metrics=metrics[start : start + 1000])


class UsedData(NamedTuple):
    """The data set of a run: its version by DVC's hash where it has one, and what is in it."""

    version: str
    facts: Mapping[str, Any]


class Descriptions(NamedTuple):
    """In Markdown: of a version and of its run, which have one text, and of the registered model where it is new."""

    version: str
    model: str | None


def run_of_version(name: str, version: int, workspace: Workspace) -> tuple[str, str]:
    """Return the ids of the experiment and of the run of a version.

    Raises:
        UserError: the server cannot be reached or refuses.
    """
    with registry_lock(workspace), server_errors():
        client = open_client(workspace)
        run_id = str(client.get_model_version(name, str(version)).run_id)
        return str(client.get_run(run_id).info.experiment_id), run_id


def attach(
    name: str,
    version: int,
    workspace: Workspace,
    files: Mapping[str, bytes],
    descriptions: Descriptions,
    data: UsedData,
) -> None:
    """Put `files`, by their paths, and the data set into the run of a version, and describe it.

    The registered model is described too, unless somebody else did.

    Raises:
        UserError: the server cannot be reached or refuses.
    """
    with registry_lock(workspace), server_errors(), tempfile.TemporaryDirectory() as folder:
        client = open_client(workspace)
        described = client.get_model_version(name, str(version))
        for file, content in files.items():
            (Path(folder) / file).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / file).write_bytes(content)
        _check_files(client, described.run_id, workspace)
        client.log_artifacts(described.run_id, folder)
        _log_data(client, described.run_id, workspace, data)
        client.set_tag(described.run_id, NOTE, descriptions.version)
        # Even an equal one would show as a change of the version.
        if described.description != descriptions.version:
            client.update_model_version(name, str(version), descriptions.version)
        if descriptions.model is not None:
            _describe_model(client, name, descriptions.model)


def begin_note(client: MlflowClient, run_id: str, note: str) -> None:
    """Describe a run that has no description yet."""
    if NOTE not in client.get_run(run_id).data.tags:
        client.set_tag(run_id, NOTE, note)


def _describe_model(client: MlflowClient, name: str, description: str) -> None:
    model = client.get_registered_model(name)
    present = model.description or ""
    ours = present in ("", DESCRIPTION) or model.tags.get(_DESCRIBED) == _digest(present)
    if ours and present != description:
        client.update_registered_model(name, description)
        client.set_registered_model_tag(name, _DESCRIBED, _digest(description))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def attached(name: str, version: int, paths: Sequence[str], workspace: Workspace) -> str | None:
    """Return the text of the first of these files that was attached to the run of a version; None if none was.

    Raises:
        UserError: the server cannot be reached or refuses.
    """
    with registry_lock(workspace), server_errors(), tempfile.TemporaryDirectory() as folder:
        client = open_client(workspace)
        run_id = client.get_model_version(name, str(version)).run_id
        _check_files(client, run_id, workspace)
        for path in paths:
            if path in {found.path for found in client.list_artifacts(run_id, path.rpartition("/")[0] or None)}:
                return Path(client.download_artifacts(run_id, path, folder)).read_text(encoding="utf-8")
        return None


def _log_data(client: MlflowClient, run_id: str, workspace: Workspace, data: UsedData) -> None:
    from mlflow.entities import Dataset as UsedDataset
    from mlflow.entities import DatasetInput, InputTag

    used = UsedDataset(
        name=f"{workspace.root.absolute().name}/{workspace.data.name}",
        digest=data.version.removesuffix(".dir")[:16],
        source_type="dvc" if data.version.endswith(".dir") else "ganflow",
        source=json.dumps({"file": "data.dvc", "version": data.version}),
        profile=json.dumps(dict(data.facts)),
    )
    # MLflow keeps one of equal ones.
    client.log_inputs(run_id, [DatasetInput(used, [InputTag("mlflow.data.context", "training")])])


def any_running(workspace: Workspace) -> bool:
    """Whether MLflow believes that a run is in progress. Imports it only to ask a server."""
    if address() == "embedded":
        query = "SELECT run_uuid FROM runs WHERE status = 'RUNNING' AND lifecycle_stage = 'active'"
        return bool(read_rows(workspace, query))
    with server_errors():
        return bool(_running(open_client(workspace), workspace))


def claim(client: MlflowClient, workspace: Workspace, run_id: str) -> None:
    """Mark the run as running, by this process and for this workspace."""
    client.set_tag(run_id, _CLAIM, Claim.make(workspace, run_id).token)
    client.update_run(run_id, status="RUNNING")


def finish(client: MlflowClient, workspace: Workspace, run_id: str) -> None:
    """Mark the run as finished, which nobody works on any more."""
    client.set_terminated(run_id)
    drop_claim(workspace, run_id)


def end_dead_runs(workspace: Workspace) -> Iterator[str]:
    """Mark runs of this workspace that MLflow believes to be running as killed; a sentence for each.

    To be called by who holds the workspace, so that nothing trains in it. Others train the same model at the same time,
    in copies of the workspace or on other machines: on a server a run is theirs once they have begun to write to it.
    """
    with registry_lock(workspace), server_errors():
        client = open_client(workspace)
        for run in _running(client, workspace):
            client.set_tag(run.info.run_id, "ended", "its process is gone; the same command goes on with it")
            client.set_terminated(run.info.run_id, "KILLED")
            drop_claim(workspace, run.info.run_id)
            yield f"MLflow's run {run.info.run_name} is marked killed, because nothing trains it"


def _running(client: MlflowClient, workspace: Workspace) -> list[Run]:
    """Runs that MLflow believes to be running and that this workspace was the last to work on."""
    found = client.search_runs([ensure_experiment(client, workspace)], "attributes.status = 'RUNNING'")
    if address() == "embedded":
        return list(found)
    claims = {run.info.run_id: Claim.read(workspace, run.info.run_id) for run in found}
    return [
        run
        for run in found
        if (claim := claims[run.info.run_id]) and claim.is_of(workspace) and claim.token == run.data.tags.get(_CLAIM)
    ]


def complete_run(client: MlflowClient, run_id: str, model: Model, evaluation: Evaluation, gallery: Gallery) -> None:
    """Curves that the run lacks, scores, and the files that its page shows."""
    import pandas as pd

    names = Names.of_run(client, run_id)
    seen = names.last_step(client, run_id)
    history = pd.read_csv(model.folder / "history.csv")
    rows = history[history["images"] > seen].to_dict("records")
    log_metrics(client, run_id, names.curves({str(k): v for k, v in row.items()} for row in rows))
    log_metrics(client, run_id, names.scores(evaluation.metrics, model.images))
    client.log_artifact(run_id, str(evaluation.folder / "metrics.json"), REPORT)
    for file in sorted(gallery.folder.iterdir()):
        if file.is_dir():
            client.log_artifacts(run_id, str(file), f"{PICTURES}/finished")
        else:
            client.log_artifact(run_id, str(file), PICTURES if file.suffix in (".png", ".webp") else REPORT)


def dataset_facts(image: ImageFormat, training: int, holdout: int, content: str) -> dict[str, Any]:
    """Return what a run says about its data."""
    return {
        "resolution": f"{image.width}x{image.height}",
        "channels": image.channels,
        "classes": ", ".join(image.classes)[:500],
        "training_images": training,
        "holdout_images": holdout,
        "content": content,
    }


def run_of(key: str, workspace: Workspace) -> str | None:
    """Return the id of the run with the tag `key`; None if there is none, or MLflow cannot be reached."""
    if address() == "embedded":
        query = (
            "SELECT runs.run_uuid FROM runs JOIN tags ON tags.run_uuid = runs.run_uuid "
            "WHERE tags.key = 'key' AND tags.value = ? AND runs.lifecycle_stage = 'active' ORDER BY runs.start_time"
        )
        return next((row[0] for row in read_rows(workspace, query, key)), None)
    with suppress(NotThereError, UnreachableError):
        client = open_client(workspace)
        with server_errors():
            experiment = client.get_experiment_by_name(EXPERIMENT)
            if experiment is not None:
                runs = client.search_runs([experiment.experiment_id], f"tags.key = '{key}'")
                return next((str(run.info.run_id) for run in reversed(runs)), None)
    return None


def known_experiment(workspace: Workspace) -> str | None:
    """Return the id of the experiment that holds the runs; None before there is one, or where the server is away."""
    if address() == "embedded":
        rows = read_rows(workspace, "SELECT experiment_id FROM experiments WHERE name = ?", EXPERIMENT)
        return next((str(row[0]) for row in rows), None)
    with suppress(NotThereError, UnreachableError):
        client = open_client(workspace)
        with server_errors():
            found = client.get_experiment_by_name(EXPERIMENT)
            return str(found.experiment_id) if found else None
    return None


def experiment_of(run_id: str | None, workspace: Workspace) -> str | None:
    """Return the experiment of a run of the embedded database, or of the only one that a server has for us."""
    if run_id is None:
        return None
    if address() == "embedded":
        rows = read_rows(workspace, "SELECT experiment_id FROM runs WHERE run_uuid = ?", run_id)
        return next((str(row[0]) for row in rows), None)
    with suppress(NotThereError, UnreachableError):
        client = open_client(workspace)
        with server_errors():
            return str(client.get_run(run_id).info.experiment_id)
    return None


def params_of(key: str, workspace: Workspace) -> Mapping[str, str]:
    """Return what `log_params` logged for the model `key`; empty if it has no run, or MLflow cannot be reached."""
    run_id = run_of(key, workspace)
    if run_id is None:
        return {}
    if address() == "embedded":
        return {
            row[0]: row[1] for row in read_rows(workspace, "SELECT key, value FROM params WHERE run_uuid = ?", run_id)
        }
    with suppress(NotThereError, UnreachableError), server_errors():
        return dict(open_client(workspace).get_run(run_id).data.params)
    return {}


def metrics_of(key: str, workspace: Workspace) -> Mapping[str, float]:
    """Return the last value of each metric of the run of the model `key`, by MLflow's names; empty as `params_of`."""
    run_id = run_of(key, workspace)
    if run_id is None:
        return {}
    if address() == "embedded":
        query = "SELECT key, value FROM latest_metrics WHERE run_uuid = ?"
        return {row[0]: float(row[1]) for row in read_rows(workspace, query, run_id)}
    with suppress(NotThereError, UnreachableError), server_errors():
        return dict(open_client(workspace).get_run(run_id).data.metrics)
    return {}
