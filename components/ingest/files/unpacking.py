"""Packed files: the guard around each, and what is gzipped laid out plain."""

from __future__ import annotations

import errno
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from ...gan.errors import UserError
from ...workspace.params import Limits
from ...workspace.text import printable, shortened

# What a reader gets to hear from the system for numbers of a damaged file; all else is about the disk.
_OF_CONTENT = (None, errno.EINVAL, errno.EOVERFLOW, errno.ENAMETOOLONG)


@contextmanager
def container(path: Path, kind: str, called: str = "") -> Iterator[None]:
    """Turn whatever goes wrong while a file of many images is read into one sentence that names it.

    `called`: its name for people, where that is not the file's.

    Raises:
        UserError: it is damaged. A full disk stays what it is.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in _OF_CONTENT:
            raise
        reason = shortened(printable(" ".join(str(error).split()))) or type(error).__name__
        name = printable(called or path.name)
        raise UserError(f"{name} is not {kind} that can be read ({reason}): fetch it again") from None


def is_gzipped(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def opened(path: Path) -> BinaryIO:
    """Open a file to be read, unpacked if it is gzipped."""
    return cast(BinaryIO, gzip.open(path, "rb")) if is_gzipped(path) else path.open("rb")


def unpacked(path: Path, scratch: Path, name: str, limits: Limits) -> Path:
    """`path` itself, or what is gzipped in it in a file of its own.

    Raises:
        UserError: it is damaged, or grows without measure.
    """
    if not is_gzipped(path):
        return path
    plain = scratch / name
    if plain.exists():
        return plain
    staged, limit = plain.with_suffix(".tmp"), max(path.stat().st_size * limits.growth, 2**20)
    try:
        with gzip.open(path, "rb") as source, staged.open("wb") as target:
            while block := source.read(2**20):
                target.write(block)
                if target.tell() > limit:
                    raise grown(path, limits)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(f"{printable(path.name)} is damaged ({error}): fetch it again") from None
    return staged.replace(plain)


def grown(path: Path, limits: Limits) -> UserError:
    """Return the error for a file that is taken for a bomb."""
    return UserError(
        f"{printable(path.name)} grows more than {limits.growth}-fold when it is unpacked: not used "
        "(preprocess.limits.growth)"
    )
