"""New raw files: what lies in a folder or bucket and is not part of `data/` yet, and how it becomes part of it."""

from __future__ import annotations

import errno
import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ...gan.errors import NotThereError, UserError
from ...services.destination import local_path
from ...workspace.data_hashes import data_content, file_hashes
from ...workspace.files import disk_errors, sha256_of, sync_path, write_whole
from ...workspace.params import Preprocess
from ...workspace.text import printable
from ...workspace.workspace import Workspace
from ..files.kinds import Kind, is_promised, kind_of_file
from .arrivals import LINK, Arrived, copy_below, digest_of_open, opened_below, ready_names, why
from .bucket import Bucket
from .joining import Joining, Piece, refused
from .table_rows import NotJoinedError

# In data/, only while a file comes from another disk; hidden, so that no reader takes it for an image.
_ARRIVING = ".arriving.part"
_JOINED = "joined.json"
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG)


class Ingested(NamedTuple):
    """Names of what was added to `data/`, and why other files were not."""

    added: list[str]
    left: dict[str, str]

    @property
    def message(self) -> str:
        """What came, in half a sentence; empty where there was nothing."""
        parts = [f"{len(self.added)} new files"] if self.added else []
        if self.left:
            name, reason = next(iter(self.left.items()))
            parts.append(f"{len(self.left)} files of the inbox are left there (the first: {printable(name)}: {reason})")
        return ", ".join(parts)


def arrived(inbox: str, workspace: Workspace) -> Arrived:
    """Files of the inbox whose bytes no file in `data/` has; of a bucket, copies.

    Raises:
        UserError: there is no such folder or bucket, or it holds the workspace's data.
    """
    known = _known(workspace) | _joined(workspace)
    if _is_bucket(inbox):
        return Bucket(inbox, workspace).arrived(known)
    found = Arrived({}, {})
    folder = _folder(inbox, workspace)
    for name in ready_names(folder, found.left):
        try:
            with opened_below(folder, name) as descriptor:
                digest = digest_of_open(descriptor)
        except OSError as error:
            found.left[name] = why(error)
            continue
        if digest not in known:
            known.add(digest)
            found.files[name] = folder / name
    return found


def ingest(inbox: str, workspace: Workspace, options: Preprocess | None = None) -> Ingested:
    """Let what has arrived join `data/`, each file whole or not at all; what cannot join waits where it is.

    Nothing in `data/` is replaced but a table by itself with more rows: a file whose name is taken gets a part of its
    hash into it. The inbox stays.

    Raises:
        UserError: as `arrived`, or there is no space left.
    """
    # Of a process that was killed.
    (workspace.data / _ARRIVING).unlink(missing_ok=True)
    staging = workspace.state / "inbox.tmp"
    shutil.rmtree(staging, ignore_errors=True)
    staging.unlink(missing_ok=True)
    found = arrived(inbox, workspace)
    if not found.files:
        return Ingested([], found.left)
    with disk_errors(workspace.data):
        staging.mkdir()
        try:
            return _Ingestion(inbox, workspace, found, Joining(workspace.data, staging, options or Preprocess())).run()
        finally:
            shutil.rmtree(staging, ignore_errors=True)


