"""A temporary folder that is this user's alone, with a path that is short enough for the sockets of Ray in it."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

from ..gan.errors import UserError

# A socket's path may have 107 bytes (unix(7)). What is added to the folder: `/r`, Ray's session with date, time and
# process, and `/sockets/plasma_store`; nine more where the name of the folder is one that nobody knows.
_SOCKET_BYTES, _RAY_BYTES = 107, 66 + 9


def own_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return a folder that only this user may enter, made unless it is there.

    Ray itself makes its folders so that everybody may write into them, and so move its sockets away.

    Raises:
        UserError: no temporary folder can be used.
    """
    return _folder((environment.get("RAY_TMPDIR"), environment.get("TMPDIR"), "/tmp", "/var/tmp", "/dev/shm"))


@cache
def _folder(wanted: tuple[str | None, ...]) -> Path:
    places = [Path(place).absolute() for place in wanted if place]
    for place in places:
        own = place / f"ganflow-{os.getuid()}"
        if len(os.fsencode(own)) + _RAY_BYTES > _SOCKET_BYTES or not _is_safe(place):
            continue
        with suppress(OSError):
            own.mkdir(mode=0o700, exist_ok=True)
            if _is_own(own):
                own.chmod(0o700)
                return own
            # Somebody else took the name: one that nobody knows.
            return Path(tempfile.mkdtemp(prefix=f"{own.name}-", dir=place))
    raise UserError(
        f"a folder for temporary files is needed, and none of {', '.join(map(str, places))} can be used: set TMPDIR to "
        "one with a short path that you may write to"
    )


def _is_own(own: Path) -> bool:
    found = own.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


def _is_safe(place: Path) -> bool:
    """Whether nobody else may rename or remove what this user makes there."""
    try:
        mode = place.stat().st_mode
    except OSError:
        return False
    return stat.S_ISDIR(mode) and (not mode & 0o022 or bool(mode & stat.S_ISVTX))
