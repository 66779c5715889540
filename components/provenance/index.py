"""An index of the ledger: where the entry with this key stands, or the gallery with this picture.

It is a database beside the ledger that can be made again from it at any time, and is where the ledger is no longer the
file that was indexed. An answer is always read from the ledger itself, from a line that is what was written.
"""

from __future__ import annotations

import json
import re
import sqlite3
import weakref
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from typing import Any, NamedTuple

from filelock import FileLock
from pydantic import TypeAdapter, ValidationError
from tqdm import tqdm

from ..workspace.journal import Audit, ChainedJournal, Head, Link, State
from .entries import AnyEntry, DatasetEntry, GalleryEntry, RegistrationEntry, VerdictEntry

_ENTRY: TypeAdapter[AnyEntry] = TypeAdapter(AnyEntry)
# `place` is where a line begins. Of the hash of a picture the first eight bytes.
_SCHEMA = (
    "CREATE TABLE terms (role TEXT NOT NULL, value TEXT NOT NULL, place INTEGER NOT NULL, "
    "PRIMARY KEY (role, value, place)) WITHOUT ROWID",
    "CREATE TABLE pictures (pixels INTEGER NOT NULL, place INTEGER NOT NULL, PRIMARY KEY (pixels, place)) "
    "WITHOUT ROWID",
    "CREATE TABLE ledger (size INTEGER, time INTEGER, lines INTEGER, hash TEXT, torn INTEGER, head TEXT, wrong TEXT)",
)
_NAMED = "named"


class Known(NamedTuple):
    """What the index says of the whole ledger: how far it reaches, what is wrong with its lines, and its head then."""

    state: State
    wrong: tuple[str, ...]
    head: Head | None


