"""The flow that looks at what has arrived, and has the model trained again when it differs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from pydantic import ConfigDict, Field

from components import drift as comparison
from components.drift import DriftResult
from components.workspace.journal import Journal
from components.workspace.params import Params, Place
from components.workspace.workspace import Workspace
from flows.outcomes import Outcome
from flows.runs import named, state_of, turn

RETRAIN = "retrain/retrain"
SHOWN = 50
Fewest = Annotated[int, Field(ge=20)]


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
def drift(
    inbox: Place = "",
    min_images: Fewest | None = None,
    max_images: Fewest | None = None,
    workspace: Path = Path(),
) -> Outcome:
    """Compare new images with those that the champion learned from; an alarm starts retrain.

    Args:
        inbox: folder or s3://bucket/prefix with the new images; empty: retrain.inbox of params.yaml
        min_images: fewer new images than that are not judged yet, 20 or more; None: as in params.yaml (50 where it says
            nothing)
        max_images: of more than that so many are drawn, 20 or more; None: as in params.yaml (500 where it says nothing)
        workspace: folder with params.yaml, data/ and the results, on the worker's machine
    """
    opened = Workspace(workspace.absolute())
    given = {"retrain.inbox": inbox or None, "drift.min_images": min_images, "drift.max_images": max_images}
    overrides = [f"{name}={json.dumps(value)}" for name, value in given.items() if value is not None]
    chosen = Params.load(opened.params, overrides)
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
