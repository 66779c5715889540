"""The ledger: what came from what, in lines that are only ever appended, for when everything else is gone.

It is `.ganflow/ledger.jsonl`, a chained journal with its witness in `mlruns/`. Callers of stages write; a stage's
result does not depend on it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from ..gan.errors import DamagedError, NotThereError, UnreachableError
from ..services import versioning
from ..services.tracking import connection, registry, runs
from ..training import cost
from ..workspace.artifacts import Artifact, Dataset, Evaluation, Gallery, Model, Registration
from ..workspace.data_hashes import data_content, file_hashes
from ..workspace.files import disk_errors, sha256_of
from ..workspace.graph import STAGES, Stage, code_hash, inputs_hash, stage_named
from ..workspace.journal import Audit, ChainedJournal
from ..workspace.verdict import Verdict
from ..workspace.workspace import Workspace
from .entries import (
    AnyEntry,
    DatasetEntry,
    DatasetFacts,
    E,
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
    kind_of,
)
from .index import Index, read_entry, unreadable

if TYPE_CHECKING:
    from PIL import Image

# Tells in another folder how far the ledger was written.
WITNESS = "ledger.json"
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
    """All entries of a workspace; what is asked for is found by an index, whatever their number."""

    def __init__(self, workspace: Workspace) -> None:
        self.journal = ChainedJournal(workspace.ledger, workspace.mlruns / WITNESS)
        self._index = Index(self.journal)

    def entries(self) -> list[AnyEntry]:
        """Read those that are what was written, oldest first; others are left out, and `damage` tells of them."""
        return list(self.read())

    def read(self) -> Iterator[AnyEntry]:
        """Read all entries like `entries`, one at a time."""
        for link in self.journal.links():
            if link.text is not None and (entry := read_entry(link)):
                yield entry

    def find(self, kind: type[E], field: str, value: str) -> Iterator[E]:
        """Read the entries of a kind by their `key`, `content`, `of` a parent or a fact, newest first."""
        for place in self._index.find(f"{kind_of(kind)} {field}", value):
            entry = self._read(place)
            if isinstance(entry, kind):
                yield entry

    def find_prefix(self, kind: type[E], fields: Iterable[str], start: str) -> list[E]:
        """Read the entries of a kind of which one of these begins like this, oldest first."""
        roles = [f"{kind_of(kind)} {field}" for field in fields]
        places = {place for role in roles for place in self._index.find_prefix(role, start)}
        return [entry for place in sorted(places) if isinstance(entry := self._read(place), kind)]

    def find_picture(self, pixels: str) -> Iterator[GalleryEntry]:
        """Read the galleries that have a picture with these pixels, newest first."""
        for place in self._index.find_picture(pixels):
            entry = self._read(place)
            if isinstance(entry, GalleryEntry) and any(p.pixels == pixels for p in entry.facts.pictures):
                yield entry

    def values(self, role: str) -> list[str]:
        """Return every value of a role, such as `dataset source`."""
        return self._index.values(role)

    def named(self, names: Iterable[str]) -> set[str]:
        """Return those of these hashes, keys and ids that stand in it."""
        return self._index.named(names)

    def append(self, entry: AnyEntry) -> bool:
        """Write `entry` down, unless it is there already; whether it was not.

        An entry is the same if kind, key and content are. Of registrations what MLflow said counts too, and only the
        last of the same name: to register an older model again makes it the challenger.

        Raises:
            UserError: there is no space left.
        """
        path = self.journal.path
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._index.lock:
                if not path.exists():
                    self._index.forget()
                if self._known(entry):
                    return False
                known = self._index.known()
                link = self.journal.write({"entry": entry.model_dump(mode="json")}, known.head)
                self._index.add(link, entry, known)
        return True

    def holds(self, kind: Kind, key: str, content: str) -> bool:
        """Whether an artifact was written down."""
        return bool({*self._index.find(f"{kind} key", key)} & {*self._index.find(f"{kind} content", content)})

    def wrong(self) -> Iterator[str]:
        """Tell what was wrong with which line when it was read last: when it was written, or changed since."""
        known, head = self._index.known(), self.journal.head()
        yield from known.wrong
        if self.journal.path.exists():
            # One of both is enough to tell.
            yield from {wrong for each in (head, known.head) if each and (wrong := known.state.wrong(each))}

    def damage(self) -> Iterator[str]:
        """Read every line again, and tell what is wrong with which; a line that a crash cut off is not."""
        audit = Audit()
        unknown = []
        for number, link in enumerate(self.journal.links(), 1):
            audit.see(link)
            if link.text is not None and read_entry(link) is None:
                unknown.append(unreadable(number))
        yield from audit.conclude(None)
        yield from unknown
        known = self._index.known()
        if self.journal.path.exists():
            heads = (self.journal.head(), known.head)
            yield from {wrong for head in heads if head and (wrong := audit.state.wrong(head))}

    def _read(self, place: int) -> AnyEntry | None:
        link = self.journal.at(place)
        return read_entry(link) if link.text is not None else None

    def _known(self, entry: AnyEntry) -> bool:
        if isinstance(entry, RegistrationEntry):
            last = next(self.find(RegistrationEntry, "name", entry.facts.name), None)
            same = last is not None and (last.key, last.content) == (entry.key, entry.content)
            return same and last is not None and last.facts == entry.facts
        return self.holds(entry.kind, entry.key, entry.content)


def damage(workspace: Workspace) -> Iterator[str]:
    """Yield what is wrong with the ledger and the lists of files that it names."""
    ledger = Ledger(workspace)
    yield from ledger.damage()
    for source in ledger.values("dataset source"):
        file = files_of(workspace, source)
        listed = {entry.facts.files for entry in ledger.find(DatasetEntry, "source", source)} - {None}
        if listed and not (file.exists() and {sha256_of(file)} == listed):
            yield f"{file.relative_to(workspace.root)} is not what was written"


def record(workspace: Workspace, made: Artifact | Verdict | None = None, flow_run: str | None = None) -> None:
    """Write down all artifacts in `workspace` that belong together and that the ledger lacks, and the gate's verdict.

    `made`: what `flow_run` has just made.

    Raises:
        UserError: there is no space left.
    """
    ledger = Ledger(workspace)
    chain = _chain(workspace)
    for stage, artifact in chain.items():
        kind = _KINDS[type(artifact)]
        if isinstance(artifact, Registration) or not ledger.holds(kind, artifact.key.id, artifact.content):
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
        from ..pictures.opening import opened

        with opened(picture) as image:
            return pixels_of(image)
    content = picture.convert("RGBA").tobytes()
    return hashlib.sha256(f"{picture.width}x{picture.height}\n".encode() + content).hexdigest()
