"""The command `ganflow clean`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from components.workspace.params import Params
from components.workspace.workspace import Workspace
from flows.cli.data import shown
from flows.cli.shared import SetOption

# Of thousands of a kind the largest tell enough.
SHOWN = 10


def clean(
    # Nothing is made in the folder.
    folder: Annotated[
        Path, typer.Option("--workspace", metavar="DIR", help="the folder to look through; default: this one")
    ] = Path(),
    overrides: SetOption = [],  # noqa: B006 - typer copies it
    remove: Annotated[bool, typer.Option("--remove", help="remove what is listed")] = False,
) -> None:
    """What no version, ledger, commit, parameters or running job needs any more: lists it, removes it if told to."""
    workspace = Workspace(folder.absolute())
    options = Params.load(workspace.params, overrides).clean
    from components.maintenance.cleanup import cleanup

    found = cleanup(options, workspace, remove)
    for kind, items in found.kinds():
        print(f"{kind:<40} {sum(item.bytes for item in items) / 1e6:9,.1f} MB")
        for item in items[:SHOWN]:
            print(f"  {shown(item.path)}, {item.bytes / 1e6:,.1f} MB, {item.age:.0f} days: {item.words}")
        if len(items) > SHOWN:
            print(f"  and {len(items) - SHOWN:,} more")
    for sentence in found.kept:
        print(sentence)
    sentence = found.told(remove, "--remove removes them")
    print(sentence[0].upper() + sentence[1:])
