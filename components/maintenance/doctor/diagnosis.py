"""What a check found, and what mends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Diagnosis(NamedTuple):
    """What a check found; `ok` is None where it does not apply, and `remedy` says what to do where it is False."""

    check: str
    ok: bool | None
    words: str
    remedy: str = ""


def some(found: Sequence[str], many: int = 5) -> str:
    """Return the first of what was found, and whether there is more."""
    return ", ".join(found[:many]) + (", ..." if len(found) > many else "")
