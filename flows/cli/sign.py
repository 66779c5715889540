"""The command `ganflow sign`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from components.workspace.artifacts import Gallery
from flows.cli.shared import WorkspaceOption, workspace_at


def sign(
    certificate: Annotated[Path, typer.Option(metavar="CHAIN.pem", help="certificates, the signer's own first")],
    key: Annotated[Path, typer.Option(metavar="KEY.pem", help="the private key of the first certificate")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="for the signed copies; the gallery stays as it is")],
    timestamp: Annotated[
        str | None,
        typer.Option(metavar="URL", help="time-stamping server (RFC 3161); without one nothing is sent to anyone"),
    ] = None,
    folder: WorkspaceOption = None,
) -> None:
    """Write copies of the finished pictures that carry signed C2PA manifests (Content Credentials)."""
    gallery = Gallery.load(workspace_at(folder).gallery)
    from components.provenance.signing import sign as signed

    count = signed(gallery, certificate, key, out, timestamp)
    print(f"{count} signed pictures in {out}")
