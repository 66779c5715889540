"""DVC: versions of the data and the lock of the stages. The only file that imports it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import yaml

from ..artifacts import Workspace
from ..gan.options import UserError
from .address import masked


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
        return f"data/ is not tracked: {masked(' '.join(str(error).split()))}; run `dvc add data`"
    return "data/ is tracked by data.dvc: commit it with params.yaml"


def pull(home: Workspace) -> None:
    """Get the data that `data.dvc` names from its remote, where they are not there already.

    Raises:
        UserError: the remote has them not or cannot be reached, or `data/` has changes that would be lost.
    """
    if not (home.root / "data.dvc").exists() or not any((f / ".dvc").is_dir() for f in (home.root, *home.root.parents)):
        return
    os.environ.setdefault("DVC_NO_ANALYTICS", "1")
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.CRITICAL)
    try:
        with Repo(str(home.root)) as repo:
            repo.pull(["data.dvc"])
    except (DvcException, OSError) as error:
        reason = masked(" ".join(str(error).split()))
        raise UserError(
            f"`dvc pull data.dvc` did not work: {reason}; mend that, or the remote in .dvc/config"
        ) from None


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
        reason = masked(str(error))
        raise UserError(
            f"the results are complete, but DVC could not record them ({reason}): run `dvc repro`, which will"
        ) from None
    return "recorded in dvc.lock"


def data_version(home: Workspace) -> tuple[str | None, str | None]:
    """DVC's hash of the files in `data/` if it is the one in `data.dvc`, and the git commit that has this `data.dvc`.

    Read without DVC, which takes seconds to import and may hold its lock at the moment.
    """
    tracked = home.root / "data.dvc"
    try:
        text = tracked.read_bytes()
        (out,) = yaml.safe_load(text)["outs"]
        version, size, count = str(out["md5"]), out["size"], out["nfiles"]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return None, None
    files = {path.relative_to(home.data).as_posix(): path for path in home.data.rglob("*") if path.is_file()}
    if len(files) != count or sum(path.stat().st_size for path in files.values()) != size:
        return None, None
    entries = []
    for name in sorted(files):
        with files[name].open("rb") as file:
            entries.append({"md5": hashlib.file_digest(file, "md5").hexdigest(), "relpath": name})
    if f"{hashlib.md5(json.dumps(entries).encode()).hexdigest()}.dir" != version:
        return None, None
    held = _git(home.root, "show", "HEAD:./data.dvc")
    commit = _git(home.root, "rev-parse", "HEAD") if held == text.decode().strip() else None
    return version, commit


def code_commit() -> str | None:
    """The git commit of ganflow's code, with `-dirty` where it was changed since; None where git does not track it."""
    project = Path(__file__).parents[2]
    if _git(project, "ls-files", "components/artifacts.py") != "components/artifacts.py":
        return None
    return _git(project, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
