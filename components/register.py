"""Stage: Model + Evaluation + Gallery -> Registration."""

from __future__ import annotations

import subprocess

from .services.tracking import connection, registry
from .workspace.artifacts import Evaluation, Gallery, Key, Model, Registration
from .workspace.files import staging
from .workspace.params import Register
from .workspace.workspace import Workspace


def register(
    options: Register, model: Model, evaluation: Evaluation, gallery: Gallery, key: Key, workspace: Workspace
) -> Registration:
    """Make `model` a version of the registered model, once for its key, with its scores and pictures in its run.

    Raises:
        UserError: the tracking server cannot be reached.
    """
    for artifact in (model, evaluation, gallery):
        artifact.verified()
    version = registry.register(options.name, model, evaluation, gallery, _commit(workspace), workspace)
    print(f"registered {options.name} version {version}, alias challenger")
    with staging(workspace.registration) as folder:
        Registration.describe(
            folder, key, name=options.name, version=version, model_key=model.key.id, tracking=connection.address()
        )
    return Registration.load(workspace.registration)


def _commit(workspace: Workspace) -> str | None:
    """Return the git commit of the workspace, where it has one; `unknown` where git does not say."""
    if not any((folder / ".git").exists() for folder in (workspace.root, *workspace.root.parents)):
        return None
    command = ["git", "-C", str(workspace.root), "rev-parse", "--verify", "--quiet", "HEAD"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, errors="replace")
    except OSError as error:
        reason = f"git: {error.strerror}"
    else:
        # Without a commit it ends with 1, quietly.
        if asked.returncode in (0, 1):
            return asked.stdout.strip() or None
        reason = " ".join(asked.stderr.split())[:300]
    print(f"the commit is written down as unknown, because git does not say it ({reason})")
    return "unknown"
