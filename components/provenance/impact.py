"""From raw data to all that came from it."""

from __future__ import annotations

import mmap
import re
from bisect import bisect_left
from pathlib import Path
from typing import Any

from ..gan.errors import NotThereError, UserError
from ..workspace.files import sha256_of
from ..workspace.workspace import Workspace
from .ledger import Ledger, files_of
from .queries import data_of, head_of, model_key_of, picture_count, unique_entries
from .trace import _versions

SHORTEST_PREFIX = 6


def impact(asked: str, workspace: Workspace) -> dict[str, Any]:
    """Return what came from a data version, by a hash of it (at least 6 characters), or from one of its files.

    By the keys data, models, versions and galleries, each a list, oldest first.

    Raises:
        UserError: neither a file nor such a hash is known.
    """
    entries = Ledger(workspace).entries()
    datasets = [entry for entry in entries if entry.kind == "dataset"]
    if Path(asked).is_file():
        digest = bytes.fromhex(sha256_of(Path(asked)))
        sources = {entry.facts["source"] for entry in datasets}
        holding = {source for source in sources if _holds(files_of(workspace, source), digest)}
        chosen = [entry for entry in datasets if entry.facts["source"] in holding]
        if not chosen:
            raise NotThereError(
                f"no data version that {workspace.root} knows holds the bytes of {asked}: name a file of data/ as it "
                "was then, not an image inside of an archive, or another folder by --workspace"
            )
    elif re.fullmatch(rf"[0-9a-fA-F]{{{SHORTEST_PREFIX},}}(\.dir)?", asked):
        chosen = [
            entry
            for entry in datasets
            if any(
                str(known).startswith(asked.lower())
                for known in (entry.facts["source"], entry.content, entry.key, entry.facts["dvc"])
            )
        ]
        if not chosen:
            raise NotThereError(
                f"{workspace.root} knows no data version {asked}: `ganflow trace` and data.dvc show such hashes"
            )
    else:
        raise UserError(
            f"{asked} is neither a file nor a hash of data: give one of at least {SHORTEST_PREFIX} hexadecimal digits, "
            "from `ganflow trace` or data.dvc"
        )
    contents = {entry.content for entry in chosen}
    models = unique_entries(e for e in entries if e.kind == "model" and e.parents["dataset"] in contents)
    galleries = unique_entries(e for e in entries if e.kind == "gallery" and e.parents["dataset"] in contents)
    versions = [version | {"model": model.key} for model in models for version in _versions(model, entries, workspace)]
    return {
        "asked": asked,
        "data": [data_of(entry) for entry in unique_entries(chosen)],
        "models": [
            head_of(model)
            | {"network": model.facts["training"]["network"]["name"], "images": model.facts["images"]}
            | {"dataset": model.parents["dataset"]}
            for model in models
        ],
        "versions": sorted(versions, key=lambda version: (version["name"], version["version"])),
        "galleries": [
            head_of(gallery) | {"pictures": picture_count(gallery), "model": model_key_of(entries, gallery)}
            for gallery in galleries
        ],
    }


def _holds(listed: Path, digest: bytes) -> bool:
    """Whether a sorted list of hashes has this one."""
    if not listed.exists() or not listed.stat().st_size:
        return False
    size = len(digest)
    with listed.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as hashes:
        count = len(hashes) // size
        at = bisect_left(range(count), digest, key=lambda i: hashes[i * size : (i + 1) * size])
        return at < count and hashes[at * size : (at + 1) * size] == digest
