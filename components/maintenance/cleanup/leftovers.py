"""What processes that were killed have begun, and what is removed."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from ...workspace.files import disk_errors
from ...workspace.workspace import Workspace
from .findings import Item
from .survey import Survey, is_inside, item_of

_TRASH = ".trash-"


def leftovers(survey: Survey) -> None:
    """Look at what processes that were killed have begun; nothing needs it."""
    state, artifacts = survey.workspace.state, survey.workspace.mlruns / "artifacts"
    patterns = (
        "sweep-*",
        "tmp*",
        "drift.tmp",
        "inbox.tmp",
        "drift/.*-*",
        "data/*.tmp",
        "sweeps/*/*.tmp",
        "*.tmp",
        "gate/*.tmp.npz",
        *(f"{folder}{_TRASH}*" for folder in ("", "training/", "training/*/", "training/ray/", "preprocess/")),
    )
    left = [*(path for pattern in patterns for path in state.glob(pattern))]
    left += [*artifacts.glob(f"{_TRASH}*"), *artifacts.glob(f"models/{_TRASH}*")]
    for path in left:
        if is_inside(path.parent, survey.workspace):
            survey.add(f"leftover {path}", path, "leftovers", "begun by a process that was killed")
    for folder in survey.workspace.half_built():
        survey.add(f"leftover {folder}", folder, "leftovers", "begun by a process that was killed")


def staged(workspace: Workspace) -> list[Item]:
    """List what `files.staging` left."""
    return [item_of(path, "leftovers", "begun by a process that was killed") for path in workspace.half_built()]


def remove(path: Path) -> None:
    """Remove a file or folder; a folder is renamed first, so that what is half removed does not look whole."""
    with disk_errors(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path.replace(tempfile.mkdtemp(prefix=_TRASH, dir=path.parent)))
        else:
            path.unlink(missing_ok=True)
