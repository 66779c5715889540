"""DVC: versions of the data and the lock of the stages. The only file that imports it."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from ..artifacts import Workspace
from ..gan.options import UserError


def add(home: Workspace, many: int) -> str:
    """Track `data/` by `dvc add`, where the workspace lies in a git repository; one sentence on what was done.

    `many`: more files than that are left alone, because DVC is very slow on them.
    """
    git = next((folder for folder in (home.root, *home.root.parents) if (folder / ".git").exists()), None)
    if git is None:
        return "data/ is not tracked, because the workspace is not in a git repository"
    files = sum(len(names) for _, _, names in os.walk(home.data))
    if files > many:
        return f"data/ is not tracked: DVC is slow on {files:,} files; pack them as tar shards, then `dvc add data`"
    os.environ.setdefault("DVC_NO_ANALYTICS", "1")
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.ERROR)
    try:
        inside = any((folder / ".dvc").is_dir() for folder in (home.root, *home.root.parents))
        repo = Repo(str(home.root)) if inside else Repo.init(str(home.root), subdir=home.root != git)
        with repo:
            repo.add(str(home.data))
    except (DvcException, OSError) as error:
        return f"data/ is not tracked: {' '.join(str(error).split())}; run `dvc add data`"
    return "data/ is tracked by data.dvc: commit it with params.yaml"


def record(home: Workspace, stages: Sequence[str]) -> str:
    """Write what lies in the workspace to `dvc.lock`, as if `dvc repro` had made it; one sentence on what was done.

    Called after a complete flow on the workspace's own parameters, never by a stage: `dvc repro` holds DVC's lock.

    Raises:
        UserError: DVC is busy or refuses.
    """
    if not (home.root / "dvc.yaml").exists() or not (home.root / ".dvc").is_dir():
        return "not recorded: the workspace is not under DVC"
    os.environ.setdefault("DVC_NO_ANALYTICS", "1")
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.ERROR)
    try:
        with Repo(str(home.root)) as repo:
            if (home.root / "data.dvc").exists() and repo.status(["data.dvc"]):
                return "not recorded: data/ differs from data.dvc: run `dvc add data`, then `dvc repro`"
            for stage in stages:
                repo.commit(stage, force=True)
    except DvcException as error:
        raise UserError(
            f"the results are complete, but DVC could not record them ({error}): run `dvc repro`, which will"
        ) from None
    return "recorded in dvc.lock"
