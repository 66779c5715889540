"""The machine: disks, shared memory, open files and the clock."""

from __future__ import annotations

import resource
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from ...services.address import SERVERS, masked
from .diagnosis import Diagnosis

# Below that much or that share of a disk a training may not find room.
DISK_BYTES, DISK_SHARE = 5e9, 0.05
# Ray's object store and torch's workers lie in shared memory, or else in slow files.
SHARED_BYTES = 256e6
OPEN_FILES = 1024
CLOCK_SECONDS = 60


def disk(folders: Sequence[Path], needed: float = DISK_BYTES, share: float = DISK_SHARE) -> Iterator[Diagnosis]:
    """Free space, once for each disk that these folders lie on."""
    seen = set()
    for folder in folders:
        if not folder.exists() or (device := folder.stat().st_dev) in seen:
            continue
        seen.add(device)
        usage = shutil.disk_usage(folder)
        words = f"{usage.free / 1e9:.1f} GB of {usage.total / 1e9:.0f} are free at {folder}"
        ok = usage.free >= max(needed, share * usage.total)
        yield Diagnosis(
            "disk", ok, words, "" if ok else "make room: `ganflow status --sizes` says what takes how much here"
        )


def shared_memory(folder: Path, needed: float = SHARED_BYTES) -> Diagnosis:
    """Free shared memory."""
    check = "shared memory"
    if not folder.exists():
        return Diagnosis(check, None, f"this system has no {folder}")
    try:
        with tempfile.TemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        remedy = f"make it writable: mount -o remount,rw {folder}; in a container: start it with --shm-size=2g"
        return Diagnosis(check, False, f"{folder} cannot be written ({error.strerror}): Ray does not start", remedy)
    words = f"{free / 1e6:,.0f} MB are free at {folder}"
    if free >= needed:
        return Diagnosis(check, True, words)
    remedy = "in a container: start it with --shm-size=2g; else delete what dead programs left there"
    return Diagnosis(check, False, f"{words}: Ray falls back to files, which are slower", remedy)


def open_files(limit: int) -> Diagnosis:
    """How many files a process may have open."""
    ok = limit == resource.RLIM_INFINITY or limit >= OPEN_FILES
    words = f"a process may open {'any number of' if limit == resource.RLIM_INFINITY else f'{limit:,}'} files"
    if ok:
        return Diagnosis("open files", True, words)
    return Diagnosis("open files", False, words, f"ulimit -n {8 * OPEN_FILES}, before Ray or a server starts")


def address_space(limit: int) -> Diagnosis:
    """Whether the address space of a process is limited, of which Ray and torch take much more than memory."""
    if limit == resource.RLIM_INFINITY:
        return Diagnosis("address space", True, "that of a process is not limited")
    words = f"that of a process is limited to {limit / 1e9:.1f} GB: Ray's processes may not start"
    return Diagnosis("address space", False, words, "ulimit -v unlimited")


def clock(now: float, written: Sequence[Path], environment: Mapping[str, str]) -> Diagnosis:
    """Whether it is later than what was written before, and the same time as at the named servers.

    `now` in seconds since 1970.
    """
    wrong = []
    # The code itself was written before, wherever it came from.
    if now < Path(__file__).stat().st_mtime - 86_400 or time.gmtime(now).tm_year > 2100:
        wrong.append(f"it says {time.strftime('%Y-%m-%d', time.gmtime(now))}")
    for file in written:
        if file.exists() and (ahead := file.stat().st_mtime - now) > CLOCK_SECONDS:
            wrong.append(f"{file.name} was written {ahead:,.0f} s from now")
    for name in SERVERS:
        there = _date(masked(environment.get(name, "")))
        if there is not None and abs(there - now) > CLOCK_SECONDS:
            wrong.append(f"{name}'s server is {abs(there - now):,.0f} s {'ahead' if there > now else 'behind'}")
    if wrong:
        return Diagnosis("clock", False, "; ".join(wrong), "set the clock, or let it be set: timedatectl set-ntp true")
    return Diagnosis("clock", True, f"it says {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime(now))}")


def _date(address: str) -> float | None:
    """Return what time it is at a server that speaks HTTP, in seconds since 1970, if it says so."""
    if not address.startswith(("http://", "https://")):
        return None
    try:
        with urlopen(address, timeout=5) as response:
            said = response.headers["Date"]
    except HTTPError as refusal:
        said = refusal.headers["Date"]
    except (OSError, ValueError):
        return None
    try:
        return parsedate_to_datetime(said).timestamp()
    except (TypeError, ValueError):
        return None
