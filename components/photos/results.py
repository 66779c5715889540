"""The folder or bucket of what was made of files: the results, and a journal that says which was made of what.

A line of the journal is there before its results, so that a result is never found without it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from pydantic import ValidationError

from ..gan.errors import DamagedError, UserError
from ..gan.options import Options
from ..services.destination import Destination
from ..workspace.files import disk_errors, write_whole

JOURNAL = "apply.jsonl"
# To a bucket the whole journal is written each time, so that results wait for one another.
_WAITING_RESULTS, _WAITING_BYTES = 20, 64 * 2**20


class ResultRow(Options):
    """A line of the journal: the files of a result, the hash of what it was made of, and that of how it was made."""

    result: str
    files: tuple[str, ...]
    input: str
    key: str


class ResultFolder:
    """Results and journal at a place; as a context it writes what waits when it is left."""

    def __init__(self, place: Destination) -> None:
        """Read what is there.

        Raises:
            UserError: it cannot be used.
            DamagedError: the journal is no text.
        """
        self._folder, self._storage = place.folder, place.storage
        if self._folder is not None and self._folder.exists() and not self._folder.is_dir():
            raise UserError(f"{place.named} is a file: name a folder for the results by --out")
        self._there = set() if place.folder else set(place.storage.sizes())
        self._rows = self._read()
        self._waiting: dict[str, bytes] = {}
        self._results = 0

    def __enter__(self) -> ResultFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._write()

    def made(self, result: str) -> ResultRow | None:
        """Return the line of a result, which may not be there."""
        return self._rows.get(result)

    def made_of(self, source: str) -> ResultRow | None:
        """Return the last line of a result of this input."""
        return next((row for row in reversed(self._rows.values()) if row.input == source), None)

    def holds(self, name: str) -> bool:
        """Whether there is a file of this name, or one where it needs a folder, whoever made it."""
        if self._folder is None:
            return name in self._there or name in self._waiting
        folder = self._folder
        above = (folder / part for part in Path(name).parents)
        return os.path.lexists(folder / name) or any(part.exists() and not part.is_dir() for part in above)

    def put(self, row: ResultRow, files: Mapping[str, bytes]) -> None:
        """Add a result: its line, and then its files, each whole or not at all.

        Raises:
            UserError: there is no space left, or the storage does not answer.
        """
        # At the end, where `made_of` finds it as the last.
        self._rows.pop(row.result, None)
        self._rows[row.result] = row
        if self._folder is not None:
            self._append(row)
            for name, content in files.items():
                write_whole(self._folder / name, content)
            return
        self._waiting |= files
        self._results += 1
        if self._results >= _WAITING_RESULTS or sum(map(len, self._waiting.values())) >= _WAITING_BYTES:
            self._write()

    def _write(self) -> None:
        """Write to the bucket what waits."""
        if not self._waiting:
            return
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch, "file")
            lines = "\n".join(row.model_dump_json() for row in self._rows.values())
            for name, content in ({JOURNAL: lines.encode()} | self._waiting).items():
                with disk_errors(file):
                    file.write_bytes(content)
                self._storage.put(file, name)
        self._there |= self._waiting.keys()
        self._waiting, self._results = {}, 0

    def _append(self, row: ResultRow) -> None:
        assert self._folder is not None
        with disk_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / JOURNAL).open("a") as file:
                # After a line that was cut short, too.
                file.write(f"\n{row.model_dump_json()}" if file.tell() else row.model_dump_json())
                file.flush()
                os.fsync(file.fileno())

    def _read(self) -> dict[str, ResultRow]:
        text = ""
        try:
            if self._folder is None:
                text = self._storage.read(JOURNAL).decode() if JOURNAL in self._there else ""
            elif (self._folder / JOURNAL).exists():
                text = (self._folder / JOURNAL).read_text()
        except (OSError, UnicodeDecodeError):
            raise DamagedError(f"{JOURNAL} in the folder of results cannot be read: use another --out") from None
        rows: dict[str, ResultRow] = {}
        for line in text.splitlines():
            # The last one may be cut short by a crash.
            with suppress(ValidationError):
                row = ResultRow.model_validate_json(line)
                rows.pop(row.result, None)
                rows[row.result] = row
        return rows
