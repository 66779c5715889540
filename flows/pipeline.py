"""The main flow: from raw images to a registered model, and the gate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefect import flow, get_run_logger

from components.gan.errors import NotThereError
from components.services.tracking import connection
from components.training import begun
from components.workspace.graph import Step, plan
from components.workspace.params import Params
from components.workspace.verdict import Verdict
from components.workspace.workspace import Workspace
from flows import prefect_artifacts, stages
from flows.outcomes import Outcome, judged
from flows.runs import named, state_of
from flows.supervisor import ephemeral_server


@flow(flow_run_name=named)
@state_of
def pipeline(params: Params | None = None, workspace: Path = Path()) -> Outcome:
    """Preprocess, train, evaluate, postprocess, register, promote; by default with the workspace's parameters."""
    opened = Workspace(workspace.absolute())
    chosen = params or Params.load(opened.params)
    with opened.exclusive():
        ephemeral_server.note(opened)
        return run_stages(chosen, opened, plan(opened, chosen, connection.address()))


def run_stages(params: Params, workspace: Workspace, steps: Sequence[Step]) -> Outcome:
    """All stages, each skipped where nothing changed, and the gate's verdict. Called within a flow.

    A training that waits to be finished comes first, on its own data; the next run uses the present ones. `steps`: what
    is due by the present ones.
    """
    before = last_verdict(workspace)
    if half := begun.unfinished(params, workspace):
        params, dataset = half.resumed(params), stages.restore(half, workspace)
    else:
        for step in steps:
            get_run_logger().info("%s", f"{step.stage.name}: {step.reason or stages.UNCHANGED}")
        dataset = stages.preprocess(params, workspace)
    model = stages.train(params, workspace, wait_for=[dataset])
    evaluation = stages.evaluate(params, workspace, wait_for=[model])
    gallery = stages.postprocess(params, workspace, wait_for=[evaluation])
    registration = stages.register(params, workspace, wait_for=[gallery])
    begun.end(model.key, workspace)
    outcome = judged(stages.promote(params, workspace, wait_for=[registration]), before)
    made = (dataset, model, evaluation, gallery, registration)
    prefect_artifacts.result(outcome, made, {} if half else {step.stage.name: step.reason for step in steps}, workspace)
    return outcome


def last_verdict(workspace: Workspace) -> Verdict | None:
    """Return the verdict on the version that is registered, if there is one."""
    try:
        return Verdict.of(workspace)
    except NotThereError:
        return None
