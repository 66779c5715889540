"""The database of hashes of the raw data: what a stranger wrote into it is not used."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from components.workspace.data_hashes import check_data, data_content, file_hashes, md5_of_files


@pytest.mark.parametrize("digest", [None, 5, b"\xff", "no hash", "", "0" * 63])
@pytest.mark.parametrize("path", [None, "a", 5])
def test_values_that_are_no_hashes_or_paths_are_read_again(tmp_path: Path, digest: object, path: object) -> None:
    data, state = tmp_path / "data", tmp_path / "state"
    data.mkdir()
    (data / "a").write_bytes(b"x")
    content, md5 = data_content(data, state), md5_of_files(data, state)
    with closing(sqlite3.connect(state / "data-hashes.sqlite")) as database, database:
        for table, column in (("files", "sha256"), ("md5_of_files", "md5")):
            database.execute(f"UPDATE {table} SET {column} = ?", (digest,))
            if path is not None:
                database.execute(f"INSERT INTO {table} VALUES (?, 1, 1, ?)", (path, "0" * 64))
    assert check_data(data, state).changed == []
    assert (data_content(data, state), md5_of_files(data, state)) == (content, md5)
    assert file_hashes(data, state) == hashlib.sha256(b"x").digest()
    assert check_data(data, state)[:2] == ([], [])
