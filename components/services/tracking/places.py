"""Where MLflow's files lie: below the workspace, or where the server that the user named keeps them.

The addresses stand in a database that may have come from elsewhere, with a workspace that was copied: nothing is read,
fetched or written at another place that it names.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ...gan.errors import RefusedError
from ...workspace.workspace import Workspace
from ..address import masked
from .connection import address, uri

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

# Of servers: through the server itself, in buckets by the user's own keys, and on disks that both see.
_OF_SERVERS = ("mlflow-artifacts", "s3", "gs", "abfs", "abfss", "wasb", "wasbs", "file", "")


def files_of_version(client: MlflowClient, version: ModelVersion, workspace: Workspace) -> Path:
    """Return the folder with the files of a version, fetched if they lie on a server.

    Raises:
        RefusedError: they lie at a place that neither the workspace nor the user names.
        MlflowException: they are gone.
    """
    import mlflow

    source = str(version.source)
    place = source
    if source.startswith("models:/m-"):
        place = client.get_logged_model(source.removeprefix("models:/")).artifact_location
    elif source.startswith("models:/"):
        place = client.get_model_version_download_uri(version.name, str(version.version))
    what = f"the files of version {version.version} of {version.name}"
    check_place(place, what, workspace)
    if address() != "embedded":
        return Path(mlflow.artifacts.download_artifacts(source))
    folder = _local(place)
    for file in folder.rglob("*"):
        if file.is_symlink() and not file.resolve().is_relative_to(folder.resolve()):
            raise RefusedError(f"{what} include a link to {file.readlink()}: remove {file}")
    return folder


def check_place(place: str, what: str, workspace: Workspace) -> None:
    """Make sure that `what` lies where it may be read and written.

    Raises:
        RefusedError: it does not.
    """
    if address() == "embedded":
        if not _lies_in(workspace.mlruns, place):
            raise RefusedError(
                f"MLflow's database in {workspace.mlruns} says that {what} are at {masked(place)[:200]}, outside of "
                "the workspace, where nothing is read: remove them in MLflow, or name the server that keeps them by "
                "MLFLOW_TRACKING_URI"
            )
    elif not _lies_on(uri(workspace), place):
        raise RefusedError(
            f"MLflow at {address()} says that {what} are at {masked(place)[:200]}, which is neither that server nor a "
            "bucket, and is not asked"
        )


def _lies_in(folder: Path, place: str) -> bool:
    try:
        parts = urlsplit(place)
        local = parts.scheme in ("file", "") and parts.netloc in ("", "localhost")
        return local and _local(place).resolve().is_relative_to(folder.resolve())
    # Brackets that hold no host, a zero byte, letters that are none.
    except ValueError:
        return False


def _lies_on(server: str, place: str) -> bool:
    try:
        parts = urlsplit(place)
        return parts.scheme in _OF_SERVERS or (
            parts.scheme in ("http", "https") and parts.netloc == urlsplit(server).netloc
        )
    except ValueError:
        return False


def _local(place: str) -> Path:
    return Path(url2pathname(urlsplit(place).path) if urlsplit(place).scheme == "file" else place)
