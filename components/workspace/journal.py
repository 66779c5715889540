"""Files of lines of JSON that are only ever appended: the ledger, changes of champions, ticks of drift.

A line is on the disk when `append` returns. What a crash cut off stays a line of its own, which no reader takes for a
record.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from .files import disk_errors, sync_path

_HASH = b', "hash": "'
# Longer than a line of the largest gallery; what is longer is none of ours, and is not held in memory.
LONGEST_LINE = 2**28


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
        return [record for _, line in self._lines() if (record := _record(kind, line.removesuffix(b"\n")))]

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

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Read each line with its end, and where it begins."""
        with suppress(FileNotFoundError), self.path.open("rb") as file:
            offset = 0
            while line := file.readline(LONGEST_LINE):
                yield offset, line
                offset += len(line)


class Link(NamedTuple):
    """A line of a chained journal; `text` without its hash, None if the line is not what was written.

    `offset`: where it begins; `ended`: whether the end of the line is there.
    """

    line: bytes
    text: bytes | None
    offset: int = 0
    ended: bool = True

    @property
    def described(self) -> dict[str, object]:
        """What the line says, with the hash of the line before as `previous`."""
        return (_object(self.text + b"}") if self.text is not None else None) or {}

    @property
    def hash(self) -> str:
        return self.line.rpartition(_HASH)[2].removesuffix(b'"}').decode(errors="replace")

    @property
    def cut_off(self) -> bool:
        """Whether it is what a crash left of a line: the beginning of an object is no JSON."""
        return self.text is None and not self.line.endswith(b'"}') and _object(self.line) is None

    @classmethod
    def of(cls, line: bytes, offset: int = 0) -> Link:
        """Return a line, with its text if that is what its hash was made of."""
        bare = line.removesuffix(b"\n")
        text, mark, _ = bare.rpartition(_HASH)
        whole = mark and bare == _sealed(text) and _object(text + b"}") is not None
        return cls(bare, text if whole else None, offset, line.endswith(b"\n"))


class Head(Record):
    """How far a chained journal was written: its whole lines, the hash of the last one and of the one before it.

    While the last one is being written, it is not `settled`.
    """

    lines: int
    hash: str
    before: str | None
    settled: bool


class State(NamedTuple):
    """How far a chained journal reaches as it lies there; `torn` if a part of a line follows."""

    lines: int
    hash: str | None
    torn: bool

    def wrong(self, head: Head) -> str | None:
        """Say what is wrong with the end of the journal, if it was written as far as `head` says."""
        if self.hash == head.hash:
            # Which vouches for all before it; what is wrong with a line there is told by its number.
            return None
        # A crash kept the last line, or a part of it, from the disk.
        if (self.lines, self.hash) == (head.lines - 1, head.before) and (self.torn or not head.settled):
            return None
        if self.lines < head.lines:
            return f"only {self.lines} of the {head.lines} lines that were written are there as they were"
        if self.lines == head.lines:
            return "its last line is another one than was written"
        return f"it has {self.lines} lines, of which ganflow wrote {head.lines}"


class Audit:
    """One reading of a chained journal, line by line, and what it finds `wrong`.

    `unchained`: lines from before it was chained.
    """

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.unchained = 0
        self._number, self._lines, self._torn = 0, 0, False
        self._early: list[str] = []
        self._digest = hashlib.sha256()
        self._marked = False
        self._before: str | None = None
        self._second_last: str | None = None

    @property
    def head(self) -> Head | None:
        """How far it was written, if all of it is there."""
        if self._before is None:
            return None
        return Head(lines=self._lines, hash=self._before, before=self._second_last, settled=True)

    @property
    def state(self) -> State:
        """How far the journal reaches."""
        return State(self._lines, self._before, self._torn)

    def see(self, link: Link) -> None:
        """Look at the next line."""
        self._number += 1
        self._torn = link.text is None and not link.ended
        if link.text is None:
            self._see_unsealed(link)
            return
        said = link.described.get("previous")
        broken = f"what stood before line {self._number} was changed or removed"
        if self._lines:
            self.wrong += [broken] if said != self._before else []
        elif self._number > 1 and said == self._digest.hexdigest():
            self.unchained = len(self._early)
        else:
            self.wrong += self._early + ([broken] if said is not None else [])
        self._lines, self._before, self._second_last = self._lines + 1, link.hash, self._before

    def conclude(self, head: Head | None) -> list[str]:
        """Return what is wrong, after the last line, with a journal that was written as far as `head` says."""
        if not self._lines:
            if head or self._marked:
                self.wrong += self._early
            else:
                self.unchained = len(self._early)
        if head and (wrong := self.state.wrong(head)):
            self.wrong.append(wrong)
        return self.wrong

    def _see_unsealed(self, link: Link) -> None:
        if not self._lines:
            self._digest.update(link.line + b"\n")
        if not link.cut_off:
            changed = f"line {self._number} is not what was written"
            (self.wrong if self._lines else self._early).append(changed)
            self._marked |= _HASH in link.line


