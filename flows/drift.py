"""The flow that looks at what has arrived, and has the model trained again when it differs."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from pydantic import ConfigDict

from components import drift as comparison
from components.drift import DriftResult
from components.workspace.journal import Journal
from components.workspace.params import Params
from components.workspace.workspace import Workspace
from flows.outcomes import Outcome
from flows.runs import named, state_of, turn

RETRAIN = "retrain/retrain"
SHOWN = 50


class Tick(DriftResult):
    """What a scheduled look at new images found, and when."""

    # A line outlives the version that wrote it.
    model_config = ConfigDict(extra="ignore")

    time: str

    def described(self) -> dict[str, object]:
        """A line of the history, which is a row of the table too."""
        return {"time": self.time, **self.model_dump(mode="json", exclude={"time"})}


@flow(flow_run_name=named)
@state_of
def drift(params: Params | None = None, workspace: Path = Path()) -> Outcome:
    """Compare new images with those that the champion learned from; an alarm starts retrain.

    Args:
        params: all parameters at once; None: as in params.yaml
        workspace: folder with params.yaml, data/ and the results, on the worker's machine
    """
    opened = Workspace(workspace.absolute())
    chosen = params or Params.load(opened.params)
    if chosen.retrain.inbox is None:
        return Outcome("no inbox", "Nothing can arrive: params.yaml names no retrain.inbox")
    with turn(opened):
        found = comparison.drift(chosen, opened)
        history = Journal(opened.state / "drift.jsonl")
        tick = Tick(time=datetime.now(UTC).isoformat(timespec="seconds"), **found.model_dump())
        history.append(tick.described())
        ticks = [tick.described() for tick in history.records(Tick)]
        create_table_artifact(ticks[: -SHOWN - 1 : -1], "drift", f"{found.message}; the last looks, the newest first")
    if found.p_value is None:
        return Outcome(f"{found.new:,} new images, too few", found.message)
    if not found.drifted:
        return Outcome(f"no drift in {found.new:,} new images", found.message)
    try:
        run = run_deployment(RETRAIN, timeout=0, as_subflow=False)
        then = f"{getattr(run, 'name', RETRAIN)} trains again"
    except ObjectNotFound:
        then = f"{RETRAIN} is not deployed: `ganflow run` trains again"
    return Outcome(f"{found.new:,} new images differ", f"{found.message}; {then}", ("drift",), "drift")