class _Ingestion:
    """One look into the inbox: tables first, for they tell which pictures may come; their own rows last."""

    def __init__(self, inbox: str, workspace: Workspace, found: Arrived, joining: Joining) -> None:
        self._inbox, self._workspace, self._joining = inbox, workspace, joining
        self._files, self._bucket = found.files, _is_bucket(inbox)
        self._staging = workspace.state / "inbox.tmp"
        self._added: list[str] = []
        self._left = dict(found.left)
        self._taken_apart: list[Path] = []

    def run(self) -> Ingested:
        pictures = [name for name in self._files if is_promised(name)]
        others: dict[Kind, dict[str, Path]] = defaultdict(dict)
        for number, name in enumerate(self._files.keys() - {*pictures}):
            self._sort(name, self._staging / f"{number}.file", others)
        tables = self._tables(others.pop("table", {}), [*pictures, *others.get("picture", {})])
        self._pictures(pictures, others.pop("picture", {}))
        self._archives(others)
        for name, content in tables.items():
            self._placed(name, content, replacing=True)
        if self._taken_apart:
            hashes = {sha256_of(file) for file in self._taken_apart}
            write_whole(self._workspace.state / _JOINED, json.dumps(sorted(_joined(self._workspace) | hashes)))
        return Ingested(self._added, dict(sorted(self._left.items())))

    def _sort(self, name: str, staged: Path, others: Mapping[Kind, dict[str, Path]]) -> None:
        """Copy a file that is no picture by its name, and put it where it belongs by its content."""
        if not self._staged(name, staged):
            return
        kind, reason = kind_of_file(staged, name)
        if unwanted := refused(kind, reason):
            self._left[name] = unwanted
        else:
            others["IDX images" if kind == "IDX labels" else kind][name] = staged

    def _tables(self, tables: Mapping[str, Path], pictures: list[str]) -> dict[str, bytes | Path]:
        """Return the tables of the data that get new rows, and new ones."""
        placed: dict[str, bytes | Path] = {}
        for name, staged in tables.items():
            try:
                found = self._joining.rows(name, staged.read_bytes(), pictures)
            except NotJoinedError as error:
                self._left[name] = str(error)
                continue
            if found is None:
                placed[name] = staged
                continue
            target, merged = found
            if merged.waiting:
                self._left[name] = merged.waiting
            else:
                self._taken_apart.append(staged)
            if merged.content != (self._workspace.data / target).read_bytes():
                placed[target] = merged.content
        return placed

    def _pictures(self, named: list[str], by_content: Mapping[str, Path]) -> None:
        beside = Counter(name.rpartition("/")[0] for name in (*named, *by_content))
        self._joining.expect([*named, *by_content])
        for name in (*named, *by_content):
            try:
                self._joining.check_picture(name, beside[name.rpartition("/")[0]])
            except NotJoinedError as error:
                self._left[name] = str(error)
                continue
            staged = by_content.get(name, self._staging / "picture")
            if name in by_content or self._staged(name, staged):
                self._placed(name, staged)

    def _archives(self, others: Mapping[Kind, Mapping[str, Path]]) -> None:
        known = _known(self._workspace) if others else set()
        for kind, files in others.items():
            # Images and labels of IDX are one.
            for together in [files] if kind == "IDX images" else [{name: file} for name, file in files.items()]:
                waiting: list[str] = []
                try:
                    for piece in self._joining.pieces(together, kind):
                        if isinstance(piece, str):
                            waiting.append(piece)
                        elif not self._join(piece, known, together):
                            waiting.append(f"{piece.name} cannot be written")
                except NotJoinedError as error:
                    waiting.append(str(error))
                # What joined as it is has been moved.
                self._taken_apart += [] if waiting else [file for file in together.values() if file.exists()]
                for name in together if waiting else ():
                    self._left[name] = "; ".join(waiting[:3]) + (f"; {len(waiting) - 3} more" if waiting[3:] else "")

    def _join(self, piece: Piece, known: set[str], files: Mapping[str, Path]) -> bool:
        """Place an archive, or one of its pictures unless the data have it."""
        if isinstance(piece.content, Path):
            return self._placed(piece.name, piece.content)
        staged = self._staging / "picture"
        staged.write_bytes(piece.content)
        digest = sha256_of(staged)
        if digest not in known and not self._placed(piece.name, staged):
            return False
        known.add(digest)
        return True

    def _staged(self, name: str, target: Path) -> bool:
        """Copy a file of the inbox; one that cannot be read waits."""
        try:
            if self._bucket:
                shutil.copyfile(self._files[name], target)
            else:
                copy_below(_folder(self._inbox, self._workspace), name, target)
        except OSError as error:
            if error.errno in _OF_THE_DISK:
                raise
            self._left[name] = why(error)
            return False
        return True

    def _placed(self, name: str, content: bytes | Path, replacing: bool = False) -> bool:
        """Put a file into `data/`; one whose name cannot be had waits."""
        target = self._workspace.data / name
        staged = content if isinstance(content, Path) else self._staging / "table"
        try:
            if isinstance(content, bytes):
                staged.write_bytes(content)
            if target.exists() and not (replacing and isinstance(content, bytes)):
                target = target.with_stem(f"{target.stem}-{sha256_of(staged)[:8]}")
            _place(staged, target, self._workspace.data)
        except OSError as error:
            if error.errno in _OF_THE_DISK:
                raise
            self._left[name] = why(error)
            return False
        if self._bucket and name in self._files:
            self._files[name].unlink(missing_ok=True)
        self._added.append(target.relative_to(self._workspace.data).as_posix())
        return True


def _known(workspace: Workspace) -> set[str]:
    """Return the hashes of all files in `data/`."""
    try:
        data_content(workspace.data, workspace.state)
    except NotThereError:
        return set()
    packed = file_hashes(workspace.data, workspace.state)
    return {packed[start : start + 32].hex() for start in range(0, len(packed), 32)}


def _joined(workspace: Workspace) -> set[str]:
    """Return the hashes of archives and tables whose content became part of the data, but not they themselves."""
    with suppress(OSError, ValueError):
        hashes = json.loads((workspace.state / _JOINED).read_text())
        if isinstance(hashes, list):
            return {each for each in hashes if isinstance(each, str)}
    return set()


def _is_bucket(inbox: str) -> bool:
    scheme, mark, _ = inbox.partition("://")
    return bool(mark) and scheme.lower() != "file"


def _folder(inbox: str, workspace: Workspace) -> Path:
    # Read like any folder: what storages do knows nothing of links.
    try:
        folder = local_path(inbox if "://" in inbox else str(Path(inbox).expanduser()), workspace.root)
    # The home of a user that there is not.
    except (UserError, RuntimeError) as error:
        raise UserError(f"retrain.inbox: {error}") from None
    if folder is None or not folder.is_dir():
        raise UserError(f"retrain.inbox: there is no folder {inbox}: make it, or name another one")
    data = workspace.data.resolve()
    if data.is_relative_to(folder) or folder.is_relative_to(data):
        raise UserError(f"retrain.inbox: {inbox} and data/ hold each other: name a folder beside data/")
    return folder


def _place(staged: Path, target: Path, data: Path) -> None:
    """Move a file into `data/` in one step, from another disk too."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.parent.resolve().is_relative_to(data.resolve()):
        raise OSError(errno.ELOOP, LINK)
    try:
        staged.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        arriving = data / _ARRIVING
        try:
            shutil.copyfile(staged, arriving)
            sync_path(arriving)
            arriving.replace(target)
        finally:
            arriving.unlink(missing_ok=True)
    sync_path(target.parent)
