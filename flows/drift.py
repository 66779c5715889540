"""The flow that looks at what has arrived, and has the model trained again when it differs."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound

import components.drift
from components.workspace.files import disk_errors
from components.workspace.params import Params
from components.workspace.workspace import Workspace
from flows.runs import named, told, turn

RETRAIN = "retrain/retrain"
SHOWN = 50


@flow(flow_run_name=named)
@told
def drift(params: Params | None = None, workspace: Path = Path()) -> str:
    """Compare new images with those that the champion learned from; an alarm starts retrain."""
    opened = Workspace(workspace.absolute())
    chosen = params or Params.load(opened.params)
    if chosen.retrain.inbox is None:
        return "Nothing can arrive: params.yaml names no retrain.inbox"
    with turn(opened):
        found = components.drift.drift(chosen, opened)
        history = opened.state / "drift.jsonl"
        tick = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **found.model_dump(mode="json")}
        with disk_errors(history), history.open("a") as file:
            file.write(json.dumps(tick) + "\n")
            file.flush()
            os.fsync(file.fileno())
        ticks = [json.loads(line) for line in history.read_text().splitlines() if line.endswith("}")]
        create_table_artifact(ticks[: -SHOWN - 1 : -1], "drift", "the last ticks, the newest first")
    if not found.drifted:
        return found.words
    try:
        run = run_deployment(RETRAIN, timeout=0, as_subflow=False)
    except ObjectNotFound:
        return f"{found.words}; {RETRAIN} is not deployed: `ganflow run` trains again"
    return f"{found.words}; {getattr(run, 'name', RETRAIN)} trains again"
