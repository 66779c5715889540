"""Addresses of MLflow's pages: each leads to the thing itself, in the view for training.

Without `workflowType` the pages open in that for language models. An address without a server leads from one page of
MLflow to another, wherever they are served.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from urllib.parse import quote, urlencode

from ...workspace.workspace import Workspace
from ..platform import running
from . import runs
from .connection import address

_VIEW = "workflowType=machine_learning"


def server_of(workspace: Workspace) -> str | None:
    """Return where MLflow's pages answer: those of the platform, or of the server that the user named; None if none."""
    if address() != "embedded":
        return address() if address().startswith(("http://", "https://")) else None
    platform = running(workspace)
    return platform.mlflow if platform else None


def home(server: str, workspace: Workspace) -> str:
    """Return the address of the list of runs, or of all experiments before there is a run."""
    experiment = runs.known_experiment(workspace)
    return _page(server, *(("experiments", experiment, "runs") if experiment else ()))


def run(server: str, experiment: str, run_id: str, *parts: str) -> str:
    """Return the address of a run; `parts`: `model-metrics`, or `artifacts` with the path of a file."""
    return _page(server, "experiments", experiment, "runs", run_id, *parts)


def model(server: str, name: str) -> str:
    """Return the address of a registered model."""
    return _page(server, "models", name)


def version(server: str, name: str, number: int) -> str:
    """Return the address of a version of a registered model."""
    return _page(server, "models", name, "versions", str(number))


def comparison(server: str, experiment: str, run_ids: Sequence[str]) -> str:
    """Return the address of the page that compares runs of one experiment."""
    asked = urlencode({"runs": json.dumps([*run_ids]), "experiments": json.dumps([experiment])}, quote_via=quote)
    # The page looks for the runs directly behind the question mark.
    return _page(server, "compare-runs").replace(f"?{_VIEW}", f"?{asked}&{_VIEW}")


def picture(run_id: str, path: str) -> str:
    """Return the address of a file of a run as a picture in a page of MLflow."""
    return f"get-artifact?{urlencode({'path': path, 'run_uuid': run_id})}"


def _page(server: str, *parts: str) -> str:
    # Slashes stay in the path of a file alone, which is the last part; names of models have none.
    path = "/".join(
        quote(part) if at and parts[at - 1] == "artifacts" else quote(part, "") for at, part in enumerate(parts)
    )
    return f"{server.rstrip('/')}{'/' if server else ''}#/{path}?{_VIEW}"
