"""The flow that applies a model of an image task to photos: those that are named, or what is new in `apply.inbox`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from prefect import flow
from pydantic import Field

from components.photos.fitting import Size
from components.photos.maker import ApplyRequest
from components.pictures.photo_file import Format
from components.services.tracking.named_model import ModelName
from components.workspace.params import Params
from components.workspace.workspace import Workspace
from flows import stages
from flows.outcomes import Outcome
from flows.runs import named, state_of, turn


@flow(flow_run_name=named)
@state_of
def apply(
    photos: tuple[str, ...] = (),
    out: str = "",
    mask: str = "",
    model: ModelName = "champion",
    strength: Annotated[float, Field(ge=0, le=1)] = 1.0,
    grow: Annotated[int, Field(ge=0, le=100)] = 4,
    frames: Literal["only", "first"] = "only",
    format: Format = "same",
    compare: bool = False,
    strip_metadata: bool = False,
    to: str = "",
    size: Size = "model",
    seed: Annotated[int, Field(ge=0)] = 0,
    workspace: Path = Path(),
) -> Outcome:
    """Enlarge, repair, colour, restore, translate or restyle photos; results that an earlier run made stay.

    Args:
        photos: photos, folders and addresses such as s3://bucket/prefix, relative to the workspace; none: what is new
            in apply.inbox goes to apply.out
        out: folder or address for the results of the photos that are named
        mask: a mask, or a folder of masks by the names of the photos; white is repainted
        model: a version's number, champion, challenger or workspace
        strength: 0 is what is made without a network, 1 what the network makes
        grow: pixels around a mask that are repainted too
        frames: what is made of an animation: nothing, or its first frame
        format: of the results: that of each photo, png, jpeg or webp
        compare: write before and after side by side, too
        strip_metadata: keep nothing of a photo but its pixels and its profile
        to: the class that pictures are to become, of a model that knows some
        size: of what is translated or restyled: model, as the training pictures; input, enlarged to the photo's scale;
            windows, made without any scaling
        seed: of the numbers of chance, of a model that is given some
        workspace: folder with params.yaml, data/ and the results, on the worker's machine
    """
    opened = Workspace(workspace.absolute())
    request = ApplyRequest(
        model=model,
        strength=strength,
        grow=grow,
        frames=frames,
        format=format,
        compare=compare,
        strip_metadata=strip_metadata,
        to=to,
        size=size,
        seed=seed,
    )
    with turn(opened):
        found = stages.apply(photos, out, request, mask, Params.load(opened.params), opened)
    parts = [f"{len(found.made):,} photos made" if found.made else "nothing new"]
    if found.refused:
        parts.append(f"{len(found.refused):,} refused")
    return Outcome(", ".join(parts), str(found), ("refused",) if found.refused else ())
