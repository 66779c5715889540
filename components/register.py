"""Stage: Model + Evaluation + Gallery -> Registration."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .services.tracking import connection, registry
from .workspace.artifacts import Evaluation, Gallery, Model, Registration
from .workspace.files import staging
from .workspace.graph import key_of
from .workspace.params import Register
from .workspace.workspace import Workspace


def register(options: Register, model: Model, evaluation: Evaluation, gallery: Gallery, out: Path) -> Registration:
    """Make `model` a version of the registered model, once for its key, with its scores and pictures in its run.

    Raises:
        UserError: the tracking server cannot be reached.
    """
    workspace = Workspace.around(out)
    key = key_of("register", options, model.content, evaluation.content, gallery.content)
    found = Registration.find(out, key)
    here = found is not None and found.tracking == connection.address()
    if found and here and registry.is_registered(found.name, found.version, found.model_key, workspace):
        return found
    for artifact in (model, evaluation, gallery):
        artifact.verified()
    version = registry.register(options.name, model, evaluation, gallery, _commit(workspace), workspace)
    print(f"registered {options.name} version {version}, alias challenger")
    with staging(out) as folder:
        Registration.describe(
            folder, key, name=options.name, version=version, model_key=model.key.id, tracking=connection.address()
        )
    return Registration.load(out)


def _commit(workspace: Workspace) -> str | None:
    """The git commit of the workspace, where it has one."""
    command = ["git", "-C", str(workspace.root), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
