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
    opened = Workspace(workspace.absolute())
    with opened.exclusive():
        ephemeral_server.note(opened)
        introduce()
        return run_stages(params or Params.load(opened.params), opened)


def run_stages(params: Params, opened: Workspace) -> Verdict:
    """All stages, each skipped where nothing changed, and the gate's verdict. Called within a flow."""
    dataset = stages.preprocess(params.preprocess, opened.data, opened.dataset)
    model = stages.train(params.train, dataset, opened.model)
    evaluation = stages.evaluate(params.evaluate, model, dataset, opened.evaluation)
    gallery = stages.postprocess(params.postprocess, evaluation, model, dataset, opened.gallery)
    registration = stages.register(params.register, model, evaluation, gallery, opened.registration)
    return stages.promote(params.promote, registration, model, evaluation, dataset, opened)
