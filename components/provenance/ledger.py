"""The ledger: what came from what, in lines that are only ever appended, for when everything else is gone.

It is `.ganflow/ledger.jsonl`, a chained journal. Callers of stages write; a stage's result does not depend on it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from filelock import FileLock
from pydantic import TypeAdapter, ValidationError

from ..gan.errors import DamagedError, NotThereError, UnreachableError
from ..services import versioning
from ..services.tracking import connection, registry, runs
from ..training import cost
from ..workspace.artifacts import Artifact, Dataset, Evaluation, Gallery, Model, Registration
from ..workspace.data_hashes import data_content, file_hashes
from ..workspace.files import disk_errors, sha256_of
from ..workspace.graph import STAGES, Stage, code_hash, inputs_hash, stage_named
from ..workspace.journal import ChainedJournal, Link
from ..workspace.verdict import Verdict
from ..workspace.workspace import Workspace
from .entries import (
    AnyEntry,
    DatasetEntry,
    DatasetFacts,
    EvaluationEntry,
    EvaluationFacts,
    GalleryEntry,
    GalleryFacts,
    Kind,
    ModelEntry,
    ModelFacts,
    RegistrationEntry,
    RegistrationFacts,
    VerdictEntry,
    VerdictFacts,
    of_kind,
)

if TYPE_CHECKING:
    from PIL import Image

_ENTRY: TypeAdapter[AnyEntry] = TypeAdapter(AnyEntry)
_KINDS: Mapping[type[Artifact], Kind] = {
    Dataset: "dataset",
    Model: "model",
    Evaluation: "evaluation",
    Gallery: "gallery",
    Registration: "registration",
}


class _Head(TypedDict):
    """What every entry has."""

    key: str
    content: str
    parents: Mapping[Kind, str]
    flow_run: str | None
    time: str


class Ledger:
    """All entries of a workspace, oldest first."""

    def __init__(self, workspace: Workspace) -> None:
        self._journal = ChainedJournal(workspace.ledger)

    def entries(self) -> list[AnyEntry]:
        """Read those that are what was written; others are left out, and `damage` tells of them."""
        return [entry for link in self._journal.links() if (entry := _entry(link))]

    def append(self, entry: AnyEntry) -> bool:
        """Write `entry` down, unless it is there already; whether it was not.

        An entry is the same if kind, key and content are. Of registrations what MLflow said counts too, and only the
        last of the same name: to register an older model again makes it the challenger.

        Raises:
            UserError: there is no space left.
        """
        path = self._journal.path
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):
                if _known(entry, self.entries()):
                    return False
                self._journal.append({"entry": entry.model_dump(mode="json")})
        return True

    def damage(self) -> Iterator[str]:
        """Tell what is wrong with which line; a line that a crash cut off is not."""
        yield from self._journal.damage()
        for number, link in enumerate(self._journal.links(), 1):
            if link.text and _entry(link) is None:
                yield f"line {number} is of another version of ganflow, which cannot be read"


def _entry(link: Link) -> AnyEntry | None:
    try:
        return _ENTRY.validate_python(link.described.get("entry"))
    except ValidationError:
        return None


def _known(entry: AnyEntry, entries: list[AnyEntry]) -> bool:
    if isinstance(entry, RegistrationEntry):
        same_name = [known for known in of_kind(entries, RegistrationEntry) if known.facts.name == entry.facts.name]
        return any(_identity(known) == _identity(entry) and known.facts == entry.facts for known in same_name[-1:])
    return _identity(entry) in map(_identity, entries)


def _identity(entry: AnyEntry) -> tuple[Kind, str, str]:
    return entry.kind, entry.key, entry.content


def damage(workspace: Workspace) -> Iterator[str]:
    """Yield what is wrong with the ledger and the lists of files that it names."""
    ledger = Ledger(workspace)
    yield from ledger.damage()
    lists = {entry.facts.source: entry.facts.files for entry in of_kind(ledger.entries(), DatasetEntry)}
    for source, sha256 in lists.items():
        file = files_of(workspace, source)
        if sha256 and not (file.exists() and sha256_of(file) == sha256):
            yield f"{file.relative_to(workspace.root)} is not what was written"


def record(workspace: Workspace, made: Artifact | Verdict | None = None, flow_run: str | None = None) -> None:
    """Write down all artifacts in `workspace` that belong together and that the ledger lacks, and the gate's verdict.

    `made`: what `flow_run` has just made.

    Raises:
        UserError: there is no space left.
    """
    ledger = Ledger(workspace)
    known = set(map(_identity, ledger.entries()))
    chain = _chain(workspace)
    for stage, artifact in chain.items():
        kind = _KINDS[type(artifact)]
        if (kind, artifact.key.id, artifact.content) not in known or isinstance(artifact, Registration):
            # What MLflow says of a version may change. While it does not answer, what was written down stays the last
            # word.
            with suppress(UnreachableError):
                ours = isinstance(made, Artifact) and made.key == artifact.key
                parents = {_KINDS[type(a)]: a.content for name, a in chain.items() if name in stage_named(stage).inputs}
                ledger.append(_described(artifact, parents, flow_run if ours else None, workspace))
        elif isinstance(artifact, Dataset) and not files_of(workspace, artifact.source).exists():
            _data_facts(artifact, workspace)
    registered = chain.get("register")
    if isinstance(registered, Registration):
        verdict = Verdict.last(workspace.verdict, registered.name, registered.version)
        if verdict and verdict.challenger_key == registered.model_key:
            ledger.append(_judged(verdict, registered, flow_run if made == verdict else None))


def _chain(workspace: Workspace) -> dict[str, Artifact]:
    """Return the artifacts that belong together, by their stages.

    One of another chain was written down when it was made.
    """
    found: dict[str, Artifact] = {}
    for stage in STAGES:
        parents = [name for name in stage.inputs if name != "data"]
        artifact = _load(stage, workspace)
        if artifact is None or not all(name in found for name in parents):
            continue
        if not parents or artifact.key.inputs == inputs_hash(found[name].content for name in parents):
            found[stage.name] = artifact
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _load(stage: Stage, workspace: Workspace) -> Artifact | None:
    try:
        return stage.artifact.load(stage.folder(workspace))
    except (NotThereError, DamagedError):
        # What is damaged is not written down: `ganflow verify` tells of it.
        return None


def _described(artifact: Artifact, parents: Mapping[Kind, str], flow_run: str | None, workspace: Workspace) -> AnyEntry:
    """Return the entry of an artifact.

    Raises:
        UnreachableError: the server that it is registered at does not answer.
    """
    head = _Head(key=artifact.key.id, content=artifact.content, parents=parents, flow_run=flow_run, time=_now())
    said = artifact.model_dump(mode="json")
    match artifact:
        case Dataset():
            return DatasetEntry(**head, facts=DatasetFacts(**said | _data_facts(artifact, workspace)))
        case Model():
            of_run = {
                "run_id": runs.run_of(artifact.key.id, workspace),
                "tracking": connection.address(),
                "commit": _commit(artifact),
                "cost": cost.spent(workspace.state / "training" / artifact.key.id),
            }
            return ModelEntry(**head, facts=ModelFacts(**said | of_run))
        case Evaluation():
            return EvaluationEntry(**head, facts=EvaluationFacts(**said))
        case Gallery():
            pictures = [file | {"pixels": pixels_of(artifact.folder / file["file"])} for file in said["pictures"]]
            return GalleryEntry(**head, facts=GalleryFacts(pictures=pictures))
        case Registration():
            version = registry.recorded_version(artifact.name, artifact.version, workspace)
            return RegistrationEntry(**head, facts=RegistrationFacts(**said | (version._asdict() if version else {})))
        case _:
            raise TypeError(type(artifact))


def _commit(model: Model) -> str | None:
    """Return the commit of the code that made it, if that is the code that lies here."""
    present = code_hash(stage_named("train"), model.training.network.name)
    return versioning.code_commit() if model.key.code == present else None


def _judged(verdict: Verdict, registration: Registration, flow_run: str | None) -> VerdictEntry:
    """Return the entry of the gate's answer about a registered version."""
    said = verdict.model_dump(mode="json")
    return VerdictEntry(
        key=verdict.challenger_key,
        content=hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest(),
        parents={"registration": registration.content},
        facts=VerdictFacts(**said),
        flow_run=flow_run,
        time=_now(),
    )


