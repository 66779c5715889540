"""Runs, versions and aliases put back under their numbers and ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from ...gan.errors import UserError
from ...workspace.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient
from .champions import current_champion, written_champion
from .connection import address, ensure_experiment, open_client, registry_lock, server_errors
from .database import check_schema, rename_model, rename_run, renumber_version
from .names import Names
from .packing import files_hash
from .registry import FILES_TAG, is_version, version_of
from .runs import DESCRIPTION, log_metrics, log_params, run_name_of

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
    scores: Mapping[str, float]
    images: int
    cost: Mapping[str, float] | None
    begun: float
    ended: float
    versions: Sequence[RecordedVersion]


def restore(
    workspace: Workspace, runs: Sequence[RecordedRun], challengers: Mapping[str, int]
) -> Iterator[tuple[str, str]]:
    """Put runs, versions and aliases that the embedded registry lacks back under their numbers and ids.

    Yields each of them, and what could not be restored of it: "" if nothing is missing.

    Raises:
        UserError: a server is named, whose ids and numbers nobody but itself can set; or MLflow is another version of
            it than this was tried with.
    """
    if address() != "embedded":
        raise UserError(
            f"rebuild-registry restores the workspace's own database, not {address()}: unset MLFLOW_TRACKING_URI, or "
            "run `ganflow register`, which registers the present model there"
        )
    with registry_lock(workspace), server_errors():
        client, experiment = _opened(workspace)
        for run in sorted(runs, key=lambda run: run.begun):
            run_id = _restore_run(client, workspace, experiment, run)
            yield f"run {run_id} of model {run.key}", "" if run.curves else "its curves are gone"
            for version in run.versions:
                missing = _restore_version(client, workspace, experiment, run_id, version)
                yield f"{version.name} version {version.version}", missing
        for name in sorted({version.name for run in runs for version in run.versions}):
            yield from _restore_aliases(client, workspace, name, challengers.get(name))


def _opened(workspace: Workspace) -> tuple[MlflowClient, str]:
    """Open MLflow, with the id of the experiment, in a database whose ids and numbers can be set.

    Raises:
        UserError: they cannot; no new database is left.
    """
    database = workspace.mlruns / "mlflow.db"
    there = database.exists()
    if there:
        check_schema(workspace)
    client = open_client(workspace)
    experiment = ensure_experiment(client, workspace)
    try:
        check_schema(workspace)
    except UserError:
        # An empty one would look as if nothing had ever been registered.
        if not there:
            database.unlink()
        raise
    return client, experiment


def _restore_run(client: MlflowClient, workspace: Workspace, experiment: str, run: RecordedRun) -> str:
    """Return the run of `run.key`, made again if it is not there; its id."""
    found = client.search_runs([experiment], f"tags.key = '{run.key}'", order_by=["attribute.start_time ASC"])
    if found and found[0].info.status == "FINISHED":
        return str(found[0].info.run_id)
    if found:
        run_id = str(found[0].info.run_id)
    else:
        made = client.create_run(
            experiment, int(run.begun * 1000), {"key": run.key}, run_name=run_name_of(run.training, run.key)
        ).info.run_id
        run_id = run.run_id
        rename_run(workspace, made, run_id)
    log_params(client, run_id, run.training, run.dataset)
    names = Names.of_run(client, run_id)
    seen = names.last_step(client, run_id)
    log_metrics(client, run_id, names.curves(row for row in run.curves if row["images"] > seen))
    log_metrics(client, run_id, names.scores(run.scores, run.images))
    if run.cost:
        log_metrics(client, run_id, names.cost(run.cost))
    if any((workspace.mlruns / "artifacts" / run_id / "artifacts" / "images").glob("samples*")):
        # What makes MLflow's pages show them.
        client.set_tag(run_id, "mlflow.loggedImages", True)
    client.set_terminated(run_id, "FINISHED", int(run.ended * 1000))
    return run_id


def _restore_version(
    client: MlflowClient, workspace: Workspace, experiment: str, run_id: str, version: RecordedVersion
) -> str:
    """Make a version again under its number if it is not there; why that cannot be done."""
    from mlflow.entities import LoggedModelOutput
    from mlflow.exceptions import MlflowException

    name, number, model_id = version.name, version.version, version.model_id
    if is_version(client, name, number):
        key = client.get_model_version(name, str(number)).tags.get("key")
        same = key == version.tags.get("key")
        return "" if same else f"model {key} was registered under its number since"
    folder = workspace.mlruns / version.place
    if not folder.resolve().is_relative_to(workspace.mlruns.resolve()) or not folder.is_dir():
        return f"its files are gone from {folder}"
    if files_hash(folder) != version.tags.get(FILES_TAG):
        return f"its files in {folder} are not those that were registered"
    with suppress(MlflowException):
        client.create_registered_model(name, description=DESCRIPTION)
    try:
        client.get_logged_model(model_id)
    except MlflowException:
        params = client.get_run(run_id).data.params
        made = client.create_logged_model(experiment, "model", run_id, params=params).model_id
        client.finalize_logged_model(made, "READY")
        rename_model(workspace, made, model_id)
        client.log_outputs(run_id, [LoggedModelOutput(model_id, 0)])
    registered = client.create_model_version(
        name, f"models:/{model_id}", run_id, tags=dict(version.tags), model_id=model_id
    )
    renumber_version(workspace, name, int(registered.version), number)
    return ""


def _restore_aliases(
    client: MlflowClient, workspace: Workspace, name: str, challenger: int | None
) -> Iterator[tuple[str, str]]:
    wanted = (("champion", written_champion(name, workspace)), ("challenger", challenger))
    for alias, version in wanted:
        held = version_of(client, name, alias)
        there = version is not None and is_version(client, name, version)
        if held is not None:
            version, there = held, True
        elif version is not None and there:
            client.set_registered_model_alias(name, alias, str(version))
        if version is not None:
            yield f"{name} {alias}, version {version}", "" if there else f"version {version} is not there"
    # A change that a crash cut off before is finished now.
    current_champion(client, workspace, name)
