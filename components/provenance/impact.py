"""From raw data to all that came from it."""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..gan.errors import NotThereError, UserError
from ..workspace.files import sha256_of
from ..workspace.workspace import Workspace
from .entries import DatasetEntry, E, GalleryEntry, ModelEntry
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
    ledger = Ledger(workspace)
    chosen = _chosen(asked, ledger, workspace)
    contents = {entry.content for entry in chosen}
    models = unique_entries(_made_of(ledger, ModelEntry, contents))
    galleries = unique_entries(_made_of(ledger, GalleryEntry, contents))
    versions = [
        MadeVersion(**dict(version), model=model.key)
        for model in models
        for version in versions_of(model, ledger, workspace)
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
            MadeGallery(**head_of(gallery), pictures=len(gallery.facts.pictures), model=model_key_of(ledger, gallery))
            for gallery in galleries
        ],
    )


def _made_of(ledger: Ledger, kind: type[E], contents: Iterable[str]) -> list[E]:
    """Return the entries of a kind that came from data sets with these contents, oldest first."""
    found = (entry for content in contents for entry in ledger.find(kind, "of dataset", content))
    return sorted(found, key=lambda entry: entry.place)


def _chosen(asked: str, ledger: Ledger, workspace: Workspace) -> list[DatasetEntry]:
    """Return the data sets that are asked for.

    Raises:
        NotThereError: none is known.
        UserError: it is neither a file nor a hash.
    """
    if Path(asked).is_file():
        digest = bytes.fromhex(sha256_of(Path(asked)))
        sources = ledger.values("dataset source")
        holding = [source for source in sources if _holds(files_of(workspace, source), digest)]
        if not holding:
            raise NotThereError(
                f"no data version that {workspace.root} knows holds the bytes of {asked}: name a file of data/ as it "
                "was then, not an image inside of an archive, or another folder by --workspace"
            )
        found = (entry for source in holding for entry in ledger.find(DatasetEntry, "source", source))
        return sorted(found, key=lambda entry: entry.place)
    if not re.fullmatch(rf"[0-9a-fA-F]{{{SHORTEST_PREFIX},}}(\.dir)?", asked):
        raise UserError(
            f"{asked} is neither a file nor a hash of data: give one of at least {SHORTEST_PREFIX} hexadecimal digits, "
            "from `ganflow trace` or data.dvc"
        )
    chosen = ledger.find_prefix(DatasetEntry, ("source", "content", "key", "dvc"), asked.lower())
    if not chosen:
        raise NotThereError(
            f"{workspace.root} knows no data version {asked}: `ganflow trace` and data.dvc show such hashes"
        )
    return chosen


def _holds(listed: Path, digest: bytes) -> bool:
    """Whether a sorted list of hashes has this one."""
    try:
        file = os.open(listed, os.O_RDONLY)
    except OSError:
        return False
    try:
        # Read where it is looked at: there may be a list for each of thousands of runs.
        size = len(digest)
        count = os.fstat(file).st_size // size
        at = bisect_left(range(count), digest, key=lambda i: os.pread(file, size, i * size))
        return at < count and os.pread(file, size, at * size) == digest
    finally:
        os.close(file)
