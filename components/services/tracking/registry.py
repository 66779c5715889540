"""Versions of the registered model."""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ...gan.errors import DamagedError, NotThereError, RefusedError
from ...workspace.artifacts import Evaluation, Gallery, Model
from ...workspace.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient
from .connection import address, open_client, registry_lock, server_errors
from .database import EXPERIMENT, read_rows
from .packing import SERVING_CODE, files_hash, packed_code, requirements, signature
from .places import files_of_version
from .runs import DESCRIPTION, complete_run, dataset_facts, ensure_run, log_params, run_name_of

# Versions that a refusal names.
SHOWN = 10
# Of a model version: the hash of all its files.
FILES_TAG = "files"
# And the truncation with which its samples are nearest to the training split.
TRUNCATION_TAG = "truncation"
# Of a model of an image task: which task, with its options.
TASK_TAG = "task"


class ModelVersion(NamedTuple):
    """A version of a registered model: its number, its model's key, and the folder that was registered."""

    name: str
    version: int
    key: str
    folder: Path

    def __str__(self) -> str:
        return f"version {self.version} of {self.name}"


def fetched(client: MlflowClient, name: str, number: int, workspace: Workspace) -> ModelVersion:
    """Return a version with its files, which are fetched if they lie elsewhere.

    Raises:
        DamagedError: it is none that ganflow registered.
        RefusedError: its files lie where nothing is read.
    """
    version = client.get_model_version(name, str(number))
    if "key" not in version.tags:
        raise DamagedError(
            f"version {number} of {name} was not registered by ganflow: name another one by --model, or delete it in "
            "MLflow"
        )
    folder = files_of_version(client, version, workspace) / "artifacts"
    return ModelVersion(name, number, version.tags["key"], folder)


def find_version(name: str, wanted: str, workspace: Workspace) -> ModelVersion:
    """Return the version of `name` with the number or alias `wanted`, and its files.

    Raises:
        NotThereError: there is none.
    """
    with registry_lock(workspace), server_errors():
        client = open_client(workspace)
        number = int(wanted) if wanted.isdecimal() else version_of(client, name, wanted)
        if number is not None and is_version(client, name, number):
            return fetched(client, name, number, workspace)
        newest = client.search_model_versions(
            f"name = '{name}'", max_results=SHOWN + 1, order_by=["version_number DESC"]
        )
    numbers = [str(version.version) for version in newest]
    listed = ", ".join(["..."] * (len(numbers) > SHOWN) + numbers[:SHOWN][::-1])
    there = f"it has {listed}" if numbers else "`ganflow run` makes a model and registers it"
    raise NotThereError(f"{name} has no {f'version {wanted}' if wanted.isdecimal() else wanted}: {there}")


def version_of(client: MlflowClient, name: str, alias: str) -> int | None:
    """Return the number of the version with an alias; None if there is none."""
    from mlflow.exceptions import MlflowException

    try:
        return int(client.get_model_version_by_alias(name, alias).version)
    except MlflowException as error:
        # The latter is what MLflow says of an alias that was not given.
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def is_version(client: MlflowClient, name: str, number: int) -> bool:
    """Whether the registry has this version."""
    from mlflow.exceptions import MlflowException

    try:
        client.get_model_version(name, str(number))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return True


def register(
    name: str,
    model: Model,
    evaluation: Evaluation,
    gallery: Gallery,
    commit: str | None,
    workspace: Workspace,
) -> int:
    """Register `model` once for its key, complete its run and make it challenger; its version.

    Raises:
        UserError: the server cannot be reached or refuses.
    """
    with registry_lock(workspace), server_errors():
        client = open_client(workspace)
        key = model.key.id
        training = model.training.model_dump(mode="json")
        run_id = ensure_run(client, workspace, key, run_name_of(training, key))
        images = evaluation.training_images, evaluation.holdout_images
        log_params(client, run_id, training, dataset_facts(model.image, *images, model.dataset))
        complete_run(client, run_id, model, evaluation, gallery)
        version = _version(client, name, model, evaluation, run_id)
        tags = {
            "key": key,
            FILES_TAG: files_hash(files_of_version(client, client.get_model_version(name, str(version)), workspace)),
            "data": model.dataset,
            "commit": commit or "none",
            "params": model.key.options,
            "holdout": evaluation.holdout,
            "feature_net": evaluation.feature_net,
        }
        # What an evaluation with it chose stays when the model is evaluated again without.
        if evaluation.truncation is not None:
            tags[TRUNCATION_TAG] = repr(evaluation.truncation)
        if model.training.task.name != "generate":
            tags[TASK_TAG] = json.dumps(model.training.task.model_dump(mode="json"))
        for tag, value in tags.items():
            client.set_model_version_tag(name, str(version), tag, value)
        client.set_registered_model_alias(name, "challenger", str(version))
        client.update_run(run_id, status="FINISHED")
        return version


def is_registered(name: str, version: int, key: str, workspace: Workspace) -> bool:
    """Whether the registry holds `version` of `name` with this key."""
    client = open_client(workspace)
    with server_errors():
        return _version_with_key(client, name, key) == version


class CheckedVersion(NamedTuple):
    """A registered version, what is `wrong` with its files, and whether their hash was kept at all, so as to tell."""

    name: str
    wrong: str | None
    hashed: bool


