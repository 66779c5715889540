"""What the parts of the platform say: a file for each, which is only added to, and bounded while it is written."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from components.workspace.workspace import Workspace

# Of a log, and of what stood in it before: at most twice so much is on the disk.
MAX_BYTES = 10_000_000


def log_of(workspace: Workspace, name: str) -> Path:
    """Where the part, or `runs`, or the supervisor as `platform`, writes what it has to say."""
    return workspace.state / "platform" / f"{name}.log"


def bound(workspace: Workspace, most: int = MAX_BYTES) -> None:
    """Put what stands in a log that has grown too long aside, as NAME.log.1, in place of what was there before.

    The file itself stays, because its writers hold it open; they append, so that emptying it is safe.
    """
    for log in log_of(workspace, "platform").parent.glob("*.log"):
        with suppress(OSError):
            if log.stat().st_size > most:
                # A full disk is a reason to empty it all the more.
                with suppress(OSError):
                    _keep_end(log, most)
                with log.open("r+b") as opened:
                    opened.truncate()


def _keep_end(log: Path, most: int) -> None:
    aside = log.with_name(f"{log.name}.1")
    with log.open("rb") as grown, aside.open("wb") as kept:
        grown.seek(-min(most, log.stat().st_size), 2)
        shutil.copyfileobj(grown, kept)


def last_line(log: Path, since: int) -> str:
    """Return the last line that was written to a log since it was `since` bytes long; "" if there is none."""
    with suppress(OSError), log.open("rb") as opened:
        size = opened.seek(0, 2)
        # Emptied meanwhile: all that it holds is new.
        opened.seek(max(since if since <= size else 0, size - 10_000))
        lines = opened.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""
    return ""
