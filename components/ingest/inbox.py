"""New raw files: what lies in a folder or bucket and is not part of `data/` yet, and how it becomes part of it.

Who may write there is nobody that the workspace trusts: no link is followed, only regular files are read, and one name
that cannot be taken keeps no other from being taken.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import signal
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from ..gan.errors import NotThereError, UserError
from ..services.destination import local_path
from ..services.storage import Storage, StoredFile
from ..workspace.data_hashes import data_content, file_hashes
from ..workspace.files import disk_errors, sha256_of, sync_path
from ..workspace.params import Limits
from ..workspace.text import printable, shown
from ..workspace.workspace import Workspace

# A file that was written so lately may still be written.
SETTLED_SECONDS = 5
# So much clocks of two machines may differ.
FUTURE_SECONDS = 60
UNFINISHED = (".tmp", ".part", ".crdownload")
# In data/, only while a file comes from another disk; hidden, so that no reader takes it for an image.
_ARRIVING = ".arriving.part"
_LINK = "a link, which is not followed"


class Arrived(NamedTuple):
    """New files by their name below the inbox, and why others are not taken."""

    files: dict[str, Path]
    left: dict[str, str]


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
    known = _known(workspace)
    if _is_bucket(inbox):
        return _Bucket(inbox, workspace).arrived(known)
    found = Arrived({}, {})
    folder = _folder(inbox, workspace)
    for name in _names(folder, found.left):
        try:
            with _opened_below(folder, name) as descriptor:
                digest = _digest(descriptor)
        except OSError as error:
            found.left[name] = _why(error)
            continue
        if digest not in known:
            known.add(digest)
            found.files[name] = folder / name
    return found


def _known(workspace: Workspace) -> set[str]:
    """Return the hashes of all files in `data/`."""
    try:
        data_content(workspace.data, workspace.state)
    except NotThereError:
        return set()
    packed = file_hashes(workspace.data, workspace.state)
    return {packed[start : start + 32].hex() for start in range(0, len(packed), 32)}


def ingest(inbox: str, workspace: Workspace) -> Ingested:
    """Copy what has arrived into `data/`, each file whole or not at all.

    Nothing in `data/` is replaced: a file whose name is taken gets a part of its hash into it. The inbox stays.

    Raises:
        UserError: as `arrived`, or there is no space left.
    """
    # Of a process that was killed.
    (workspace.data / _ARRIVING).unlink(missing_ok=True)
    found = arrived(inbox, workspace)
    added, left = [], dict(found.left)
    staged = workspace.state / "inbox.tmp"
    for name, file in found.files.items():
        target = workspace.data / name
        with disk_errors(target):
            try:
                if _is_bucket(inbox):
                    file.replace(staged)
                else:
                    _copy(_folder(inbox, workspace), name, staged)
                if target.exists():
                    target = target.with_stem(f"{target.stem}-{sha256_of(staged)[:8]}")
                _place(staged, target, workspace.data)
            except OSError as error:
                if error.errno in _OF_THE_DISK:
                    raise
                left[name] = _why(error)
                continue
            finally:
                staged.unlink(missing_ok=True)
        added.append(target.relative_to(workspace.data).as_posix())
    return Ingested(added, left)


_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG)


def _why(error: OSError) -> str:
    reasons = {
        errno.ELOOP: _LINK,
        errno.ENOTDIR: "its name needs a folder where there is a file",
        errno.EEXIST: "its name needs a folder where there is a file",
        errno.EISDIR: "its name is that of a folder",
    }
    number = error.errno or 0
    return reasons.get(number) or (os.strerror(number).lower() if number else printable(str(error)))


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


# --- a folder ---


def _names(folder: Path, left: dict[str, str]) -> Iterator[str]:
    """Yield the names of the files that are ready, in order; why others are not goes to `left`."""
    limits, root = Limits(), len(os.fspath(folder)) + 1
    waiting = _listed(folder, "", left)
    while waiting:
        entry = waiting.pop()
        name = entry.path[root:]
        if entry.name.startswith(".") or Path(name).suffix in UNFINISHED:
            continue
        if entry.is_symlink():
            left[name] = _LINK
        elif entry.is_dir(follow_symlinks=False):
            if name.count("/") >= limits.depth:
                left[name] = f"lies in more than {limits.depth} folders"
            else:
                waiting += _listed(Path(entry.path), name, left)
        elif reason := _unfit(name) or _not_ready(entry):
            if reason != _SOON:
                left[name] = reason
        else:
            yield name


def _listed(folder: Path, name: str, left: dict[str, str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name, reverse=True)
    except OSError as error:
        left[name] = _why(error)
        return []


def _unfit(name: str) -> str | None:
    """Return why a name below the inbox cannot be that of a file in `data/`."""
    pieces = name.split("/")
    if {"", ".", ".."} & {*pieces}:
        return "its name has an empty part, or leads elsewhere"
    if max(len(os.fsencode(piece)) for piece in pieces) > 200 or len(os.fsencode(name)) > 1_000:
        return "its name is longer than a file's may be"
    if shown(os.fsencode(name)) != name:
        return "its name has characters that cannot be shown, or is no UTF-8"
    return None


_SOON = "was written a moment ago"


def _not_ready(entry: os.DirEntry[str]) -> str | None:
    """Return why a file is not taken now."""
    status = entry.stat(follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"
    now = time.time()
    # The system sets the second of them itself, when anything about the file changes.
    written = status.st_mtime if status.st_mtime <= now else status.st_ctime
    if written > now:
        return "its times lie in the future: correct the clock, or `touch` it"
    if now - written <= SETTLED_SECONDS:
        return _SOON
    return "is still being written" if _has_writer(entry.path) else None


def _has_writer(path: str) -> bool:
    """Whether a process of this machine has a file open for writing: an upload may stall for any time."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        # Whoever opens it at this very moment has us sent a signal, which would end this process.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        # Others mean that the file system, or not being the owner, lets nobody know.
        return error.errno in (errno.EAGAIN, errno.EBUSY)
    finally:
        os.close(descriptor)
    return False


