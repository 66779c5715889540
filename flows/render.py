"""The flow for a batch of finished pictures by the champion."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from components.generate import GenerateRequest
from components.workspace.params import Params
from components.workspace.workspace import Workspace
from flows import stages
from flows.outcomes import Outcome
from flows.runs import named, state_of, turn


@flow(flow_run_name=named)
@state_of
def render(batch: GenerateRequest, workspace: Path = Path()) -> Outcome:
    """Make the pictures that a batch lacks; those that an earlier run made stay.

    Args:
        batch: which pictures, by which model, and where they go
        workspace: folder with params.yaml, data/ and the results, on the worker's machine
    """
    opened = Workspace(workspace.absolute())
    with turn(opened):
        made = stages.render(batch, Params.load(opened.params), opened)
        of = made.batch
        return Outcome(
            f"{of.images:,} pictures by {of.name} version {of.version}" if of.version else str(of), str(made)
        )