class Index:
    """The index of a ledger; `lock` is held by whoever writes either of them."""

    def __init__(self, journal: ChainedJournal) -> None:
        self._journal = journal
        self._file = journal.path.with_suffix(".sqlite")
        self.lock = FileLock(journal.path.with_suffix(".lock"))
        self._open: sqlite3.Connection | None = None

    def find(self, role: str, value: str) -> list[int]:
        """Where the lines begin that have this value in this role, newest first."""
        query = "SELECT place FROM terms WHERE role = ? AND value = ? ORDER BY place DESC"
        return self._places(query, role, value)

    def find_prefix(self, role: str, start: str) -> list[int]:
        """Where the lines begin whose value in this role begins like this, oldest first."""
        query = "SELECT place FROM terms WHERE role = ? AND value >= ? AND value < ? ORDER BY place"
        return self._places(query, role, start, f"{start}\U0010ffff")

    def find_picture(self, pixels: str) -> list[int]:
        """Where the galleries begin that may have a picture with this hash, newest first."""
        query = "SELECT place FROM pictures WHERE pixels = ? ORDER BY place DESC"
        return self._places(query, _start_of(pixels))

    def values(self, role: str) -> list[str]:
        """Every value of a role."""
        return [value for (value,) in self._rows("SELECT DISTINCT value FROM terms WHERE role = ?", role)]

    def named(self, names: Iterable[str]) -> set[str]:
        """Return those of these hashes, keys and ids that stand in the ledger."""
        if not self._journal.path.exists():
            return set()
        # Once for all: to see that the index is that of the ledger takes longer than to look into it.
        ask, query = self._fresh().execute, "SELECT 1 FROM terms WHERE role = ? AND value = ? LIMIT 1"
        return {name for name in names if ask(query, (_NAMED, name)).fetchone()}

    def known(self) -> Known:
        """Return what was found when the lines were read last."""
        rows = self._rows("SELECT lines, hash, torn, head, wrong FROM ledger")
        return _read_known(rows[0]) if rows else Known(State(0, None, torn=False), (), None)

    def add(self, link: Link, entry: AnyEntry, known: Known) -> None:
        """Note a line that was appended just now to the ledger that was `known`; `lock` is held."""
        if link.described.get("previous") != known.state.hash:
            # Something is wrong there, which is found when the index is made again.
            return
        # What is lost of the index is made again.
        with suppress(sqlite3.Error), closing(sqlite3.connect(self._file, timeout=60)) as database, database:
            _insert(database, link, entry)
            state = State(known.state.lines + 1, link.hash, torn=False)
            _describe(database, self._journal, state, json.dumps(known.wrong), self._journal.head())

    def forget(self) -> None:
        """Remove the index."""
        self._close()
        self._file.unlink(missing_ok=True)

    def _places(self, query: str, *values: str | int) -> list[int]:
        # Of a workspace from elsewhere they may be anything.
        return [place for (place,) in self._rows(query, *values) if isinstance(place, int)]

    def _rows(self, query: str, *values: str | int) -> list[Any]:
        if not self._journal.path.exists():
            return []
        return self._fresh().execute(query, values).fetchall()

    def _fresh(self) -> sqlite3.Connection:
        """Return the index of the ledger as it is now; a temporary one where none can be written."""
        if self._open is not None and self._is_fresh(self._open):
            return self._open
        self._close()
        if (database := self._opened()) is None:
            try:
                with self.lock:
                    # Whoever held the lock may have made it.
                    if (database := self._opened()) is None:
                        self._make_again()
                        database = self._opened()
            except (OSError, sqlite3.Error):
                database = None
        if database is None:
            database = sqlite3.connect("")
            _fill(database, self._journal, None)
        self._open = database
        self._end = weakref.finalize(self, database.close)
        return database

    def _opened(self) -> sqlite3.Connection | None:
        """Open the index, if it is that of the ledger as it is now."""
        if not self._file.exists():
            return None
        with suppress(sqlite3.Error):
            database = sqlite3.connect(f"{self._file.absolute().as_uri()}?mode=ro", uri=True, timeout=60)
            if self._is_fresh(database):
                return database
            database.close()
        return None

    def _is_fresh(self, database: sqlite3.Connection) -> bool:
        try:
            # Of a workspace from elsewhere nothing but these tables is used.
            schema = {sql for (sql,) in database.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}
            if schema != {*_SCHEMA}:
                return False
            (row,) = database.execute("SELECT lines, hash, torn, head, wrong FROM ledger").fetchall()
            _read_known(row)
            return bool(database.execute("SELECT size, time FROM ledger").fetchone() == _stamp(self._journal))
        except (sqlite3.Error, OSError, ValueError):
            return False

    def _close(self) -> None:
        if self._open is not None:
            self._end()
            self._open = None

    def _make_again(self) -> None:
        head = self._last_head()
        staged = self._file.with_suffix(".tmp")
        staged.unlink(missing_ok=True)
        try:
            with closing(sqlite3.connect(staged)) as database:
                database.execute("PRAGMA journal_mode = OFF")
                database.execute("PRAGMA synchronous = OFF")
                _fill(database, self._journal, head)
            # It would be taken for one of the new file.
            self._file.with_name(f"{self._file.name}-journal").unlink(missing_ok=True)
            staged.replace(self._file)
        finally:
            staged.unlink(missing_ok=True)

    def _last_head(self) -> Head | None:
        """Return how far the ledger was written, as the index says that is no longer that of the ledger."""
        if not self._file.exists():
            return None
        with (
            suppress(sqlite3.Error, ValueError),
            closing(sqlite3.connect(f"{self._file.absolute().as_uri()}?mode=ro", uri=True)) as database,
        ):
            for (head,) in database.execute("SELECT head FROM ledger WHERE head IS NOT NULL"):
                return Head.model_validate_json(head)
        return None


def read_entry(link: Link) -> AnyEntry | None:
    """Return what a line says, with the place where it begins; None if it is not what was written, or not known."""
    try:
        entry = _ENTRY.validate_python(link.described.get("entry"))
    except ValidationError:
        return None
    return entry.model_copy(update={"place": link.offset})


def unreadable(number: int) -> str:
    """Say that a whole line says nothing that this version knows."""
    return f"line {number} is of another version of ganflow, which cannot be read"


