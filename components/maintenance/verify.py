"""Whether all that lies in a workspace is still what was written, byte by byte."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..evaluation import looks
from ..gan.errors import DamagedError, NotThereError
from ..provenance.entries import DatasetEntry
from ..provenance.ledger import Ledger, damage, files_of
from ..services.tracking import champions, connection, registry
from ..training.checkpoints import TrainingFolder
from ..workspace.artifacts import Artifact, Dataset, OtherVersionError
from ..workspace.data_hashes import check_data
from ..workspace.graph import STAGES
from ..workspace.workspace import Workspace


class Finding(NamedTuple):
    """One part of a workspace; where something is `wrong` with it, the `remedy`; in a `note` what could not be told.

    `checked`: whether anything says what it was.
    """

    part: str
    wrong: str | None = None
    remedy: str = ""
    note: str = ""
    checked: bool = True


def verify(workspace: Workspace) -> Iterator[Finding]:
    """Hash data, artifacts, checkpoints, the journals and registered models again."""
    ledger = Ledger(workspace)
    yield _data(workspace, ledger)
    for stage in STAGES:
        folder = stage.folder(workspace)
        name = folder.relative_to(workspace.root)
        if (folder / stage.artifact.manifest).exists():
            again = f"`ganflow {stage.name}` makes it again, once {name} is deleted"
            yield Finding(str(name), _damage(stage.artifact, folder), again)
        elif folder.exists() or ledger.values(f"{stage.artifact.__name__.lower()} key"):
            yield Finding(str(name), "it is missing", f"`ganflow {stage.name}` makes it again")
    for training in sorted((workspace.state / "training").glob("[!.]*/checkpoints")):
        name = training.relative_to(workspace.root)
        damaged = list(TrainingFolder(training.parent).damaged())
        for folder, reason in damaged:
            part = str(folder.relative_to(workspace.root))
            yield Finding(part, reason, "nothing has to be done: the training goes on from the one before")
        if not damaged:
            yield Finding(str(name))
    yield from _journals(workspace, ledger)
    yield from _registry(workspace, ledger)


def unchecked(workspace: Workspace) -> str:
    """Name what lies in the workspace and is not hashed again, because nothing says what it was."""
    parts = {
        "feature nets, the gate's samples and drift references, which are made again where they are missing": [
            workspace.state / name for name in ("features", "gate", "drift")
        ],
        "DVC's cache and remotes": [workspace.root / ".dvc"],
        "pictures in renders/, whose hashes stand in their render.json": [workspace.root / "renders"],
        "curves and pictures of MLflow's runs": [workspace.mlruns / "artifacts"],
    }
    return "; ".join(words for words, folders in parts.items() if any(folder.exists() for folder in folders))


def _data(workspace: Workspace, ledger: Ledger) -> Finding:
    """Compare the raw data with what was read last, and with what the present data set was made of."""
    found = check_data(workspace.data, workspace.state)
    wrong, note = [], ""
    if found.changed:
        wrong.append(f"{_count(found.changed)} other bytes than were read: {_some(found.changed)}")
    if found.gone:
        wrong.append(f"{len(found.gone)} of the files that were read are gone: {_some(found.gone)}")
    try:
        source = Dataset.load(workspace.dataset).source
    except (NotThereError, DamagedError):
        source = found.content
    if source != found.content and not wrong:
        listed = files_of(workspace, source)
        entry = next(ledger.find(DatasetEntry, "source", source), None)
        if entry and entry.facts.files and listed.exists():
            lacking = (Counter(_hashes(listed)) - found.present).total()
            if lacking:
                wrong.append(f"{lacking} of the files that the data set was made of are gone or have other bytes")
        else:
            note = "they are not those of the data set, and no list says which files that had"
    remedy = (
        "bring them back by `dvc checkout --force data.dvc` or from where they came, or let `ganflow run` make a data "
        "set of the present ones"
    )
    return Finding("data", "; ".join(wrong) or None, remedy, note)


def _hashes(listed: Path) -> Iterator[bytes]:
    content = listed.read_bytes()
    return (content[start : start + 32] for start in range(0, len(content), 32))


def _count(files: Sequence[str]) -> str:
    return "1 file has" if len(files) == 1 else f"{len(files)} files have"


def _some(names: Sequence[str]) -> str:
    return ", ".join(ascii(name)[1:-1] for name in names[:3]) + (", ..." if len(names) > 3 else "")


def _journals(workspace: Workspace, ledger: Ledger) -> Iterator[Finding]:
    """Read the ledger and the journals of champions and of the gate's looks again, line by line."""
    again = "bring it back from a copy; without one `ganflow run` writes down again what artifacts still tell"
    part = str(workspace.ledger.relative_to(workspace.root))
    if workspace.ledger.exists():
        yield Finding(part, "; ".join(damage(workspace)) or None, again)
    elif ledger.journal.head():
        yield Finding(part, "it is gone", again)
    journal = champions.journal(workspace)
    if journal.path.exists() or journal.head():
        again = "bring it back from a copy; without one the alias in MLflow says who is champion, and no rollback works"
        early = journal.audit()
        wrong = "; ".join(champions.damage(workspace))
        early.conclude(journal.head())
        note = f"{early.unchained} lines from before it was chained" if early.unchained else ""
        yield Finding(str(journal.path.relative_to(workspace.root)), wrong or None, again, note)
    journal = looks.journal(workspace)
    if journal.path.exists() or journal.head():
        again = (
            "bring it back from a copy; the gate compares nothing before, for it counts its looks at a holdout by it"
        )
        yield Finding(str(journal.path.relative_to(workspace.root)), "; ".join(looks.damage(workspace)) or None, again)


def _registry(workspace: Workspace, ledger: Ledger) -> Iterator[Finding]:
    """Hash the files of registered models again."""
    database = workspace.mlruns / "mlflow.db"
    if connection.address() == "embedded" and not database.exists():
        if ledger.values("registration name"):
            yield Finding(
                str(database.relative_to(workspace.root)), "it is gone", "`ganflow rebuild-registry` restores it"
            )
        return
    unhashed = []
    for version in registry.checked_versions(workspace):
        again = "`ganflow register` makes a new one, once this version is deleted in MLflow"
        if version.hashed:
            yield Finding(version.name, version.wrong, again)
        else:
            unhashed.append(version.name)
    if unhashed:
        few = f"{', '.join(unhashed[:3])}{', ...' if len(unhashed) > 3 else ''}"
        yield Finding(few, checked=False, note=f"{len(unhashed)} registered without a hash of the files")


def _damage(artifact: type[Artifact], folder: Path) -> str | None:
    try:
        artifact.load(folder).verified()
    except (DamagedError, OtherVersionError) as error:
        return str(error).partition(":")[0]
    return None
