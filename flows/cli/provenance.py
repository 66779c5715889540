"""The commands that follow what came from what: `ganflow trace`, `impact` and `rebuild-registry`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from components.provenance import rebuild
from components.provenance.impact import impact as impact_of
from components.provenance.queries import Head
from components.provenance.trace import trace as trace_of
from components.reports import trace_page
from components.workspace.files import disk_errors
from flows.cli.data import shown
from flows.cli.shared import ExistingOption, JsonOption, existing_workspace, typed


def trace(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="a finished picture, wherever it was copied")],
    folder: ExistingOption = Path(),
    as_json: JsonOption = False,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="write a page with pictures too")] = None,
) -> None:
    """Trace a picture back to its model and data.

    Names gallery, scores, model, version, runs, parameters, code, data and the nearest training images.
    """
    workspace = existing_workspace(folder)
    image = typed(image) if str(image).startswith("~") else image
    found = trace_of(image, workspace)
    if html is not None:
        html = typed(html)
        with disk_errors(html):
            html.write_text(trace_page.page(found, image, workspace), encoding="utf-8")
    if as_json:
        print(json.dumps(found.model_dump(mode="json"), indent=2))
        return
    for part, lines in trace_page.chain_of(found):
        for number, line in enumerate(lines):
            print(_plain(f"{'' if number else part:<12} {line}"))
    if html is not None:
        print(f"{'page':<12} {shown(html)}")


def impact(
    asked: Annotated[
        str, typer.Argument(metavar="DATA_HASH|FILE", help="at least 6 digits of a hash of the data, or a raw file")
    ],
    folder: ExistingOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """List what was made from a data version or a raw file.

    Models, versions and galleries; a raw file is known by its bytes.
    """
    found = impact_of(asked, existing_workspace(folder))
    if as_json:
        print(json.dumps(found.model_dump(mode="json"), indent=2))
        return
    for data in found.data:
        _line("data", data, f"raw files {data.source[:16]}" + (f", DVC {data.dvc}" if data.dvc else ""))
    for model in found.models:
        _line("model", model, f"{model.network}, {model.images:,} images seen")
    for version in found.versions:
        aliases = ", ".join(version.aliases) or "no alias"
        print(_plain(f"{'version':<12} {version.name} {version.version} ({aliases}), model {version.model}"))
    for gallery in found.galleries:
        _line("gallery", gallery, f"{gallery.pictures:,} pictures, model {gallery.model}")


def rebuild_registry(folder: ExistingOption = Path()) -> None:
    """Restore what MLflow's database lost, from the ledger.

    Runs, model versions, tags and aliases; what is there stays.
    """
    workspace = existing_workspace(folder)
    with workspace.exclusive():
        for part, missing in rebuild.rebuild_registry(workspace):
            print(_plain(f"{'not restored' if missing else 'there':<12} {part}" + (f": {missing}" if missing else "")))


def _line(part: str, head: Head, text: str) -> None:
    print(_plain(f"{part:<12} {head.key}, {text}, written down {head.time[:16].replace('T', ' ')} UTC"))


def _plain(line: str) -> str:
    """Return what a ledger says, which may be anyone's, without what a terminal takes for a command."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)