def _data_facts(dataset: Dataset, workspace: Workspace) -> dict[str, str | None]:
    """Return the version of the raw data, if they are still those that the data set was made of."""
    try:
        present = data_content(workspace.data, workspace.state) == dataset.source
    except NotThereError:
        present = False
    if not present:
        return {"files": None, "dvc": None, "commit": None}
    listed = files_of(workspace, dataset.source)
    if not listed.exists():
        listed.parent.mkdir(parents=True, exist_ok=True)
        staged = listed.with_suffix(f".{os.getpid()}.tmp")
        staged.write_bytes(file_hashes(workspace.data, workspace.state))
        staged.replace(listed)
    version, commit = versioning.data_version(workspace)
    return {"files": sha256_of(listed), "dvc": version, "commit": commit}


def files_of(workspace: Workspace, source: str) -> Path:
    """Return the list of a data version's files: the sha256 of each, 32 bytes, sorted."""
    return workspace.state / "data" / f"{source}.sha256s"


def pixels_of(picture: Path | Image.Image) -> str:
    """Hash of what is seen of a picture, however its file holds it: size and RGBA values."""
    if isinstance(picture, Path):
        from PIL import Image

        with Image.open(picture) as image:
            return pixels_of(image)
    content = picture.convert("RGBA").tobytes()
    return hashlib.sha256(f"{picture.width}x{picture.height}\n".encode() + content).hexdigest()
