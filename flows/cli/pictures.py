"""The commands that make pictures: `ganflow generate`, its aliases `render` and `sample`, and `sign`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from components.gan.errors import UserError
from components.workspace.artifacts import Gallery
from components.workspace.params import Params
from components.workspace.workspace import Workspace
from flows.cli.data import shown
from flows.cli.shared import (
    ExistingOption,
    ModelOption,
    SetOption,
    WorkspaceOption,
    away,
    check_servers,
    existing_workspace,
    ready,
    typed,
    workspace_at,
)

CountOption = Annotated[int, typer.Option("--n", min=1, max=1_000_000, help="number of images")]
ClassOption = Annotated[str, typer.Option("--class", help="class of all images; all classes in turn by default")]
SeedOption = Annotated[
    int, typer.Option(min=0, max=2**53 - 1, help="of the first image; each next one has the next seed")
]
TruncationOption = Annotated[
    str,
    typer.Option(
        metavar="NUMBER|chosen",
        help="below 1: more typical, less diverse; chosen: what `ganflow evaluate --full` found best for the model",
    ),
]
OutOption = Annotated[
    str,
    typer.Option(
        metavar="FOLDER",
        help="for the pictures, or s3://bucket/prefix; default: a folder of its own in the workspace's renders/",
    ),
]
RawOption = Annotated[bool, typer.Option("--raw", help="as the model makes them, without finishing steps")]


def generate(
    n: CountOption = 100,
    label: ClassOption = "",
    seed: SeedOption = 0,
    truncation: TruncationOption = "1",
    out: OutOption = "",
    model: ModelOption = "champion",
    raw: RawOption = False,
    folder: WorkspaceOption = None,
    overrides: SetOption = [],  # noqa: B006 - typer copies it
) -> None:
    """Generate finished pictures into a folder or bucket.

    By the champion unless --model names another; the same command again makes what is missing.
    """
    workspace, params = ready(folder, overrides)
    _generate(workspace, params, raw, images=n, label=label, seed=seed, truncation=truncation, out=out, model=model)


def render(
    n: CountOption = 100,
    label: ClassOption = "",
    seed: SeedOption = 0,
    truncation: TruncationOption = "1",
    out: OutOption = "",
    model: ModelOption = "champion",
    folder: WorkspaceOption = None,
    overrides: SetOption = [],  # noqa: B006 - typer copies it
) -> None:
    """Generate finished pictures: the same as `generate`."""
    generate(n, label, seed, truncation, out, model, False, folder, overrides)


def sample(
    out: Annotated[str, typer.Option(metavar="FOLDER", help="for the images, or s3://bucket/prefix")],
    n: CountOption = 10,
    label: ClassOption = "",
    seed: SeedOption = 0,
    truncation: TruncationOption = "1",
    model: ModelOption = "workspace",
    folder: WorkspaceOption = None,
    overrides: SetOption = [],  # noqa: B006 - typer copies it
) -> None:
    """Generate raw images with the workspace's model.

    The same as `ganflow generate --raw --model workspace`.
    """
    workspace = workspace_at(folder)
    params = Params.load(workspace.params, overrides)
    if model != "workspace":
        check_servers()
    # The workspace is only read: images can be made while it trains.
    _generate(workspace, params, True, images=n, label=label, seed=seed, truncation=truncation, out=out, model=model)


def sign(
    certificate: Annotated[Path, typer.Option(metavar="CHAIN.pem", help="certificates, the signer's own first")],
    key: Annotated[Path, typer.Option(metavar="KEY.pem", help="the private key of the first certificate")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="for the signed copies; the gallery stays as it is")],
    timestamp: Annotated[
        str | None,
        typer.Option(metavar="URL", help="time-stamping server (RFC 3161); without one nothing is sent to anyone"),
    ] = None,
    folder: ExistingOption = Path(),
) -> None:
    """Write signed copies of the gallery (C2PA).

    The manifests are Content Credentials, signed with your own key.
    """
    gallery = Gallery.load(existing_workspace(folder).gallery)
    from components.provenance.signing import sign as signed

    place = typed(out)
    count = signed(gallery, certificate, key, place, timestamp)
    print(f"{count} signed pictures in {shown(place)}")


def _generate(workspace: Workspace, params: Params, raw: bool, out: str, **asked: object) -> None:
    from components.generate import GenerateRequest
    from components.generate import generate as generated

    asked["truncation"] = _truncation(str(asked["truncation"]))
    # Relative to where the command is given, as tools have it; a flow takes it as of the workspace.
    place = out if not out or "://" in out else str(typed(Path(out)) if out.startswith("~") else Path(out).absolute())
    try:
        request = GenerateRequest.model_validate(asked | {"out": place} | ({"steps": ()} if raw else {}))
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"--{first['loc'][0]}: {first['ctx']['error']}") from None
    with away(workspace):
        print(generated(request, params, workspace))


def _truncation(given: str) -> float | str:
    with suppress(ValueError):
        if 0 < float(given) <= 1:
            return float(given)
    if given != "chosen":
        raise UserError(f"--truncation: {given!r} is neither a number above 0 and at most 1 nor `chosen`")
    return given
