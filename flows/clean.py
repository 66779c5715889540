"""The flow that lists what nobody needs any more, and removes it if it is told to."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from pydantic import Field

from components.maintenance.cleanup import cleanup
from components.workspace.params import Clean, Params
from components.workspace.text import printable
from components.workspace.workspace import Workspace
from flows.outcomes import Outcome
from flows.runs import named, state_of, turn

Days = Annotated[float, Field(ge=0)]


@flow(flow_run_name=named)
@state_of
def clean(remove: bool = False, keep_days: Days | None = None, workspace: Path = Path()) -> Outcome:
    """List what nobody needs any more, and `remove` it.

    Args:
        remove: delete what is listed; without it, nothing is
        keep_days: what is younger than that stays, 0 or more; None: as in params.yaml (7 where it says nothing)
        workspace: folder with params.yaml, data/ and the results, on the worker's machine
    """
    logger, opened = get_run_logger(), Workspace(workspace.absolute())
    with turn(opened) if remove else nullcontext():
        options = Params.load(opened.params).clean if keep_days is None else Clean(keep_days=keep_days)
        found = cleanup(options, opened, remove)
    for sentence in found.kept:
        logger.warning("%s", printable(sentence))
    rows = [
        {"kind": kind, "items": len(items), "MB": round(sum(item.bytes for item in items) / 1e6, 1)}
        for kind, items in found.kinds()
    ]
    for row in rows:
        logger.info("%s: %s, %s MB", row["kind"], row["items"], row["MB"])
    create_table_artifact(rows, "clean", "\n\n".join(["What nobody needs any more", *found.kept]))
    message = found.summary(remove, "set remove to remove them")
    what = "nothing to remove" if not found.items else f"{len(found.items):,} {'removed' if remove else 'listed'}"
    return Outcome(what, message)