def checked_versions(workspace: Workspace) -> Iterator[CheckedVersion]:
    """Hash the files of every registered version again.

    Raises:
        UserError: the server cannot be reached.
    """
    if address() == "embedded" and not (workspace.mlruns / "mlflow.db").exists():
        return
    client = open_client(workspace)
    with server_errors():
        names = sorted(model.name for model in _all_of(client.search_registered_models))
        for name in names:
            search = partial(client.search_model_versions, f"name = '{name}'", order_by=["version_number ASC"])
            for version in _all_of(search):
                called = f"{name} version {version.version}"
                hashed = FILES_TAG in version.tags
                yield CheckedVersion(called, _wrong_files(client, version, workspace) if hashed else None, hashed)


def _all_of(search: Callable[..., Any]) -> Iterator[Any]:
    """Yield everything that a search of MLflow finds, page by page."""
    found = search()
    yield from found
    while found.token:
        found = search(page_token=found.token)
        yield from found


def _wrong_files(client: MlflowClient, version: Any, workspace: Workspace) -> str | None:
    """Return what is wrong with the files of a version whose hash was kept."""
    try:
        if files_hash(files_of_version(client, version, workspace)) != version.tags[FILES_TAG]:
            return "its files are not those that were registered"
    except RefusedError as error:
        return f"its files cannot be read ({error})"
    except Exception as error:
        return f"its files cannot be read ({' '.join(str(error).split())[:300]})"
    return None


def _version_with_key(client: MlflowClient, name: str, key: str) -> int | None:
    """Return the version of the registered model with the model's key; of several the oldest."""
    found = client.search_model_versions(f"name = '{name}' and tags.key = '{key}'")
    return min((int(version.version) for version in found), default=None)


def _version(client: MlflowClient, name: str, model: Model, evaluation: Evaluation, run_id: str) -> int:
    """Return the version with the model's key, logged and registered if there is none."""
    import mlflow
    from mlflow.exceptions import MlflowException

    from ...workspace.published import load_published, save_published

    if known := _version_with_key(client, name, model.key.id):
        return known
    try:
        client.create_registered_model(name, description=DESCRIPTION)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # MLflow misses type hints and an example of the input: the signature says what it is.
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryDirectory() as code,
        warnings.catch_warnings(record=True),
        mlflow.start_run(run_id=run_id, log_system_metrics=False),
    ):
        save_published(load_published(model.folder, "the model"), Path(folder))
        # So that a later gate can tell what this model has seen.
        seen = (evaluation.folder / name for name in Evaluation.seen if name in evaluation.files)
        files = [*Path(folder).iterdir(), *seen]
        package = packed_code(Path(code))
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(shutil.copyfile(SERVING_CODE, Path(code) / SERVING_CODE.name)),
            # MLflow takes a path for an address, in which %20 is a space.
            artifacts={file.name: file.absolute().as_uri() for file in files},
            code_paths=[str(package)],
            signature=signature(model),
            pip_requirements=requirements(model.training.task),
        )
    # With the tag from the start: a version without a key would be made a second time.
    version = client.create_model_version(
        name, logged.model_uri, run_id, tags={"key": model.key.id}, model_id=logged.model_id
    )
    # Somebody else may have made one at the same moment: all keep the oldest.
    kept = _version_with_key(client, name, model.key.id) or int(version.version)
    if kept != int(version.version):
        client.delete_model_version(name, version.version)
        client.delete_logged_model(logged.model_id)
    return kept


def aliases(name: str, version: int, workspace: Workspace) -> list[str]:
    """Aliases of a version now."""
    if address() != "embedded":
        client = open_client(workspace)
        with server_errors():
            found = client.get_registered_model(name).aliases
            return sorted(alias for alias, number in found.items() if int(number) == version)
    query = "SELECT alias FROM registered_model_aliases WHERE name = ? AND version = ? ORDER BY alias"
    return [alias for (alias,) in read_rows(workspace, query, name, version)]


def tags(name: str, version: int, workspace: Workspace) -> dict[str, str]:
    """Tags of a version: the commit, the hash of the data and the scores that it was registered with."""
    if address() != "embedded":
        client = open_client(workspace)
        with server_errors():
            return dict(client.get_model_version(name, str(version)).tags)
    query = "SELECT key, value FROM model_version_tags WHERE name = ? AND version = ?"
    return {key: value for key, value in read_rows(workspace, query, name, version)}


class StoredVersion(NamedTuple):
    """What it takes to make a version again; `place`: of its files, from `mlruns/`, None on a server."""

    run_id: str
    model_id: str
    place: str | None
    tags: Mapping[str, str]


def recorded_version(name: str, version: int, workspace: Workspace) -> StoredVersion | None:
    """What it takes to make a version again; None if there is none.

    Raises:
        UnreachableError: the server does not answer.
    """
    if address() != "embedded":
        try:
            client = open_client(workspace)
            with server_errors():
                found = client.get_model_version(name, str(version))
        except NotThereError:
            return None
        return StoredVersion(found.run_id, found.model_id, None, dict(found.tags))
    query = "SELECT run_id, source, storage_location FROM model_versions WHERE name = ? AND version = ?"
    known = "SELECT artifact_location FROM experiments WHERE name = ?"
    for run_id, source, location in read_rows(workspace, query, name, version):
        root = next((place for (place,) in read_rows(workspace, known, EXPERIMENT)), None)
        place = f"artifacts{location.removeprefix(root)}" if root and location and location.startswith(root) else None
        return StoredVersion(run_id, source.removeprefix("models:/"), place, tags(name, version, workspace))
    return None
