"""The hash of the raw data, by a database that remembers unchanged files."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from ..gan.errors import UserError
from .files import sha256_of


def data_content(data: Path, state: Path) -> str:
    """Hash of the names and bytes of all files under `data`; unchanged files are not read again.

    `state` is the folder that remembers sizes and times, in a database because there may be millions of files.

    Raises:
        UserError: there is no file.
    """
    state.mkdir(parents=True, exist_ok=True)
    database = state / "data-hashes.sqlite"
    try:
        return _data_content(data, database)
    except sqlite3.Error:
        # Whatever is wrong with what was remembered, it can be made again.
        database.unlink(missing_ok=True)
        return _data_content(data, database)


def changed_data(data: Path, state: Path) -> list[str]:
    """Files under `data` whose bytes are no longer those that were read, though size and time are the same."""
    from tqdm import tqdm

    database = state / "data-hashes.sqlite"
    if not database.exists():
        return []
    changed = []
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as known:
        rows = known.execute("SELECT path, size, time, sha256 FROM files ORDER BY path").fetchall()
    for name, size, time, digest in tqdm(rows, desc="data", unit="file", delay=1, disable=None, leave=False):
        file = data / os.fsdecode(name)
        stat = file.stat() if file.is_file() else None
        if stat and (stat.st_size, stat.st_mtime_ns) == (size, time) and sha256_of(file) != digest:
            changed.append(os.fsdecode(name))
    return changed


def file_hashes(data: Path, state: Path) -> bytes:
    """sha256 of each file that `data_content` has seen and that is there still, sorted, 32 bytes each."""
    with closing(sqlite3.connect(f"{(state / 'data-hashes.sqlite').absolute().as_uri()}?mode=ro", uri=True)) as known:
        rows = known.execute("SELECT path, sha256 FROM files")
        return b"".join(sorted(bytes.fromhex(sha256) for path, sha256 in rows if (data / os.fsdecode(path)).is_file()))


def _data_content(data: Path, database: Path) -> str:
    from tqdm import tqdm

    content, count = hashlib.sha256(), 0
    with closing(sqlite3.connect(database, timeout=60)) as known:
        known.execute("CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, size, time, sha256) WITHOUT ROWID")
        bar = tqdm(_files(data), desc="look at data", unit="file", delay=1, disable=None, leave=False)
        for count, entry in enumerate(bar, 1):
            relative = os.fsencode(entry.path)[len(os.fsencode(data)) + 1 :]
            stamp = entry.stat().st_size, entry.stat().st_mtime_ns
            found = known.execute("SELECT size, time, sha256 FROM files WHERE path = ?", (relative,)).fetchone()
            if found and found[:2] == stamp:
                digest = found[2]
            else:
                digest = sha256_of(Path(entry.path))
                known.execute("REPLACE INTO files VALUES (?, ?, ?, ?)", (relative, *stamp, digest))
            content.update(b"%s\0%s\n" % (relative, digest.encode()))
            if count % 10_000 == 0:
                known.commit()
        known.commit()
    if not count:
        raise UserError(
            f"there is no data in {data}: run `dvc pull data.dvc`, `ganflow init --data PATH` or `ganflow data fetch`, "
            "or put images there: folders, a zip or tar, Parquet, WebDataset shards or an IDX pair"
        )
    return content.hexdigest()


def _files(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    """All files below `folder` in a fixed order."""
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in listed:
        if entry.is_dir(follow_symlinks=False):
            yield from _files(entry.path)
        elif _is_file(entry):
            yield entry


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False  # a link to itself
