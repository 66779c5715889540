"""Whether all that lies in a workspace is still what was written, byte by byte."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..gan.errors import DamagedError
from ..provenance.ledger import damage
from ..services.tracking import registry
from ..training.checkpoints import TrainingFolder
from ..workspace.artifacts import Artifact, OtherVersionError
from ..workspace.data_hashes import changed_data
from ..workspace.graph import STAGES
from ..workspace.workspace import Workspace


class Finding(NamedTuple):
    """One part of a workspace; where something is `wrong` with it, the `remedy`."""

    part: str
    wrong: str | None = None
    remedy: str = ""


def verify(workspace: Workspace) -> Iterator[Finding]:
    """Hash data, artifacts, checkpoints, the ledger and registered models again."""
    changed = changed_data(workspace.data, workspace.state)
    names = ", ".join(changed[:3]) + (", ..." if len(changed) > 3 else "")
    wrong = f"{len(changed)} files have other bytes at the same size and time: {names}" if changed else None
    yield Finding("data", wrong, "bring them back by `dvc checkout --force data.dvc` or from where they came")
    for stage in STAGES:
        folder = stage.folder(workspace)
        if (folder / stage.artifact.manifest).exists():
            again = f"`ganflow {stage.name}` makes it again, once {folder.relative_to(workspace.root)} is deleted"
            yield Finding(str(folder.relative_to(workspace.root)), _damage(stage.artifact, folder), again)
    for training in sorted((workspace.state / "training").glob("[!.]*/checkpoints")):
        name = str(training.relative_to(workspace.root))
        damaged = list(TrainingFolder(training.parent).damaged())
        for folder, reason in damaged:
            part = str(folder.relative_to(workspace.root))
            yield Finding(part, reason, "nothing has to be done: the training goes on from the one before")
        if not damaged:
            yield Finding(name)
    if workspace.ledger.exists():
        again = "bring it back from a copy; without one `ganflow run` writes down again what artifacts still tell"
        yield Finding(str(workspace.ledger.relative_to(workspace.root)), "; ".join(damage(workspace)) or None, again)
    for version, wrong in registry.damaged_versions(workspace):
        again = "`ganflow register` makes a new one, once this version is deleted in MLflow"
        yield Finding(version, wrong, again)


def _damage(artifact: type[Artifact], folder: Path) -> str | None:
    try:
        artifact.load(folder).verified()
    except (DamagedError, OtherVersionError) as error:
        return str(error).partition(":")[0]
    return None