def _read_known(row: tuple[Any, ...]) -> Known:
    """Return what a row of the table `ledger` says.

    Raises:
        ValueError: it is none that was written by `_describe`.
    """
    lines, digest, torn, head, wrong = row
    state = TypeAdapter(State).validate_python({"lines": lines, "hash": digest, "torn": bool(torn)}, strict=True)
    found = TypeAdapter(tuple[str, ...]).validate_json(wrong if isinstance(wrong, str) else "")
    return Known(state, found, None if head is None else Head.model_validate_json(head))


def _fill(database: sqlite3.Connection, journal: ChainedJournal, last_head: Head | None) -> None:
    """Index a ledger from its first line on."""
    for statement in _SCHEMA:
        database.execute(statement)
    stamp, audit, unknown = _stamp(journal), Audit(), []
    with database:
        bar = tqdm(total=stamp[0], desc="index the ledger", unit="B", unit_scale=True, delay=1, disable=None)
        with bar:
            for number, link in enumerate(journal.links(), 1):
                audit.see(link)
                bar.update(len(link.line) + 1)
                if link.text is None:
                    continue
                if entry := read_entry(link):
                    _insert(database, link, entry)
                else:
                    unknown.append(unreadable(number))
        wrong = audit.conclude(None)
        # From now on the index tells, where nothing told yet.
        head = journal.head() or last_head or audit.head
        _describe(database, journal, audit.state, json.dumps(wrong + unknown), head, stamp)


def _insert(database: sqlite3.Connection, link: Link, entry: AnyEntry) -> None:
    terms = {(role, value, link.offset) for role, value in _terms(link, entry)}
    database.executemany("INSERT OR IGNORE INTO terms VALUES (?, ?, ?)", terms)
    if isinstance(entry, GalleryEntry):
        pictures = [(_start_of(picture.pixels), link.offset) for picture in entry.facts.pictures]
        database.executemany("INSERT OR IGNORE INTO pictures VALUES (?, ?)", pictures)


def _describe(
    database: sqlite3.Connection,
    journal: ChainedJournal,
    state: State,
    wrong: str,
    head: Head | None,
    stamp: tuple[int, int] | None = None,
) -> None:
    database.execute("DELETE FROM ledger")
    said = None if head is None else head.model_dump_json()
    row = (*(stamp or _stamp(journal)), state.lines, state.hash, state.torn, said, wrong)
    database.execute("INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?)", row)


def _terms(link: Link, entry: AnyEntry) -> Iterator[tuple[str, str]]:
    """Yield by what an entry is found."""
    kind = entry.kind
    yield f"{kind} key", entry.key
    yield f"{kind} content", entry.content
    for parent, content in entry.parents.items():
        yield f"{kind} of {parent}", content
    match entry:
        case DatasetEntry():
            yield "dataset source", entry.facts.source
            if entry.facts.dvc:
                yield "dataset dvc", entry.facts.dvc
        case RegistrationEntry():
            yield "registration name", entry.facts.name
            yield "registration model_key", entry.facts.model_key
            if entry.facts.tracking != "embedded":
                yield "registered elsewhere", entry.facts.model_key
        case VerdictEntry():
            yield "verdict version", version_term(entry.facts.name, entry.facts.challenger)
    said: Any = link.described["entry"]
    if isinstance(entry, GalleryEntry):
        # Of pictures nothing lies in the workspace that has their hash for a name.
        said = {**said, "facts": {name: fact for name, fact in said["facts"].items() if name != "pictures"}}
    for name in re.findall(r"[0-9a-f]{16,}", json.dumps(said)):
        yield _NAMED, name


def version_term(name: str, version: int) -> str:
    """By what a verdict on a version is found."""
    return f"{version} {name}"


def _start_of(pixels: str) -> int:
    try:
        return int.from_bytes(bytes.fromhex(pixels[:16]), "big", signed=True)
    except ValueError:
        return 0


def _stamp(journal: ChainedJournal) -> tuple[int, int]:
    """Size and time of a ledger, by which a change is known."""
    stat = journal.path.stat()
    return stat.st_size, stat.st_mtime_ns
