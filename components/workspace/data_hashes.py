"""The hash of the raw data, by a database that remembers unchanged files."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from ..gan.errors import NotThereError
from .files import digest_of, sha256_of

T = TypeVar("T")
# Of the database: the hash that each table remembers.
_TABLES = {"files": "sha256", "md5_of_files": "md5"}


def data_content(data: Path, state: Path, follow_links: bool | None = None) -> str:
    """Hash of the names and bytes of all files under `data`; unchanged files are not read again.

    `state` is the folder that remembers sizes and times, in a database because there may be millions of files, and
    whether folders that links lead to belong to the data (`follow_links`; None: as it was last said).

    Raises:
        NotThereError: there is no file.
    """
    return _remembering(state, lambda database: _data_content(data, database, follow_links))


def md5_of_files(data: Path, state: Path) -> dict[str, str]:
    """MD5, by which DVC knows files, of each file by its path below `data`; unchanged files are not read again."""
    return _remembering(
        state, lambda database: {os.fsdecode(path): digest for path, digest in _hashed(data, database, "md5_of_files")}
    )


class DataCheck(NamedTuple):
    """What was found when every file of the data was read again.

    `changed`: names of files whose bytes are not those that were read last, or cannot be read; `gone`: names of files
    that were there; `present`: how many files have a sha256; `content`: the hash of all, as `data_content` makes it.
    """

    changed: list[str]
    gone: list[str]
    present: Counter[bytes]
    content: str


def check_data(data: Path, state: Path) -> DataCheck:
    """Read every file under `data` again, and compare it with what the database remembers."""
    from tqdm import tqdm

    known = _remembered(state)
    changed, present, content = [], Counter[bytes](), hashlib.sha256()
    files = _files(data, _follows(state / "data-hashes.sqlite"))
    for entry in tqdm(files, desc="data", unit="file", delay=1, disable=None, leave=False):
        path = os.fsencode(entry.path)[len(os.fsencode(data)) + 1 :]
        try:
            digest = sha256_of(Path(entry.path))
        except OSError:
            digest = ""
        present[bytes.fromhex(digest)] += 1
        content.update(b"%s\0%s\n" % (path, digest.encode()))
        if known.pop(path, digest) != digest or not digest:
            changed.append(os.fsdecode(path))
    return DataCheck(changed, [os.fsdecode(path) for path in sorted(known)], present, content.hexdigest())


def _remembered(state: Path) -> dict[bytes, str]:
    """Return the hash of each file that was read, by its path."""
    database = state / "data-hashes.sqlite"
    with suppress(sqlite3.Error):
        if database.exists():
            with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as known:
                rows = known.execute("SELECT path, sha256 FROM files WHERE typeof(path) = 'blob'")
                return {path: sha256 for path, sha256 in rows if _is_hash(sha256)}
    return {}


def file_hashes(data: Path, state: Path) -> bytes:
    """sha256 of each file that `data_content` has seen and that is there still, sorted, 32 bytes each."""
    with closing(sqlite3.connect(f"{(state / 'data-hashes.sqlite').absolute().as_uri()}?mode=ro", uri=True)) as known:
        rows = known.execute("SELECT path, sha256 FROM files WHERE typeof(path) = 'blob'")
        hashes = (sha256 for path, sha256 in rows if _is_hash(sha256) and (data / os.fsdecode(path)).is_file())
        return b"".join(sorted(map(bytes.fromhex, hashes)))


def _remembering(state: Path, work: Callable[[Path], T]) -> T:
    """Do `work` with the database; whatever is wrong with what was remembered, it can be made again."""
    state.mkdir(parents=True, exist_ok=True)
    database = state / "data-hashes.sqlite"
    try:
        return work(database)
    except sqlite3.Error:
        database.unlink(missing_ok=True)
        return work(database)


def _data_content(data: Path, database: Path, follow_links: bool | None) -> str:
    if follow_links is not None and follow_links != _follows(database):
        with closing(sqlite3.connect(database, timeout=60)) as known:
            known.execute("CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value)")
            known.execute("REPLACE INTO settings VALUES ('follow_links', ?)", (int(follow_links),))
            known.commit()
    content, count = hashlib.sha256(), 0
    for path, digest in _hashed(data, database, "files"):
        count += 1
        content.update(b"%s\0%s\n" % (path, digest.encode()))
    if not count:
        raise NotThereError(
            f"there is no data in {data}: run `dvc pull data.dvc`, `ganflow init --data PATH` or `ganflow data fetch`, "
            "or put images there: folders, a zip or tar, Parquet, WebDataset shards or an IDX pair"
        )
    return content.hexdigest()


def _follows(database: Path) -> bool:
    """Whether what links to folders lead to belongs to the data, as it was last said."""
    if not database.exists():
        return False
    with closing(sqlite3.connect(database, timeout=60)) as known, suppress(sqlite3.OperationalError):
        row = known.execute("SELECT value FROM settings WHERE name = 'follow_links'").fetchone()
        return bool(row and row[0])
    return False


def _hashed(data: Path, database: Path, table: str) -> Iterator[tuple[bytes, str]]:
    """Path below `data` and hash of each file, in a fixed order; read only where size or time changed."""
    from tqdm import tqdm

    algorithm = _TABLES[table]
    with closing(sqlite3.connect(database, timeout=60)) as known:
        for name, column in _TABLES.items():
            known.execute(
                f"CREATE TABLE IF NOT EXISTS {name} (path BLOB PRIMARY KEY, size, time, {column}) WITHOUT ROWID"
            )
        count = 0
        files = _files(data, _follows(database))
        bar = tqdm(files, desc="look at data", unit="file", delay=1, disable=None, leave=False)
        for count, entry in enumerate(bar, 1):
            path = os.fsencode(entry.path)[len(os.fsencode(data)) + 1 :]
            stamp = entry.stat().st_size, entry.stat().st_mtime_ns
            found = known.execute(f"SELECT size, time, {algorithm} FROM {table} WHERE path = ?", (path,)).fetchone()
            if found and found[:2] == stamp and _is_hash(found[2]):
                digest = found[2]
            else:
                digest = digest_of(Path(entry.path), algorithm)
                known.execute(f"REPLACE INTO {table} VALUES (?, ?, ?, ?)", (path, *stamp, digest))
            yield path, digest
            if count % 10_000 == 0:
                known.commit()
        _forget_deleted(known, table, data, count)
        known.commit()


def _is_hash(found: object) -> bool:
    """Whether a database, which may come from elsewhere, says what we wrote into it."""
    return isinstance(found, str) and re.fullmatch("[0-9a-f]{32}|[0-9a-f]{64}", found) is not None


def _forget_deleted(known: sqlite3.Connection, table: str, data: Path, count: int) -> None:
    """Remove the rows of files that are not there any more, if there are more rows than the `count` files."""
    if known.execute(f"SELECT count(*) FROM {table}").fetchone()[0] > count:
        paths = (path for (path,) in known.execute(f"SELECT path FROM {table}").fetchall())
        gone = [(path,) for path in paths if not (isinstance(path, bytes) and (data / os.fsdecode(path)).is_file())]
        known.executemany(f"DELETE FROM {table} WHERE path = ?", gone)


def _files(folder: Path | str, follow_links: bool) -> Iterator[os.DirEntry[str]]:
    """All files below `folder` in a fixed order; without recursion, however deep folders lie in each other."""
    waiting, seen = _listed(folder), set[tuple[int, int]]()
    while waiting:
        entry = waiting.pop()
        if entry.is_dir(follow_symlinks=False):
            waiting += _listed(entry.path)
        elif follow_links and entry.is_symlink() and _is_folder(entry):
            # Once each, for links may lead to each other.
            status = entry.stat()
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                waiting += _listed(entry.path)
        elif _is_file(entry):
            yield entry


def _listed(folder: Path | str) -> list[os.DirEntry[str]]:
    """Return what lies in a folder, the last name first; nothing of one whose path is longer than the system takes."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name, reverse=True)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link to itself


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False  # a link to itself
