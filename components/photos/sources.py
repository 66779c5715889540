"""Photos that are to be changed, and masks of them: in files and folders, and at addresses of a storage."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ..gan.errors import NotThereError, UserError
from ..ingest.files.kinds import is_litter, is_promised, kind_of_file
from ..ingest.inbox.arrivals import SETTLED_SECONDS, UNFINISHED, opened_below, ready_names, unfit
from ..services.destination import local_path
from ..services.storage import Storage, StoredFile
from ..workspace.params import Limits


class SourceFile(NamedTuple):
    """A file by its `name` for people and its path `below` the folder that was named.

    `up_to(n)` returns its first n bytes. It raises OSError, or UserError where a storage does not answer.
    """

    name: str
    below: str
    up_to: Callable[[int], bytes]

    def read(self) -> bytes:
        """Return its bytes.

        Raises:
            OSError: it cannot be read.
            UserError: its result could not have its name, it is larger than any picture may be, or the storage does not
                answer.
        """
        if reason := unfit(self.below):
            raise UserError(reason)
        limit = Limits().file_bytes
        content = self.up_to(limit + 1)
        if len(content) > limit:
            raise UserError(f"has more than {limit:,} bytes")
        return content

    @property
    def stem(self) -> str:
        """Its path without the ending, by which its result and its mask are named."""
        return str(Path(self.below).with_suffix(""))


def is_address(place: str) -> bool:
    """Whether a storage is meant, not a path."""
    return "://" in place and local_path(place, Path.cwd()) is None


def photos_at(place: str, left: dict[str, str]) -> list[SourceFile]:
    """List the photo or the photos below the folder or address `place`; why other files are none goes to `left`.

    What lies at an address is told by its name alone.

    Raises:
        NotThereError: there is nothing of this name.
        UserError: the storage does not answer.
    """
    photos = []
    for file in _files_at(place, left):
        if is_address(place):
            kind, why = ("picture" if is_promised(file.below) else "other"), "not a picture by its name"
            if is_litter(file.below):
                continue
        elif (folder := _path(place)).is_dir():
            kind, why = kind_of_file(folder / file.below, file.below)
            if kind == "litter":
                continue
        else:
            # A file that was named is taken for a photo whatever it looks like.
            kind, why = "picture", ""
        if kind == "picture":
            photos.append(file)
        else:
            left[file.name] = why or "not a picture"
    return photos


def masks_at(place: str) -> dict[str, SourceFile]:
    """Return the files below a folder or address by their paths without endings; of a single file it is ''.

    Raises:
        NotThereError: there is nothing of this name.
        UserError: the storage does not answer.
    """
    files = list(_files_at(place, {}))
    if not is_address(place) and not _path(place).is_dir():
        return {"": files[0]}
    # Of several with one name the first.
    return {file.stem: file for file in reversed(files) if not is_litter(file.below)}


def arrived_at(place: str, left: dict[str, str]) -> list[SourceFile]:
    """List the photos below a folder or address that nobody writes to any more; why others are left goes to `left`.

    No link is followed: whoever may put files there must not have others read.

    Raises:
        NotThereError: there is no such folder.
        UserError: the storage does not answer.
    """
    if is_address(place):
        found = [
            _stored(Storage(place), place, name)
            for name, stored in sorted(Storage(place).files().items())
            if _settled(name, stored)
        ]
    else:
        folder = _path(place)
        if not folder.is_dir():
            raise NotThereError(f"there is no folder {place}: create it, or name another one as apply.inbox")
        refused: dict[str, str] = {}
        found = [
            SourceFile(f"{place.rstrip('/')}/{name}", name, partial(_read_below, folder, name))
            for name in ready_names(folder, refused)
        ]
        left |= {f"{place}/{name}": why for name, why in refused.items()}
    for file in found:
        if not is_promised(file.below) and not is_litter(file.below):
            left[file.name] = "not a picture by its name"
    return [file for file in found if is_promised(file.below) and not is_litter(file.below)]


def _settled(name: str, stored: StoredFile) -> bool:
    return not name.endswith(UNFINISHED) and time.time() - stored.time_ns / 1e9 > SETTLED_SECONDS


def _files_at(place: str, left: dict[str, str]) -> Iterator[SourceFile]:
    if is_address(place):
        yield from _files_of_storage(place)
        return
    path = _path(place)
    if path.is_dir():
        for name in _names_below(path, left):
            yield SourceFile(f"{place.rstrip('/')}/{name}", name, partial(_read_file, path / name))
    elif path.is_file():
        yield SourceFile(place, path.name, partial(_read_file, path))
    else:
        raise NotThereError(f"there is no {place}: name photos, or folders of them")


def _files_of_storage(place: str) -> Iterator[SourceFile]:
    storage = Storage(place)
    if names := sorted(storage.sizes()):
        yield from (_stored(storage, place, name) for name in names)
        return
    above, _, last = place.rstrip("/").rpartition("/")
    # The name of a bucket is that of no file.
    if above.endswith("/") or last not in Storage(above).sizes():
        raise NotThereError(f"there is nothing at {place}: name photos, or folders of them")
    yield _stored(Storage(above), above, last)


def _stored(storage: Storage, place: str, name: str) -> SourceFile:
    return SourceFile(f"{place.rstrip('/')}/{name}", name, partial(storage.read, name))


def _names_below(folder: Path, left: dict[str, str]) -> Iterator[str]:
    """Yield the names of the files below a folder, in order; no link to a folder is followed."""
    depth = Limits().depth

    def unread(error: OSError) -> None:
        left[str(error.filename)] = (error.strerror or "cannot be read").lower()

    for above, folders, names in os.walk(folder, onerror=unread):
        folders.sort()
        at = Path(above).relative_to(folder)
        linked = [name for name in folders if Path(above, name).is_symlink()]
        left |= {str(Path(above, name)): "a link to a folder, which is not followed" for name in linked}
        if len(at.parts) >= depth and len(folders) > len(linked):
            left[above] = f"holds more than {depth} folders in one another"
            folders.clear()
        for name in sorted(names):
            yield str(at / name)


def _read_file(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        return file.read(count)


def _read_below(folder: Path, name: str, count: int) -> bytes:
    with opened_below(folder, name) as descriptor, os.fdopen(os.dup(descriptor), "rb") as file:
        return file.read(count)


def _path(place: str) -> Path:
    # As it was named, without following a link: results have its name.
    return (local_path(place, Path.cwd()) if "://" in place else None) or Path(place)
