"""Where pictures may be written: one answer for a path, an address and a link, whoever asks."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from ..gan.errors import UserError
from ..workspace.workspace import Workspace
from .storage import Storage

_NOT_FOR_PICTURES = ("data", "artifacts", "mlruns", ".ganflow", ".dvc", ".git")


class Destination(NamedTuple):
    """A folder or bucket that pictures may go to, as the user `named` it; `folder` where it is one of this machine."""

    named: str
    storage: Storage
    folder: Path | None

    @classmethod
    def of(cls, place: str, workspace: Workspace, others: Iterable[str] = ()) -> Destination:
        """Return where `place` leads, relative to the workspace.

        `others`: folders and addresses that something else is kept in, such as raw data.

        Raises:
            UserError: it is no place, or one that something else is kept in.
        """
        folder = local_path(place, workspace.root)
        if folder is None:
            for other in others:
                if _lies_in_bucket(place, other):
                    raise UserError(f"{place} lies in {other}, which is not for pictures: choose another place")
            return cls(place, Storage(place), None)
        workspaces = [workspace.root, *(above for above in folder.parents if (above / "params.yaml").is_file())]
        own = [root / name for root in workspaces for name in _NOT_FOR_PICTURES]
        elsewhere = [path for other in others if (path := local_path(other, workspace.root))]
        for kept in (*own, *elsewhere):
            if _lies_in(folder, kept):
                name = f"{kept.name}/" if kept in own else str(kept)
                raise UserError(f"{place} lies in {name}, which is not for pictures: choose another folder")
        return cls(place, Storage(str(folder)), folder)

    def files(self) -> dict[str, int]:
        """Bytes of each file that is there; folders and links of a folder count too, by their name and a `/`.

        Raises:
            UserError: it cannot be looked at.
        """
        if self.folder is None:
            return self.storage.sizes()
        try:
            with os.scandir(self.folder) as entries:
                return dict(map(_described, entries))
        except FileNotFoundError:
            return {}
        except OSError:
            # Which says what is wrong.
            return self.storage.sizes()


def _described(entry: os.DirEntry[str]) -> tuple[str, int]:
    if entry.is_file(follow_symlinks=False):
        return entry.name, entry.stat(follow_symlinks=False).st_size
    return f"{entry.name}/", 1


def local_path(place: str, root: Path) -> Path | None:
    """Return the path that `place` names, without links and `..`; None if it is an address elsewhere.

    Raises:
        UserError: it is an address of a file on another machine, or no path.
    """
    scheme, mark, rest = place.partition("://")
    if not mark:
        try:
            # By its first letter: a path forgets that it was written as ./~
            return _resolved(root / (Path(place).expanduser() if place.startswith("~") else place), place)
        except RuntimeError:
            raise UserError(f"{place}: there is no such user; write ./{place} for a folder of that name") from None
    if scheme.lower() != "file":
        return None
    host, slash, path = rest.partition("/")
    if host not in ("", "localhost") or not slash:
        raise UserError(f"{place} is no file of this machine: write a path")
    return _resolved(Path(unquote(f"/{path}")), place)


def _resolved(path: Path, place: str) -> Path:
    try:
        return path.resolve()
    # An encoded zero byte, and letters that are none.
    except ValueError:
        raise UserError(f"{place} is no path: write one without such characters") from None


def _lies_in(folder: Path, kept: Path) -> bool:
    """Whether a folder is `kept` or below it, by its path or, where names differ, as the file system sees it."""
    if folder.is_relative_to(kept.resolve()):
        return True
    return kept.exists() and any(above.exists() and above.samefile(kept) for above in (folder, *folder.parents))


def lies_in(place: Destination, other: str) -> bool:
    """Whether a place is the folder or address `other`, or lies below it."""
    if place.folder is None:
        return _lies_in_bucket(place.named, other)
    folder = local_path(other, Path.cwd())
    return folder is not None and folder.is_dir() and _lies_in(place.folder, folder)


def _lies_in_bucket(place: str, other: str) -> bool:
    """Whether an address is that of `other` or below it."""
    ours, theirs = (_parts(address) for address in (place, other))
    return "://" in other and ours[: len(theirs)] == theirs


def _parts(address: str) -> list[str]:
    scheme, _, rest = address.partition("?")[0].partition("://")
    host, _, path = rest.partition("/")
    path = posixpath.normpath(f"/{host.rpartition('@')[2]}/{path}")
    return [scheme.lower(), *filter(None, path.split("/"))]
