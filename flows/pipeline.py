"""The main flow: from raw images to a registered model, and the gate."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from components.training import begun
from components.workspace.params import Params
from components.workspace.verdict import Verdict
from components.workspace.workspace import Workspace
from flows import stages
from flows.runs import introduced, named
from flows.supervisor import ephemeral_server


@flow(flow_run_name=named)
def pipeline(params: Params | None = None, workspace: Path = Path()) -> Verdict:
    """Preprocess, train, evaluate, postprocess, register, promote; by default with the workspace's parameters."""
    opened = Workspace(workspace.absolute())
    with opened.exclusive():
        ephemeral_server.note(opened)
        with introduced(opened):
            return run_stages(params or Params.load(opened.params), opened)


def run_stages(params: Params, workspace: Workspace) -> Verdict:
    """All stages, each skipped where nothing changed, and the gate's verdict. Called within a flow.

    A training that waits to be finished comes first, on its own data; the next run uses the present ones.
    """
    if half := begun.unfinished(params, workspace):
        params, dataset = half.resumed(params), stages.restore(half, workspace)
    else:
        dataset = stages.preprocess(params, workspace)
    model = stages.train(params, workspace, wait_for=[dataset])
    evaluation = stages.evaluate(params, workspace, wait_for=[model])
    gallery = stages.postprocess(params, workspace, wait_for=[evaluation])
    registration = stages.register(params, workspace, wait_for=[gallery])
    begun.end(model.key, workspace)
    return stages.promote(params, workspace, wait_for=[registration])
