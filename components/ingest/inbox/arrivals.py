"""What has arrived in a folder: which files are ready, and their content, whoever may write there.

That is nobody whom the workspace trusts: no link is followed, only regular files are read, and one name that cannot be
taken keeps no other from being taken.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import signal
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ...workspace.params import Limits
from ...workspace.text import printable, shown

# A file that was written so lately may still be written.
SETTLED_SECONDS = 5
UNFINISHED = (".tmp", ".part", ".crdownload")
LINK = "a link, which is not followed"


class Arrived(NamedTuple):
    """New files by their name below the inbox, and why others are not taken."""

    files: dict[str, Path]
    left: dict[str, str]


def why(error: OSError) -> str:
    reasons = {
        errno.ELOOP: LINK,
        errno.ENOTDIR: "its name needs a folder where there is a file",
        errno.EEXIST: "its name needs a folder where there is a file",
        errno.EISDIR: "its name is that of a folder",
    }
    number = error.errno or 0
    return reasons.get(number) or (os.strerror(number).lower() if number else printable(str(error)))


def ready_names(folder: Path, left: dict[str, str]) -> Iterator[str]:
    """Yield the names of the files that are ready, in order; why others are not goes to `left`."""
    limits, root = Limits(), len(os.fspath(folder)) + 1
    waiting = _listed(folder, "", left)
    while waiting:
        entry = waiting.pop()
        name = entry.path[root:]
        if entry.name.startswith(".") or Path(name).suffix in UNFINISHED:
            continue
        if entry.is_symlink():
            left[name] = LINK
        elif entry.is_dir(follow_symlinks=False):
            if name.count("/") >= limits.depth:
                left[name] = f"lies in more than {limits.depth} folders"
            else:
                waiting += _listed(Path(entry.path), name, left)
        elif reason := unfit(name) or _not_ready(entry):
            if reason != _SOON:
                left[name] = reason
        else:
            yield name


def _listed(folder: Path, name: str, left: dict[str, str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name, reverse=True)
    except OSError as error:
        left[name] = why(error)
        return []


def unfit(name: str) -> str | None:
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
def opened_below(folder: Path, name: str) -> Iterator[int]:
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


def digest_of_open(descriptor: int) -> str:
    with os.fdopen(os.dup(descriptor), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_below(folder: Path, name: str, staged: Path) -> None:
    """Copy a file of the inbox; one that changes meanwhile is none that can be taken."""
    with opened_below(folder, name) as descriptor:
        before = os.fstat(descriptor)
        with os.fdopen(os.dup(descriptor), "rb") as source, staged.open("wb") as target:
            shutil.copyfileobj(source, target, 2**20)
            target.flush()
            os.fsync(target.fileno())
        after = os.fstat(descriptor)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise OSError(errno.EAGAIN, "changed while it was read")
