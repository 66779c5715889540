"""The flow for a batch of finished pictures by the champion."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from components.generate import GenerateRequest
from components.workspace.params import Params
from components.workspace.workspace import Workspace
from flows import stages
from flows.runs import named, state_of, turn


@flow(flow_run_name=named)
@state_of
def render(batch: GenerateRequest, workspace: Path = Path()) -> str:
    """Make the pictures that a batch lacks; those that an earlier run made stay."""
    opened = Workspace(workspace.absolute())
    with turn(opened):
        return str(stages.render(batch, Params.load(opened.params), opened))
