"""The scheduled flow: new data, parameters or code -> a challenger, and the gate."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, get_run_logger

from components.gan.errors import UserError
from components.provenance import ledger
from components.services import versioning
from components.services.cluster import session
from components.services.tracking import connection
from components.training import begun
from components.workspace.graph import STAGES, plan
from components.workspace.params import Params
from components.workspace.verdict import Verdict
from components.workspace.workspace import Workspace
from flows import stages
from flows.pipeline import run_stages
from flows.runs import named, state_of, turn


@flow(flow_run_name=named)
@state_of
def retrain(params: Params | None = None, workspace: Path = Path()) -> str:
    """Fetch new data, then run what changed since the last verdict; none given: the workspace's parameters."""
    opened = Workspace(workspace.absolute())
    chosen = params or Params.load(opened.params)
    with turn(opened):
        arrived = stages.data(chosen, opened)
        due = [step.stage.name for step in plan(opened, chosen, connection.address()) if step.reason]
        half = begun.unfinished(chosen, opened)
        if not half and not due and (judged := Verdict.of(opened)):
            ledger.record(opened)
            return f"Nothing new: data, parameters and code are those of {judged.name} version {judged.challenger}"
        if half or "train" in due:
            session.start()
        verdict = run_stages(chosen, opened)
        if params is None and not half:
            try:
                get_run_logger().info(versioning.record(opened, [stage.name for stage in STAGES]))
            except UserError as error:
                get_run_logger().warning(str(error))
        return f"{arrived}{verdict.name} version {verdict.challenger}: {verdict.answer}; {verdict.reason}"
