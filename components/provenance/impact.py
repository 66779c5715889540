"""From raw data to all that came from it."""

from __future__ import annotations

import mmap
import re
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path

from ..gan.errors import NotThereError, UserError
from ..workspace.files import sha256_of
from ..workspace.workspace import Workspace
from .entries import DatasetEntry, GalleryEntry, ModelEntry, of_kind
from .ledger import Ledger, files_of
from .queries import Answer, Head, KnownData, KnownVersion, head_of, model_key_of, unique_entries, versions_of

SHORTEST_PREFIX = 6


class MadeModel(Head):
    """A model that was trained on the data set with the content hash `dataset`."""

    network: str
    images: int
    dataset: str


class MadeVersion(KnownVersion):
    """A version of such a model, by the model's key."""

    model: str


class MadeGallery(Head):
    """A gallery of such a model, by the model's key."""

    pictures: int
    model: str | None


class Impact(Answer):
    """What was made from a data version, each oldest first."""

    asked: str
    data: Sequence[KnownData]
    models: Sequence[MadeModel]
    versions: Sequence[MadeVersion]
    galleries: Sequence[MadeGallery]


def impact(asked: str, workspace: Workspace) -> Impact:
    """Return what came from a data version, by a hash of it (at least 6 characters), or from one of its files.

    Raises:
        NotThereError: no data version with this hash, or with this file, is known.
        UserError: it is neither a file nor such a hash.
    """
    entries = Ledger(workspace).entries()
    chosen = _chosen(asked, of_kind(entries, DatasetEntry), workspace)
    contents = {entry.content for entry in chosen}
    models = unique_entries(e for e in of_kind(entries, ModelEntry) if e.parents["dataset"] in contents)
    galleries = unique_entries(e for e in of_kind(entries, GalleryEntry) if e.parents["dataset"] in contents)
    versions = [
        MadeVersion(**dict(version), model=model.key)
        for model in models
        for version in versions_of(model, entries, workspace)
    ]
    return Impact(
        asked=asked,
        data=[KnownData.of(entry) for entry in unique_entries(chosen)],
        models=[
            MadeModel(
                **head_of(model),
                network=model.facts.network,
                images=model.facts.images,
                dataset=model.parents["dataset"],
            )
            for model in models
        ],
        versions=sorted(versions, key=lambda version: (version.name, version.version)),
        galleries=[
            MadeGallery(**head_of(gallery), pictures=len(gallery.facts.pictures), model=model_key_of(entries, gallery))
            for gallery in galleries
        ],
    )


def _chosen(asked: str, datasets: Sequence[DatasetEntry], workspace: Workspace) -> list[DatasetEntry]:
    """Return the data sets that are asked for.

    Raises:
        NotThereError: none is known.
        UserError: it is neither a file nor a hash.
    """
    if Path(asked).is_file():
        digest = bytes.fromhex(sha256_of(Path(asked)))
        sources = {entry.facts.source for entry in datasets}
        holding = {source for source in sources if _holds(files_of(workspace, source), digest)}
        if not holding:
            raise NotThereError(
                f"no data version that {workspace.root} knows holds the bytes of {asked}: name a file of data/ as it "
                "was then, not an image inside of an archive, or another folder by --workspace"
            )
        return [entry for entry in datasets if entry.facts.source in holding]
    if not re.fullmatch(rf"[0-9a-fA-F]{{{SHORTEST_PREFIX},}}(\.dir)?", asked):
        raise UserError(
            f"{asked} is neither a file nor a hash of data: give one of at least {SHORTEST_PREFIX} hexadecimal digits, "
            "from `ganflow trace` or data.dvc"
        )
    chosen = [
        entry
        for entry in datasets
        for hashes in [(entry.facts.source, entry.content, entry.key, entry.facts.dvc or "")]
        if any(known.startswith(asked.lower()) for known in hashes)
    ]
    if not chosen:
        raise NotThereError(
            f"{workspace.root} knows no data version {asked}: `ganflow trace` and data.dvc show such hashes"
        )
    return chosen


def _holds(listed: Path, digest: bytes) -> bool:
    """Whether a sorted list of hashes has this one."""
    if not listed.exists() or not listed.stat().st_size:
        return False
    size = len(digest)
    with listed.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as hashes:
        count = len(hashes) // size
        at = bisect_left(range(count), digest, key=lambda i: hashes[i * size : (i + 1) * size])
        return at < count and hashes[at * size : (at + 1) * size] == digest
