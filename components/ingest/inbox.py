"""New raw files: what lies in a folder or bucket and is not part of `data/` yet, and how it becomes part of it."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from pathlib import Path

from ..gan.errors import UserError
from ..services.storage import Storage
from ..workspace.data_hashes import data_content, file_hashes
from ..workspace.files import disk_errors, sha256_of
from ..workspace.workspace import Workspace

# A file that was written so lately may still be written.
SETTLED_SECONDS = 5
UNFINISHED = (".tmp", ".part", ".crdownload")


def arrived(inbox: str, workspace: Workspace) -> dict[str, Path]:
    """Files of the inbox whose bytes no file in `data/` has, by their name below it; of a bucket, a copy.

    Raises:
        UserError: there is no such folder or bucket, or it holds the workspace's data.
    """
    folder = _fetched(inbox, workspace) if "://" in inbox else _folder(inbox, workspace)
    found = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if _settled(file, folder)}
    if not found:
        return {}
    known: set[str] = set()
    if workspace.data.exists() and any(workspace.data.iterdir()):
        data_content(workspace.data, workspace.state)
        packed = file_hashes(workspace.data, workspace.state)
        known = {packed[start : start + 32].hex() for start in range(0, len(packed), 32)}
    new: dict[str, Path] = {}
    for name, file in found.items():
        digest = sha256_of(file)
        if digest not in known:
            known.add(digest)
            new[name] = file
    return new


def ingest(inbox: str, workspace: Workspace) -> list[str]:
    """Copy what has arrived into `data/`, each file whole or not at all; the names of what was added.

    Nothing in `data/` is replaced: a file whose name is taken gets a part of its hash into it. The inbox stays.

    Raises:
        UserError: as `arrived`, or there is no space left.
    """
    added = []
    for name, file in arrived(inbox, workspace).items():
        target = workspace.data / name
        if target.exists():
            target = target.with_stem(f"{target.stem}-{sha256_of(file)[:8]}")
        with disk_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            staged = workspace.state / "inbox.tmp"
            shutil.copyfile(file, staged)
            with staged.open("rb") as whole:
                os.fsync(whole.fileno())
            # Copied, where data/ lies on another disk.
            shutil.move(staged, target)
        added.append(target.relative_to(workspace.data).as_posix())
    return added


def _folder(inbox: str, workspace: Workspace) -> Path:
    folder = (workspace.root / Path(inbox).expanduser()).resolve()
    if not folder.is_dir():
        raise UserError(f"retrain.inbox: there is no folder {inbox}: make it, or name another one")
    data = workspace.data.resolve()
    if data.is_relative_to(folder) or folder.is_relative_to(data):
        raise UserError(f"retrain.inbox: {inbox} and data/ hold each other: name a folder beside data/")
    return folder


def _fetched(inbox: str, workspace: Workspace) -> Path:
    """Return a copy of the bucket's files, of which only new ones are fetched."""
    storage = Storage(inbox)
    folder = workspace.state / "inbox" / hashlib.sha256(storage.uri.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in storage.sizes().items():
        file = folder / name
        if ".." in Path(name).parts or name.startswith("/"):
            continue
        if not file.exists() or file.stat().st_size != size:
            storage.get(name, file)
    return folder


def _settled(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    if hidden or file.suffix in UNFINISHED or not file.is_file():
        return False
    return time.time() - file.stat().st_mtime > SETTLED_SECONDS
