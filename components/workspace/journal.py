"""Files of lines of JSON that are only ever appended: the ledger, changes of champions, ticks of drift.

A line is on the disk when `append` returns. What a crash cut off stays a line of its own, which no reader takes for a
record.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from .files import disk_errors, sync_path

_HASH = b', "hash": "'


class Record(BaseModel):
    """What a line says. As it outlives the version that wrote it, keys that this version does not know are left out."""

    model_config = ConfigDict(frozen=True, extra="ignore")


R = TypeVar("R", bound=BaseModel)


class Journal:
    """A file of records. Callers see to it that one process at a time appends."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, described: Mapping[str, object]) -> None:
        """Write a record as the last line.

        Raises:
            UserError: there is no space left.
        """
        self._append(json.dumps(described).encode())

    def records(self, kind: type[R]) -> list[R]:
        """Read the lines that are whole and of this kind, oldest first."""
        found = []
        for line in self._lines():
            try:
                found.append(kind.model_validate_json(line))
            except ValidationError:
                continue
        return found

    def _append(self, line: bytes) -> None:
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            new = not self.path.exists()
            with self.path.open("ab+") as file:
                if file.seek(0, os.SEEK_END):
                    file.seek(-1, os.SEEK_END)
                    if file.read(1) != b"\n":
                        file.write(b"\n")
                file.write(line + b"\n")
                file.flush()
                os.fsync(file.fileno())
            if new:
                sync_path(self.path.parent)

    def _lines(self) -> list[bytes]:
        try:
            return self.path.read_bytes().splitlines()
        except FileNotFoundError:
            return []


class Link(NamedTuple):
    """A line of a chained journal; `text` without its hash, None if the line is not what was written."""

    line: bytes
    text: bytes | None

    @property
    def described(self) -> dict[str, object]:
        """What the line says, with the hash of the line before as `previous`."""
        described: dict[str, object] = json.loads(self.text + b"}") if self.text else {}
        return described

    @property
    def hash(self) -> str:
        return self.line.rpartition(_HASH)[2].removesuffix(b'"}').decode(errors="replace")


class ChainedJournal(Journal):
    """A journal in which a changed, removed or inserted line is noticed.

    Each line ends with the hash of all that stands before it, and names the hash of the line before.
    """

    def append(self, described: Mapping[str, object]) -> None:
        """Write a record as the last line, behind the last whole one.

        Raises:
            UserError: there is no space left.
        """
        whole = [link for link in self.links() if link.text]
        previous = whole[-1].hash if whole else None
        text = json.dumps({**described, "previous": previous})[:-1].encode()
        self._append(_sealed(text))

    def links(self) -> Iterator[Link]:
        """Read every line, oldest first."""
        for line in self._lines():
            text, mark, _ = line.rpartition(_HASH)
            yield Link(line, text if mark and line == _sealed(text) else None)

    def damage(self) -> Iterator[str]:
        """Tell what is wrong with which line; a line that a crash cut off is not."""
        before = None
        for number, link in enumerate(self.links(), 1):
            if link.text is None:
                if link.line.endswith(b'"}'):
                    yield f"line {number} is not what was written"
            else:
                if link.described.get("previous") != before:
                    yield f"what stood before line {number} was changed or removed"
                before = link.hash


def _sealed(text: bytes) -> bytes:
    return text + _HASH + hashlib.sha256(text).hexdigest().encode() + b'"}'
