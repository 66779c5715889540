"""New files in a bucket."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from contextlib import suppress
from pathlib import Path

from ...gan.errors import UserError
from ...services.storage import Storage, StoredFile
from ...workspace.files import sha256_of
from ...workspace.text import printable
from ...workspace.workspace import Workspace
from .arrivals import SETTLED_SECONDS, UNFINISHED, Arrived, unfit

# So much clocks of two machines may differ.
FUTURE_SECONDS = 60


class Bucket:
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
            if reason := unfit(name):
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
