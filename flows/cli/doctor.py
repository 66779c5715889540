"""The command `ganflow doctor`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from components.maintenance.doctor import Diagnosis, examine
from components.workspace.workspace import Workspace


def doctor(
    # Nothing is made in the folder: it is only looked at.
    folder: Annotated[
        Path, typer.Option("--workspace", metavar="DIR", help="the folder to look at; default: this one")
    ] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Look for what is outdated, open, full, unreachable or left over on this machine, and say what mends it."""
    found = examine(Workspace(folder.absolute()))
    wrong = False
    if as_json:
        listed = [diagnosis._asdict() for diagnosis in found]
        wrong = any(each["ok"] is False for each in listed)
        print(json.dumps(listed, indent=2))
    else:
        for diagnosis in found:
            wrong |= diagnosis.ok is False
            _show(diagnosis)
    if wrong:
        raise typer.Exit(1)


def _show(diagnosis: Diagnosis) -> None:
    mark = {True: "ok", False: "warning", None: "-"}[diagnosis.ok]
    print(f"{mark:<8} {diagnosis.check:<14} {diagnosis.words}", flush=True)
    if diagnosis.mends:
        print(f"{'':<23} {diagnosis.mends}")
