"""The commands that look after a machine and a workspace: `ganflow verify`, `clean` and `doctor`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from components.maintenance.doctor import examine
from components.maintenance.doctor.diagnosis import Diagnosis
from components.workspace.params import Params
from components.workspace.workspace import Workspace
from flows.cli.data import shown
from flows.cli.shared import ExistingOption, JsonOption, SetOption, check_servers, existing_workspace, typed

# Of thousands of a kind the largest tell enough.
SHOWN = 10


def doctor(
    folder: ExistingOption = Path(),
    as_json: JsonOption = False,
    online: Annotated[
        bool, typer.Option("--online", help="ask the vulnerability service about every package, by pip-audit")
    ] = False,
) -> None:
    """Inspect this machine and say what needs attention.

    Looks for what is outdated, open, full, unreachable or left over, and changes nothing.
    """
    # Also where a workspace cannot be, which is among what it tells.
    found = examine(Workspace(typed(folder)), online=online)
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
    if diagnosis.remedy:
        print(f"{'':<23} {diagnosis.remedy}")


def clean(
    folder: ExistingOption = Path(),
    overrides: SetOption = [],  # noqa: B006 - typer copies it
    remove: Annotated[bool, typer.Option("--remove", help="remove what is listed")] = False,
) -> None:
    """List unreferenced files; delete them only with --remove.

    Kept is what a version, the ledger, a commit, the parameters or a running job can reach.
    """
    workspace = existing_workspace(folder)
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
    sentence = found.summary(remove, "--remove removes them")
    print(sentence[0].upper() + sentence[1:])


def verify(folder: ExistingOption = Path()) -> None:
    """Hash everything again and name what is damaged.

    Covers data, artifacts, checkpoints, ledger and registered models, and says what mends each.
    """
    workspace = existing_workspace(folder)
    check_servers()
    from components.maintenance.verify import unchecked
    from components.maintenance.verify import verify as findings

    damaged = 0
    for finding in findings(workspace):
        note = f" ({finding.note})" if finding.note else ""
        mark = "damaged" if finding.wrong else "ok" if finding.checked else "-"
        print(f"{mark:<8} {'' if finding.checked else 'not checked: '}{finding.part}{note}", flush=True)
        if finding.wrong:
            damaged += 1
            print(f"         {finding.wrong};\n         {finding.remedy}")
    if left_out := unchecked(workspace):
        print(f"{'-':<8} not checked: {left_out}")
    if damaged:
        raise typer.Exit(1)