@contextmanager
def _opened_below(folder: Path, name: str) -> Iterator[int]:
    """Open a regular file, no part of whose name below `folder` is a link at this moment.

    Raises:
        OSError: it is none.
    """
    *above, last = name.split("/")
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for piece in above:
            below = os.open(piece, flags | os.O_DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
        descriptor = os.open(last, flags | os.O_NONBLOCK, dir_fd=at)
    finally:
        os.close(at)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        yield descriptor
    finally:
        os.close(descriptor)


def _digest(descriptor: int) -> str:
    with os.fdopen(os.dup(descriptor), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy(folder: Path, name: str, staged: Path) -> None:
    """Copy a file of the inbox; one that changes meanwhile is none that can be taken."""
    with _opened_below(folder, name) as descriptor:
        before = os.fstat(descriptor)
        with os.fdopen(os.dup(descriptor), "rb") as source, staged.open("wb") as target:
            shutil.copyfileobj(source, target, 2**20)
            target.flush()
            os.fsync(target.fileno())
        after = os.fstat(descriptor)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise OSError(errno.EAGAIN, "changed while it was read")


def _place(staged: Path, target: Path, data: Path) -> None:
    """Move a file into `data/` in one step, from another disk too."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.parent.resolve().is_relative_to(data.resolve()):
        raise OSError(errno.ELOOP, _LINK)
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


# --- a bucket ---


class _Bucket:
    """A bucket as an inbox: what was seen of its files, and copies of those that are not in `data/` yet.

    No other copies stay: what is taken out of the bucket and of `data/` comes back from nowhere.
    """

    def __init__(self, inbox: str, workspace: Workspace) -> None:
        self._storage = Storage(inbox)
        self._folder = folder_of(inbox, workspace)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._seen = self._folder / "seen.json"

    def arrived(self, known: set[str]) -> Arrived:
        """Fetch what is new or was replaced, and forget what is gone."""
        seen, now_seen, found = self._read(), dict[str, list[int | str]](), Arrived({}, {})
        for name, stored in sorted(self._storage.files().items()):
            if any(piece.startswith(".") for piece in Path(name).parts if piece != "..") or name.endswith(UNFINISHED):
                continue
            if reason := _unfit(name):
                found.left[name] = reason
            elif stored.time_ns / 1e9 > time.time() + FUTURE_SECONDS:
                found.left[name] = "its time lies in the future: correct the clock"
            # What is replaced within the same second would look the same.
            elif time.time() - stored.time_ns / 1e9 > SETTLED_SECONDS:
                self._look(name, stored, seen, now_seen, known, found)
        self._write(now_seen)
        kept = {*found.files.values(), self._seen}
        for path in self._folder.iterdir():
            if path not in kept:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return found

    def _look(
        self,
        name: str,
        stored: StoredFile,
        seen: dict[str, list[int | str]],
        now_seen: dict[str, list[int | str]],
        known: set[str],
        found: Arrived,
    ) -> None:
        """Fetch a file unless the same one was seen and is in `data/`."""
        copy = self._folder / hashlib.sha256(name.encode()).hexdigest()
        stamp = seen.get(name, [])
        same = stamp[:2] == [stored.size, stored.time_ns]
        if not (same and stamp[2] in known):
            if not (same and copy.exists() and copy.stat().st_size == stored.size):
                try:
                    if not self._storage.get(name, copy):
                        return
                except UserError as error:
                    found.left[name] = printable(str(error))
                    return
            stamp = [stored.size, stored.time_ns, sha256_of(copy)]
            if stamp[2] not in known:
                known.add(str(stamp[2]))
                found.files[name] = copy
        now_seen[name] = stamp

    def _read(self) -> dict[str, list[int | str]]:
        with suppress(OSError, ValueError):
            seen = json.loads(self._seen.read_text())
            if isinstance(seen, dict):
                return {name: stamp for name, stamp in seen.items() if isinstance(stamp, list) and len(stamp) == 3}
        return {}

    def _write(self, seen: dict[str, list[int | str]]) -> None:
        staged = self._seen.with_suffix(".tmp")
        staged.write_text(json.dumps(seen))
        staged.replace(self._seen)


def folder_of(inbox: str, workspace: Workspace) -> Path:
    """Return where copies of a bucket's new files lie until they are in `data/`."""
    return workspace.state / "inbox" / hashlib.sha256(inbox.encode()).hexdigest()[:16]
