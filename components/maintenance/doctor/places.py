"""Odd places: what the shell, the home, the workspace's path and file system bring along that would trip a tool."""

from __future__ import annotations

import fcntl
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import packages_distributions
from pathlib import Path

from ...gan.errors import UserError
from ...services import surroundings
from ...services.versioning import git_refusal
from ...workspace.workspace import Workspace
from .diagnosis import Diagnosis, some

_OURS = ("components", "flows", "ganflow")


def shell(environment: Mapping[str, str], mended: Sequence[str]) -> Iterator[Diagnosis]:
    """Settings that ganflow mends for itself and its children, and those that it cannot."""
    check = "environment"
    for words in surroundings.unfit(environment):
        yield Diagnosis(check, False, *words.split(": ", 1))
    if restarted := environment.get("GANFLOW_RESTARTED"):
        mended = [f"Python was started again with other values of {restarted}", *mended]
    if mended:
        yield Diagnosis(check, True, f"mended for ganflow and what it starts: {'; '.join(mended)}")
    else:
        yield Diagnosis(check, True, "nothing in it is in ganflow's way")


def settings(folder: Path) -> Diagnosis:
    """Files from which Prefect would take its settings in this folder, and ganflow does not."""
    found = []
    with suppress(OSError, UnicodeDecodeError):
        if any(line.strip().startswith("PREFECT_") for line in (folder / ".env").read_text().splitlines()):
            found.append(".env")
    if (folder / "prefect.toml").exists():
        found.append("prefect.toml")
    with suppress(OSError, ValueError):
        if "prefect" in tomllib.loads((folder / "pyproject.toml").read_text()).get("tool", {}):
            found.append("pyproject.toml")
    if not found:
        return Diagnosis("settings", True, f"no file in {folder} sets Prefect")
    words = f"{' and '.join(found)} in {folder} sets Prefect: not used by ganflow, which reads variables alone"
    return Diagnosis("settings", None, words)


def code() -> Diagnosis:
    """Whether another package of this environment has put files among ours."""
    owners = packages_distributions()
    others = sorted({owner for name in _OURS for owner in owners.get(name, ())} - {"ganflow"})
    if not others:
        return Diagnosis("code", True, "no other package here is called components or flows")
    words = f"{some(others)} also installed a package called components or flows"
    return Diagnosis("code", False, words, "install ganflow in an environment of its own")


def path(workspace: Workspace) -> Diagnosis:
    """Whether all tools can name what lies in the workspace."""
    try:
        surroundings.check_path(workspace.root)
    except UserError as error:
        return Diagnosis("path", False, *str(error).split(": ", 1))
    return Diagnosis("path", True, "every tool can name what lies in the workspace")


def file_system(workspace: Workspace) -> Diagnosis:
    """Whether the workspace can be written, and its disk keeps locks."""
    check = "file system"
    place = next((folder for folder in (workspace.state, workspace.root) if folder.is_dir()), None)
    if place is None:
        return Diagnosis(check, None, f"there is no {workspace.root} yet")
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                words = f"{place} keeps no locks, so a run that was killed may seem to hold the workspace"
                return Diagnosis(check, False, words, "put it on a local disk, or mount the network's with locks")
    except OSError as error:
        remedy = "make it writable for this user, or name another workspace"
        return Diagnosis(check, False, f"{place} cannot be written: {str(error.strerror).lower()}", remedy)
    return Diagnosis(check, True, f"{place} can be written and keeps locks")


def repository(workspace: Workspace) -> Diagnosis:
    """Whether git answers in the workspace's repository, and nothing holds its index."""
    root = next((folder for folder in (workspace.root, *workspace.root.parents) if (folder / ".git").exists()), None)
    if root is None:
        return Diagnosis("git", None, "the workspace is in no repository")
    if refusal := git_refusal(workspace.root):
        remedy = (
            f"git config --global --add safe.directory '{root}', or make this user its owner"
            if "ownership" in refusal
            else "install git, or mend the repository"
        )
        return Diagnosis("git", False, f"commits are written down as unknown: {refusal}", remedy)
    lock = root / ".git" / "index.lock"
    if lock.exists():
        return Diagnosis("git", False, f"{lock} is there, so DVC and git add nothing", "if no git runs, delete it")
    return Diagnosis("git", True, f"git answers in {root}")
