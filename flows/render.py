"""The flow for a batch of finished pictures by the champion."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from prefect import flow
from pydantic import Field

from components.generate import GenerateRequest
from components.services.picture_folder import Steps
from components.services.tracking.named_model import ModelName
from components.workspace.params import Params, Place
from components.workspace.workspace import Workspace
from flows import stages
from flows.outcomes import Outcome
from flows.runs import named, state_of, turn

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Seed = Annotated[int, Field(ge=0, lt=2**53)]
Truncation = Annotated[float, Field(gt=0, le=1)] | Literal["chosen"]


@flow(flow_run_name=named)
@state_of
def render(
    images: Count = 100,
    label: str = "",
    model: ModelName = "champion",
    seed: Seed = 0,
    truncation: Truncation = 1.0,
    out: Place = "",
    steps: Steps | None = None,
    workspace: Path = Path(),
) -> Outcome:
    """Make the pictures that a batch lacks; those that an earlier run made stay.

    Args:
        images: how many, 1 to 1,000,000
        label: class of all of them; empty: all classes in turn
        model: a version's number, champion, challenger or workspace
        seed: of the first picture; each next one has the next seed
        truncation: below 1: more typical, less diverse; chosen: the best of the model's evaluation
        out: folder, relative to the workspace, or s3://bucket/prefix; empty: a folder of its own in renders/
        steps: finishing steps, in this order; None: postprocess.steps of params.yaml, without those that choose
        workspace: folder with params.yaml, data/ and the results, on the worker's machine
    """
    batch = GenerateRequest(
        images=images, label=label, model=model, seed=seed, truncation=truncation, out=out, steps=steps
    )
    opened = Workspace(workspace.absolute())
    with turn(opened):
        made = stages.render(batch, Params.load(opened.params), opened)
        of = made.batch
        return Outcome(
            f"{of.images:,} pictures by {of.name} version {of.version}" if of.version else str(of), str(made)
        )
