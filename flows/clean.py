"""The flow that lists what nobody needs any more, and removes it if it is told to."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact

from components.maintenance.cleanup import cleanup
from components.workspace.params import Clean, Params
from components.workspace.workspace import Workspace
from flows.runs import named, state_of, turn


@flow(flow_run_name=named)
@state_of
def clean(remove: bool = False, params: Clean | None = None, workspace: Path = Path()) -> str:
    """List what nobody needs any more, and `remove` it; without `params` by the workspace's parameters."""
    opened = Workspace(workspace.absolute())
    with turn(opened) if remove else nullcontext():
        found = cleanup(params or Params.load(opened.params).clean, opened, remove)
    for sentence in found.kept:
        get_run_logger().warning(sentence)
    rows = [
        {"kind": kind, "items": len(items), "MB": round(sum(item.bytes for item in items) / 1e6, 1)}
        for kind, items in found.kinds()
    ]
    create_table_artifact(rows, "clean", "\n\n".join(["What nobody needs any more", *found.kept]))
    return found.summary(remove, "set remove to remove them")
