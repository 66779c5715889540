"""Where a run comes from, in the tags that MLflow's pages show: command, commit and user."""

from __future__ import annotations

import getpass
import os
import re
import shlex
import sys
from pathlib import Path

from ..address import masked
from ..versioning import code_commit

# Of a value of `--set` or a path that nobody can read.
_LONGEST = 500


def source_tags() -> dict[str, str]:
    """Return the tags of a run that this process begins."""
    flow = os.environ.get("PREFECT__FLOW_ENTRYPOINT")
    found = {
        "mlflow.source.name": f"{flow} (Prefect)" if flow else _command(),
        "mlflow.source.type": "JOB" if flow else "LOCAL",
    }
    commit = code_commit()
    if commit and commit != "unknown":
        found["mlflow.source.git.commit"] = commit.removesuffix("-dirty")
        found["mlflow.source.git.dirty"] = str(commit.endswith("-dirty")).lower()
    if user := _user():
        found["mlflow.user"] = user
    return found


def _command() -> str:
    program, *arguments = sys.argv or ["python"]
    stage = " (dvc repro)" if "DVC_STAGE" in os.environ else ""
    # Its pages show what stands behind the last slash, and would cut the command within a path.
    short = [re.sub(r"[^=,]*/", "", argument) for argument in map(masked, arguments)]
    command = " ".join([Path(program).name, *map(shlex.quote, short)])
    return (command if len(command) <= _LONGEST else f"{command[:_LONGEST]}...") + stage


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run as a number that has no name.
        return None