class ChainedJournal(Journal):
    """A journal in which a changed, removed or inserted line is noticed.

    Each line ends with the hash of all that stands before it, and names the hash of the line before. How many lines
    there are, and the hash of the last one, stands in a `witness` in another folder too, by which the removal of the
    last lines is noticed.

    Lines from before a journal was chained are accepted at its beginning. The first chained line names the hash of
    all of them.
    """

    def __init__(self, path: Path, witness: Path | None = None) -> None:
        super().__init__(path)
        self.witness = witness

    def append(self, described: Mapping[str, object]) -> None:
        """Write a record as the last line, behind the last whole one.

        Raises:
            UserError: there is no space left.
        """
        self.write(described)

    def write(self, described: Mapping[str, object], known: Head | None = None) -> Link:
        """Write a record as `append` does; the line as it stands there.

        `known`: how far the journal was written, for where there is no witness any more.

        Raises:
            UserError: there is no space left.
        """
        state, head = self._state(), self.head() or known
        previous = state.hash
        if head and self.path.exists() and state.wrong(head):
            # Where lines are gone, what follows shows it for good.
            previous = head.hash
        elif previous is None:
            previous = self._digest_of_unchained()
        line = _sealed(json.dumps({**described, "previous": previous})[:-1].encode())
        written = Head(lines=state.lines + 1, hash=Link.of(line).hash, before=state.hash, settled=False)
        self._bear_witness(written)
        self._append(line)
        self._bear_witness(written.model_copy(update={"settled": True}))
        return Link.of(line, self.path.stat().st_size - len(line) - 1)

    def links(self) -> Iterator[Link]:
        """Read every line, oldest first."""
        for offset, line in self._lines():
            yield Link.of(line, offset)

    def at(self, place: int) -> Link:
        """Read the line that begins there; one without text if none does."""
        if not 0 <= place < self.path.stat().st_size:
            return Link(b"", None)
        with self.path.open("rb") as file:
            file.seek(place)
            return Link.of(file.readline(LONGEST_LINE), place)

    def newest(self, kind: type[R]) -> Iterator[R]:
        """Read the lines of this kind, newest first, as far as the chain holds from its end on."""
        head, expected, chained = self.head(), None, False
        for link in self._links_backward():
            if link.cut_off:
                continue
            if link.text is None:
                # From before the journal was chained, if what follows vouches for it.
                if expected == self._digest_of_unchained() if chained else head is None:
                    old = [record for old in self._unchained() if (record := _record(kind, old.line))]
                    yield from reversed(old)
                return
            if link.hash != expected if chained else head and link.hash not in (head.hash, head.before):
                return
            said = link.described.get("previous")
            expected, chained = said if isinstance(said, str) else None, True
            if record := _record(kind, link.text + b"}"):
                yield record

    def damage(self) -> Iterator[str]:
        """Tell what is wrong with which line; a line that a crash cut off is not."""
        yield from self.audit().conclude(self.head())

    def audit(self) -> Audit:
        """Read every line again."""
        audit = Audit()
        for link in self.links():
            audit.see(link)
        return audit

    def head(self) -> Head | None:
        """Return what the witness says, if there is one that can be read."""
        if self.witness is None:
            return None
        try:
            return Head.model_validate_json(self.witness.read_bytes())
        except (OSError, ValidationError):
            return None

    def _state(self) -> State:
        """Return how far it reaches: by the witness, if it tells of the last line that is there."""
        last, head = next(self._links_backward(), None), self.head()
        if last and last.text is not None and head and last.hash == head.hash:
            return State(head.lines, head.hash, torn=False)
        return self.audit().state

    def _bear_witness(self, head: Head) -> None:
        if self.witness is None:
            return
        with disk_errors(self.witness):
            self.witness.parent.mkdir(parents=True, exist_ok=True)
            staged = self.witness.with_suffix(".tmp")
            with staged.open("wb") as file:
                file.write(head.model_dump_json().encode())
                if not head.settled:
                    file.flush()
                    os.fsync(file.fileno())
            staged.replace(self.witness)

    def _unchained(self) -> Iterator[Link]:
        """Read the lines before the first that is chained."""
        for link in self.links():
            if link.text is not None:
                return
            yield link

    def _digest_of_unchained(self) -> str | None:
        """Hash of the lines before the first that is chained; None if there are none."""
        digest, there = hashlib.sha256(), False
        for link in self._unchained():
            digest.update(link.line + b"\n")
            there = True
        return digest.hexdigest() if there else None

    def _links_backward(self, block: int = 2**16) -> Iterator[Link]:
        """Read every line, newest first."""
        with suppress(FileNotFoundError), self.path.open("rb") as file:
            at, rest = file.seek(0, os.SEEK_END), b""
            while at and len(rest) < LONGEST_LINE:
                start = max(0, at - max(block, len(rest)))
                file.seek(start)
                first, *whole = (file.read(at - start) + rest).split(b"\n")
                yield from (Link.of(line) for line in reversed(whole) if line)
                at, rest = start, first
            if rest:
                yield Link.of(rest)


def _sealed(text: bytes) -> bytes:
    return text + _HASH + hashlib.sha256(text).hexdigest().encode() + b'"}'


def _object(text: bytes) -> dict[str, object] | None:
    """Return the JSON object that `text` is, if it is one."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _record(kind: type[R], text: bytes) -> R | None:
    try:
        return kind.model_validate_json(text)
    except ValidationError:
        return None
