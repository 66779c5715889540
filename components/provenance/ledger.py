"""The ledger: what came from what, in lines that are only ever appended, for when everything else is gone.

It is `.ganflow/ledger.jsonl`, a chained journal. Callers of stages write; a stage's result does not depend on it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from filelock import FileLock

from ..gan.errors import DamagedError, NotThereError, UnreachableError
from ..services import versioning
from ..services.tracking import connection, registry, runs
from ..training import cost
from ..workspace.artifacts import Artifact, Dataset, Evaluation, Gallery, Model, Registration
from ..workspace.data_hashes import data_content, file_hashes
from ..workspace.files import disk_errors, sha256_of
from ..workspace.graph import STAGES, Stage, code_hash, inputs_hash
from ..workspace.journal import ChainedJournal, Link
from ..workspace.verdict import Verdict
from ..workspace.workspace import Workspace

if TYPE_CHECKING:
    from PIL import Image

Kind = Literal["dataset", "model", "evaluation", "gallery", "registration", "verdict"]


class Entry(NamedTuple):
    """A line of the ledger.

    `key`: of the artifact, its id; `content`: its content hash; `parents`: content hashes by kind; `flow_run`:
    Prefect's, where a flow made it.
    """

    kind: Kind
    key: str
    content: str
    parents: Mapping[str, str]
    facts: Mapping[str, Any]
    flow_run: str | None
    time: str


class Ledger:
    """All entries of a workspace, oldest first."""

    def __init__(self, workspace: Workspace) -> None:
        self._journal = ChainedJournal(workspace.ledger)

    def entries(self) -> list[Entry]:
        """Those that are what was written; others are left out, and `damage` tells of them."""
        return list(filter(None, map(_entry, self._journal.links())))

    def append(self, entry: Entry) -> bool:
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
                self._journal.append({"entry": entry._asdict()})
        return True

    def damage(self) -> Iterator[str]:
        """Yield what is wrong with which line; a line that a crash cut off is not."""
        return self._journal.damage()


def _entry(link: Link) -> Entry | None:
    described = link.described.get("entry")
    return Entry(**described) if isinstance(described, dict) else None


def _known(entry: Entry, entries: list[Entry]) -> bool:
    if entry.kind != "registration":
        return any(known[:3] == entry[:3] for known in entries)
    last = [known for known in entries if known.kind == entry.kind and known.facts["name"] == entry.facts["name"]][-1:]
    return any((*known[:3], known.facts) == (*entry[:3], entry.facts) for known in last)


def damage(workspace: Workspace) -> Iterator[str]:
    """Yield what is wrong with the ledger and the lists of files that it names."""
    ledger = Ledger(workspace)
    yield from ledger.damage()
    lists = {entry.facts["source"]: entry.facts["files"] for entry in ledger.entries() if entry.kind == "dataset"}
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
    known = {(entry.kind, entry.key, entry.content) for entry in ledger.entries()}
    found: dict[str, Artifact] = {}
    for stage in STAGES:
        parents = [name for name in stage.inputs if name != "data"]
        artifact = _load(stage, workspace)
        if artifact is None or not all(name in found for name in parents):
            continue
        if parents and artifact.key.inputs != inputs_hash(found[name].content for name in parents):
            # Of another chain, which was written down when it was made.
            continue
        found[stage.name] = artifact
        kind = _kind(artifact)
        # What MLflow says of a version may change.
        if kind != "registration" and (kind, artifact.key.id, artifact.content) in known:
            if isinstance(artifact, Dataset) and not files_of(workspace, artifact.source).exists():
                _data_facts(artifact, workspace)
            continue
        try:
            facts = _facts(artifact, stage, workspace)
        except UnreachableError:
            # What was written down of the version stays the last word until the server answers again.
            continue
        ours = isinstance(made, Artifact) and made.key == artifact.key
        ledger.append(
            Entry(
                kind,
                artifact.key.id,
                artifact.content,
                {_kind(found[name]): found[name].content for name in parents},
                facts,
                flow_run if ours else None,
                _now(),
            )
        )
    registered = found.get("register")
    if isinstance(registered, Registration):
        verdict = Verdict.last(workspace.verdict, registered.name, registered.version)
        if verdict and verdict.challenger_key == registered.model_key:
            facts = verdict.model_dump(mode="json")
            content = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
            by = flow_run if made == verdict else None
            parents_of = {"registration": registered.content}
            ledger.append(Entry("verdict", verdict.challenger_key, content, parents_of, facts, by, _now()))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _kind(artifact: Artifact) -> Kind:
    kinds: dict[type[Artifact], Kind] = {
        Dataset: "dataset",
        Model: "model",
        Evaluation: "evaluation",
        Gallery: "gallery",
        Registration: "registration",
    }
    return kinds[type(artifact)]


def _load(stage: Stage, workspace: Workspace) -> Artifact | None:
    try:
        return stage.artifact.load(stage.folder(workspace))
    except (NotThereError, DamagedError):
        # What is damaged is not written down: `ganflow verify` tells of it.
        return None


def _facts(artifact: Artifact, stage: Stage, workspace: Workspace) -> dict[str, Any]:
    """Return what it takes to trace an artifact when it is gone."""
    described = artifact.model_dump(mode="json")
    kept: list[str] = []
    facts: dict[str, Any] = {}
    match artifact:
        case Dataset():
            kept = ["source", "image", "splits", "class_counts", "rejected", "duplicates"]
            facts = _data_facts(artifact, workspace)
        case Model():
            kept = ["training", "image", "execution", "images", "score", "generator_parameters"]
            facts = {
                "run_id": runs.run_of(artifact.key.id, workspace),
                "tracking": connection.address(),
                # Only if the code that made it is the one that lies here.
                "commit": versioning.code_commit()
                if artifact.key.code == code_hash(stage, artifact.training.network.name)
                else None,
                "cost": cost.spent(workspace.state / "training" / artifact.key.id),
            }
        case Evaluation():
            kept = ["metrics", "intervals", "samples", "training_images", "holdout_images", "feature_net", "holdout"]
        case Gallery():
            pictures = [file | {"pixels": pixels_of(artifact.folder / file["file"])} for file in described["pictures"]]
            facts = {"pictures": pictures}
        case Registration():
            kept = ["name", "version", "model_key", "tracking"]
            facts = registry.recorded_version(artifact.name, artifact.version, workspace) or {}
    return {name: described[name] for name in kept} | facts


def _data_facts(dataset: Dataset, workspace: Workspace) -> dict[str, Any]:
    """Return the version of the raw data, if they are still those that the data set was made of."""
    facts: dict[str, Any] = {"files": None, "dvc": None, "commit": None}
    try:
        if data_content(workspace.data, workspace.state) != dataset.source:
            return facts
    except NotThereError:
        return facts
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
