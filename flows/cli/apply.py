"""The command that applies a model of an image task to photos."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from pydantic import ValidationError

from components.gan.errors import UserError
from components.workspace.text import printable
from flows.cli.shared import ModelOption, SetOption, WorkspaceOption, away, ready, typed_place

# Of photos that were refused, the names that are printed.
SHOWN = 20


def apply(
    photos: Annotated[
        list[str],
        typer.Argument(
            metavar="[PHOTO_OR_FOLDER...]",
            help="or s3://bucket/prefix; folders keep their structure; none: what is new in apply.inbox",
        ),
    ] = [],  # noqa: B006 - typer copies it
    out: Annotated[
        str, typer.Option(metavar="DIR", help="for the results, or s3://bucket/prefix; default: apply.out")
    ] = "",
    model: ModelOption = "champion",
    to: Annotated[
        str, typer.Option(metavar="CLASS", help="that pictures are to become, of a model that knows some")
    ] = "",
    size: Annotated[
        str,
        typer.Option(
            metavar="model|input|windows",
            help="of what is restyled or translated: as the training pictures; enlarged to the photo's; not scaled",
        ),
    ] = "model",
    seed: Annotated[int, typer.Option(min=0, help="of the numbers of chance, of a model that is given some")] = 0,
    mask: Annotated[
        str,
        typer.Option(metavar="FILE_OR_FOLDER", help="white is repainted; in a folder by name"),
    ] = "",
    grow: Annotated[int, typer.Option(min=0, max=100, help="pixels around a mask that are repainted too")] = 4,
    strength: Annotated[float, typer.Option(min=0, max=1, help="0: what is made without a network")] = 1.0,
    frames: Annotated[str, typer.Option(metavar="only|first", help="first: of an animation the first frame")] = "only",
    form: Annotated[str, typer.Option("--format", metavar="same|png|jpeg|webp", help="of the results")] = "same",
    compare: Annotated[bool, typer.Option("--compare", help="write before and after side by side, too")] = False,
    strip: Annotated[bool, typer.Option("--strip-metadata", help="keep neither EXIF nor texts of the photos")] = False,
    folder: WorkspaceOption = None,
    overrides: SetOption = [],  # noqa: B006 - typer copies it
) -> None:
    """Enlarge, repair, colour, restore, translate or restyle photos.

    By the champion unless --model names another; the same command again makes what is missing. Exit code 1: some photos
    were refused.
    """
    from components.apply import apply as applied
    from components.apply import apply_to_arrived
    from components.photos.maker import ApplyRequest

    try:
        request = ApplyRequest.model_validate(
            {"model": model, "strength": strength, "grow": grow, "frames": frames, "format": form}
            | {"compare": compare, "strip_metadata": strip, "to": to, "size": size, "seed": seed}
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"--{first['loc'][0]} {first['input']}: {first['msg'].lower()}") from None
    # As of here: `ready` may lead elsewhere.
    named, place, masked = (
        [typed_place(photo) for photo in photos],
        typed_place(out),
        typed_place(mask) if mask else None,
    )
    if named and not out:
        raise UserError("name a folder for the results by --out")
    if not named and (out or masked):
        raise UserError("name photos, or folders of them; without any, those in apply.inbox are taken to apply.out")
    workspace, params = ready(folder, overrides)
    with away(workspace):
        if named:
            found = applied(named, place, request, masked, params, workspace)
        else:
            found = apply_to_arrived(request, params, workspace)
    for result in found.made:
        if result.said:
            print(f"{printable(result.name)}: {'; '.join(result.said)}")
    print(found)
    _listed("left, no pictures", found.left)
    _listed("refused", found.refused)
    if found.refused:
        sys.exit(1)


def _listed(head: str, reasons: dict[str, str]) -> None:
    if reasons:
        print(f"{len(reasons):,} {head}:", file=sys.stderr)
    for name, why in list(reasons.items())[:SHOWN]:
        print(f"  {printable(name)}: {why}", file=sys.stderr)
    if len(reasons) > SHOWN:
        print(f"  and {len(reasons) - SHOWN:,} more", file=sys.stderr)
