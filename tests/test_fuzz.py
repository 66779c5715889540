"""A bounded run of `tests/fuzz.py`: the same inputs every time."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.gan.errors import UserError
from components.ingest.decoding import decoded
from tests.fuzz import inputs, readers
from tests.fuzzing.pictures import OPTIONS, PICTURES
from tests.fuzzing.reader import Reader

INPUTS = 60


@pytest.mark.parametrize("reader", readers(), ids=lambda reader: reader.name)
def test_no_input_ends_in_a_traceback(reader: Reader) -> None:
    inputs(reader, INPUTS, seed=1)
    assert reader.inputs > INPUTS
    assert not reader.tracebacks.keys()


@pytest.mark.parametrize("kind", [kind for kind in PICTURES if kind != "npy"])
def test_the_undamaged_inputs_are_pictures(kind: str) -> None:
    """Else nothing behind the first check would ever be reached."""
    for content in PICTURES[kind]():
        assert not [made for made in decoded(content, OPTIONS) if isinstance(made, str)]


def test_a_traceback_is_found(tmp_path: Path) -> None:
    def fails(content: bytes, folder: Path) -> None:
        if content[:1] != b"a":
            raise ValueError("of an input")
        raise UserError("told")

    reader = Reader("fails", lambda: [b"abc"], fails)
    inputs(reader, 200, seed=0)
    (found,) = reader.tracebacks
    assert "ValueError" in found and "of an input" in found
