"""The connection to MLflow: embedded in the workspace (SQLite and files under `mlruns/`) unless a server is named.

`MLFLOW_TRACKING_URI` names one.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from filelock import FileLock

from ...gan.errors import NotThereError, RefusedError, UnreachableError, UserError
from ...workspace.files import disk_errors
from ...workspace.workspace import Workspace
from ..address import masked

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient
from .database import EXPERIMENT, relocate


def address() -> str:
    """Return the tracking server that the user named, as it may be shown and written down, or `embedded`."""
    return masked(os.environ.get("MLFLOW_TRACKING_URI") or "embedded")


def uri(workspace: Workspace) -> str:
    """Return what MLflow is to connect to; it may hold a password."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{workspace.mlruns.absolute()}/mlflow.db"


def open_client(workspace: Workspace) -> MlflowClient:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    # It would print the run's address with the password that the server's has.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    workspace.mlruns.mkdir(parents=True, exist_ok=True)
    if address() == "embedded":
        relocate(workspace)
        # MLflow's own default is made in the current folder, and writes its path into SQL, where ' ends a text.
        os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = (workspace.mlruns.absolute() / "artifacts").as_uri()
    import mlflow

    # Migrations and package checks are written to the terminal as information otherwise; errors are raised as well.
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    named = os.environ.get("MLFLOW_TRACKING_URI")
    with server_errors():
        mlflow.set_tracking_uri(uri(workspace))
        # MLflow writes this into the environment, where it would look like a server that the user named.
        if named is None:
            os.environ.pop("MLFLOW_TRACKING_URI", None)
        return mlflow.MlflowClient()


@contextmanager
def server_errors() -> Iterator[None]:
    """Turn what MLflow raises into one sentence.

    Raises:
        NotThereError: the server does not hold what was asked for.
        UnreachableError: it does not answer, or its database is locked or full.
        RefusedError: it answers, and refuses; or what its address needs is not installed.
    """
    import requests.exceptions
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except ModuleNotFoundError as error:
        raise RefusedError(
            f"MLflow at {address()} needs the package {error.name}, which is not installed: pip install it, or name "
            "another server by MLFLOW_TRACKING_URI"
        ) from None
    except SQLAlchemyError as error:
        # With the statement and its values it would be a page.
        cause = getattr(error, "orig", None) or error
        reason = masked(" ".join(str(cause).split()))[:300]
        raise UnreachableError(
            f"MLflow's database at {address()} did not do what was asked ({reason}): end what holds it, make room if "
            "the disk is full, and run the same command again"
        ) from None
    except (MlflowException, requests.exceptions.RequestException) as error:
        reason = masked(" ".join(str(error).split()))[:300]
        raise _kind(error)(
            f"MLflow at {address()} did not do what was asked ({reason}); run the same command again"
        ) from None


def _kind(error: Exception) -> type[UserError]:
    """Which error it is: MLflow calls what it cannot tell, such as no answer, an internal one."""
    code = getattr(error, "error_code", "INTERNAL_ERROR")
    if code in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"):
        return NotThereError
    return UnreachableError if code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE") else RefusedError


def ensure_experiment(client: MlflowClient, workspace: Workspace) -> str:
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        place = (workspace.mlruns.absolute() / "artifacts").as_uri() if address() == "embedded" else None
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
def registry_lock(workspace: Workspace) -> Iterator[None]:
    """One process at a time changes the registry from this workspace; those of others are told by what they find."""
    with disk_errors(workspace.mlruns):
        workspace.mlruns.mkdir(parents=True, exist_ok=True)
        with FileLock(workspace.mlruns / ".registry.lock"):
            yield
