"""The photographs of landscapes in Debian's package endless-sky-data, installed or as a .deb, with their licences."""

from __future__ import annotations

import csv
import fnmatch
import hashlib
import lzma
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple, cast

from ...gan.errors import UserError

INSTALLED = Path("/usr/share/games/endless-sky")
PHOTOS, COPYRIGHT = "images/land/", "copyright"
# Where the package puts both, below the root of a system.
_IN_PACKAGE = ("usr/share/games/endless-sky/", "usr/share/doc/endless-sky-data/")
_PHOTO_BYTES, _COPYRIGHT_BYTES = 16 * 2**20, 2**20
# Entries of an archive that are looked at.
_ENTRIES = 100_000
_HASHES = Path(__file__).with_suffix(".sha256")


class _Licence(NamedTuple):
    """A paragraph of a copyright file in Debian's format: patterns of paths, and what holds for them."""

    patterns: tuple[str, ...]
    copyright: str
    licence: str
    comment: str


def collect(source: str | None, out: Path) -> str:
    """Copy the photographs that are known by their hash to `out`, with `LICENSES.csv`; return what was done.

    `source`: a .deb of the package, or a folder that has what it installs; None: where it is installed. What is not
    known is named in `OTHERS.txt`.

    Raises:
        UserError: `source` is no such package, or is damaged.
    """
    lines = (line.partition("  ") for line in _HASHES.read_text().splitlines())
    known = {name: digest for digest, _, name in lines}
    place = _place(source)
    photos: set[str] = set()
    others: dict[str, str] = {}
    licences: list[_Licence] = []
    with _files(place) as files:
        for name, content in files:
            if name == COPYRIGHT:
                licences = _licences(content.decode("utf-8", "replace"))
                continue
            photo = name.removeprefix(PHOTOS)
            if known.get(photo) == hashlib.sha256(content).hexdigest():
                (out / photo).write_bytes(content)
                photos.add(photo)
            else:
                others[photo] = "another version of it" if photo in known else "not known"
    if not photos:
        raise UserError(f"{place} has none of the photographs of endless-sky-data: {_HINT}")
    if not licences:
        raise UserError(f"{place} has no copyright file, by which each photograph has its licence: {_HINT}")
    _write_licences(sorted(photos), licences, out)
    missing = known.keys() - photos - others.keys()
    others |= dict.fromkeys(missing, "is not there")
    if others:
        listed = "".join(f"{name}: {why}\n" for name, why in sorted(others.items()))
        (out / "OTHERS.txt").write_text(f"Photographs of the package that were not taken:\n\n{listed}")
    told = f"{len(photos)} photographs, with LICENSES.csv"
    return f"{told}; {len(others)} others, which OTHERS.txt names" if others else told


_HINT = "install it (apt install endless-sky-data), or name its .deb by --from"


def _place(source: str | None) -> Path:
    if source is not None and re.match(r"[a-z]+://", source):
        raise UserError(f"--from {source}: name a folder or the .deb of endless-sky-data")
    place = INSTALLED if source is None else Path(source).absolute()
    if not place.exists():
        raise UserError(f"there is no {place}: {_HINT}")
    return place


@contextmanager
def _files(place: Path) -> Iterator[Iterator[tuple[str, bytes]]]:
    """Give the photographs and the copyright file, by their names in the package.

    Raises:
        UserError: the file is no .deb, or is damaged.
    """
    if place.is_dir():
        yield _in_folder(place)
        return
    with place.open("rb") as deb:
        try:
            yield _in_deb(deb)
        except (tarfile.TarError, lzma.LZMAError, EOFError, ValueError, OSError) as error:
            raise UserError(f"{place} is no .deb, or is damaged ({error}): {_HINT}") from None


def _in_folder(place: Path) -> Iterator[tuple[str, bytes]]:
    """Yield what lies in the folder of the game's data, or in that of an unpacked package."""
    root = next((place / below for below in _IN_PACKAGE if (place / below / PHOTOS).is_dir()), place)
    for copyright_file in (root / COPYRIGHT, root.parents[1] / "doc" / "endless-sky-data" / COPYRIGHT):
        if copyright_file.is_file():
            yield COPYRIGHT, copyright_file.read_bytes()[:_COPYRIGHT_BYTES]
            break
    for path in sorted((root / PHOTOS).glob("*")) if (root / PHOTOS).is_dir() else []:
        if path.is_file() and path.stat().st_size <= _PHOTO_BYTES:
            yield PHOTOS + path.name, path.read_bytes()


def _in_deb(deb: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """Yield what lies in the archive of data of a package (deb(5))."""
    with tarfile.open(fileobj=_data_of(deb), mode="r|*") as tar:
        for number, member in enumerate(tar):
            if number > _ENTRIES:
                raise ValueError("too many entries")
            name = member.name.removeprefix("./")
            below = next((name.removeprefix(root) for root in _IN_PACKAGE if name.startswith(root)), "")
            wanted = below == COPYRIGHT or (below.startswith(PHOTOS) and "/" not in below.removeprefix(PHOTOS))
            if wanted and member.isreg() and member.size <= _PHOTO_BYTES:
                yield below, cast(IO[bytes], tar.extractfile(member)).read()


def _data_of(deb: BinaryIO) -> BinaryIO:
    """Return the file at the beginning of its member data.tar (ar(5))."""
    if deb.read(8) != b"!<arch>\n":
        raise ValueError("it does not begin as one")
    while len(header := deb.read(60)) == 60:
        name, size = header[:16].decode("ascii", "replace").strip().rstrip("/"), int(header[48:58])
        if name.startswith("data.tar"):
            if name.endswith(".zst"):
                raise ValueError("its data are packed by zstd: unpack it by dpkg-deb -x, and name that folder")
            return deb
        deb.seek(size + size % 2, 1)
    raise ValueError("it has no data")


def _licences(text: str) -> list[_Licence]:
    """Read the paragraphs of a copyright file (Debian's machine-readable format 1.0) that name files."""
    found = []
    for paragraph in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        for name, value in re.findall(r"^([A-Za-z-]+):((?:.*)(?:\n[ \t].*)*)", paragraph, re.M):
            fields[name.lower()] = value.strip()
        if "files" in fields:
            licence, _, words = fields.get("license", "").partition("\n")
            comment = " ".join((fields.get("comment") or words).split())
            owner = " ".join(fields.get("copyright", "").split())
            found.append(_Licence(tuple(fields["files"].split()), owner, licence.strip(), comment))
    return found


def _write_licences(photos: list[str], licences: list[_Licence], out: Path) -> None:
    """Write the licence of each photograph: that of the last paragraph whose patterns it fits."""
    with (out / "LICENSES.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("file", "licence", "copyright", "comment"))
        for photo in photos:
            path = PHOTOS + photo
            fitting = [each for each in licences if any(_fits(path, pattern) for pattern in each.patterns)]
            if not fitting:
                raise UserError(f"the copyright file names no licence for {path}: {_HINT}")
            table.writerow((photo, fitting[-1].licence, fitting[-1].copyright, fitting[-1].comment))


def _fits(path: str, pattern: str) -> bool:
    # Brackets mean nothing there.
    return fnmatch.fnmatchcase(path, pattern.replace("[", "[[]"))
