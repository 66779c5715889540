"""Files that are whole or not there: staging folders, seals, hashes, and what a full disk says."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..gan.errors import UserError

SMALL_FILE = 2**16


def sealed(described: Mapping[str, Any]) -> str:
    """JSON of `described` that ends with the hash of all that stands before."""
    text = json.dumps(described, indent=2, sort_keys=True).removesuffix("\n}")
    return f'{text},\n  "seal": "{hashlib.sha256(text.encode()).hexdigest()}"\n}}\n'


def unsealed(text: str) -> dict[str, Any]:
    """Return what `sealed` was given.

    Raises:
        ValueError: the text is not what `sealed` wrote.
    """
    start, mark, _ = text.rpartition(',\n  "seal": ')
    try:
        described = json.loads(f"{start}\n}}") if mark else None
    except RecursionError:
        described = None
    if not isinstance(described, dict) or sealed(described) != text:
        raise ValueError("it is not what was written")
    return described


def sha256_of(path: Path) -> str:
    return digest_of(path, "sha256")


def digest_of(path: Path, algorithm: str) -> str:
    """Return the hash of a file by an algorithm of `hashlib`, in hexadecimal digits."""
    with path.open("rb") as file:
        # In one piece if it is small: a digest of a file takes a large buffer first.
        if len(start := file.read(SMALL_FILE)) < SMALL_FILE:
            return hashlib.new(algorithm, start).hexdigest()
        file.seek(0)
        return hashlib.file_digest(file, algorithm).hexdigest()


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """Provide a folder to build `out` in; it takes the place of `out` when the block ends, and vanishes when it fails.

    A reader finds the old folder, the new one or none, never a mixture.

    Raises:
        UserError: there is no space left.
    """
    with disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        # Unlike a temporary folder it is open to others as far as the user's umask says.
        folder = _beside(out)
        folder.mkdir()
        try:
            yield folder
            sync(folder)
            if out.exists():
                old = _beside(out)
                out.replace(old)
                folder.replace(out)
                shutil.rmtree(old)
            else:
                folder.replace(out)
            sync_path(out.parent)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def write_whole(file: Path, content: str | bytes, mode: int = 0o666) -> None:
    """Write a small file that is found whole or as it was, whoever else writes it; `mode` is what the umask allows of.

    No link is followed at the file's place, nor beside it, where nobody can know the name.

    Raises:
        UserError: there is no space left.
    """
    with disk_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        staged = _beside(file)
        try:
            with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as output:
                output.write(content.encode() if isinstance(content, str) else content)
            staged.replace(file)
        finally:
            staged.unlink(missing_ok=True)


def _beside(out: Path) -> Path:
    return out.with_name(f".{out.name}-{secrets.token_hex(8)}")


@contextmanager
def disk_errors(where: Path) -> Iterator[None]:
    """Turn a full or read-only disk, or one without locks, into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
            raise UserError(
                f"the disk of {where} has no file locks (flock), by which runs know of each other: put the workspace "
                "on another disk, or mount this one with locks"
            ) from None
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG):
            raise
        raise UserError(unwritable(where, error.errno)) from None


def unwritable(where: Path | str, number: int) -> str:
    """Say in one sentence why `where` cannot be written, by the number of the system's error, and what to do."""
    full = number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    remedy = "make room" if full else "let this user write there, or name another workspace,"
    return f"cannot write {where}: {os.strerror(number).lower()}; earlier results are intact, {remedy} and run again"


def sync(folder: Path) -> None:
    """Flush every file of `folder`, and the folder itself, to the disk."""
    for path in [*(p for p in folder.rglob("*")), folder]:
        sync_path(path)


def sync_path(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
