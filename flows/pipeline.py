"""The main flow: from raw images to a registered model, and the gate."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from components.workspace.params import Params
from components.workspace.verdict import Verdict
from components.workspace.workspace import Workspace
from flows import stages
from flows.runs import introduce, named
from flows.supervisor import ephemeral_server


@flow(flow_run_name=named)
def pipeline(params: Params | None = None, workspace: Path = Path()) -> Verdict:
    """Preprocess, train, evaluate, postprocess, register, promote; by default with the workspace's parameters."""
    home = Workspace(workspace.absolute())
    with home.exclusive():
        ephemeral_server.note(home)
        introduce()
        return run_stages(params or Params.load(home.params), home)


def run_stages(params: Params, home: Workspace) -> Verdict:
    """All stages, each skipped where nothing changed, and the gate's verdict. Called within a flow."""
    dataset = stages.preprocess(params.preprocess, home.data, home.dataset)
    model = stages.train(params.train, dataset, home.model)
    evaluation = stages.evaluate(params.evaluate, model, dataset, home.evaluation)
    gallery = stages.postprocess(params.postprocess, evaluation, model, dataset, home.gallery)
    registration = stages.register(params.register, model, evaluation, gallery, home.registration)
    return stages.promote(params.promote, registration, model, evaluation, dataset, home)
