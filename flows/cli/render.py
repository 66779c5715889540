"""The command `ganflow render`."""

from __future__ import annotations

from typing import Annotated

import typer
from pydantic import ValidationError

from components.gan.errors import UserError
from flows.cli.shared import SetOption, WorkspaceOption, ready


def render(
    n: Annotated[int, typer.Option("--n", min=1, max=1_000_000, help="number of images")] = 100,
    label: Annotated[str, typer.Option("--class", help="class of all images; all classes in turn by default")] = "",
    seed: Annotated[
        int, typer.Option(min=0, max=2**53 - 1, help="of the first image; each next one has the next seed")
    ] = 0,
    truncation: Annotated[float, typer.Option(min=0.01, max=1, help="below 1: more typical, less diverse")] = 1.0,
    out: Annotated[
        str,
        typer.Option(
            metavar="FOLDER",
            help="relative to the workspace, or s3://bucket/prefix; default: a folder of its own in renders/",
        ),
    ] = "",
    folder: WorkspaceOption = None,
    overrides: SetOption = [],  # noqa: B006 - typer copies it
) -> None:
    """Make finished images by the champion; the same command again makes what is lacking."""
    workspace, params = ready(folder, overrides)
    from components.render import Batch
    from components.render import render as rendered

    try:
        batch = Batch(images=n, label=label, seed=seed, truncation=truncation, out=out)
    except ValidationError as error:
        raise UserError(f"--out: {error.errors()[0]['ctx']['error']}") from None
    print(rendered(batch, params, workspace))
