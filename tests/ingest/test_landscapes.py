"""The photographs of Debian's package endless-sky-data: known by their hash, each with its licence."""

from __future__ import annotations

import csv
import hashlib
import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from components.gan.errors import UserError
from components.ingest.formats import find_raw_images
from components.ingest.public_data import fetch, landscapes
from components.workspace.params import Preprocess
from tests.conftest import ganflow, refused, succeeded
from tests.ingest.test_patches import photo, saved

COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: Somebody <somebody@example.org>
License: GPL-3+

Files: images/land/*
Copyright: Various
License: public-domain
 Taken from a collection. (Exceptions
 noted below.)

Files:
 images/land/beach*
 images/land/*-ann?*
Copyright: Ann, "the photographer"
License: CC-BY-SA-4.0
Comment: Cropped.

License: CC-BY-SA-4.0
 By exercising the Licensed Rights ...
"""
BELOW = "usr/share/games/endless-sky/images/land"
DOC = "usr/share/doc/endless-sky-data/copyright"
NAMES = ("beach0.jpg", "city-ann1.jpg", "fog[1].jpg")


@pytest.fixture
def contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What a package installs: photographs that are known, another one, other files, and their licences."""
    photos = {name: saved(photo(number), "jpeg") for number, name in enumerate(NAMES)}
    hashes = tmp_path / "known.sha256"
    hashes.write_text("".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in photos.items()))
    monkeypatch.setattr(landscapes, "_HASHES", hashes)
    found = {f"{BELOW}/{name}": content for name, content in photos.items()}
    return found | {DOC: COPYRIGHT.encode(), "usr/share/games/endless-sky/images/ship/a.png": b"x"}


def unpacked(root: Path, contents: dict[str, bytes]) -> Path:
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def deb(path: Path, contents: dict[str, bytes], packing: str = "xz", more: tuple[tarfile.TarInfo, ...] = ()) -> Path:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in contents.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        for entry in more:
            tar.addfile(entry)
    data = lzma.compress(buffer.getvalue()) if packing == "xz" else buffer.getvalue()
    members = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", f"data.tar.{packing}": data}
    packed = b"!<arch>\n"
    for name, content in members.items():
        packed += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode() + content
        packed += b"\n" * (len(content) % 2)
    path.write_bytes(packed)
    return path


def table(data: Path) -> dict[str, tuple[str, str, str]]:
    with (data / "LICENSES.csv").open(newline="") as file:
        return {row["file"]: (row["licence"], row["copyright"], row["comment"]) for row in csv.DictReader(file)}


LICENCES = {
    "beach0.jpg": ("CC-BY-SA-4.0", 'Ann, "the photographer"', "Cropped."),
    "city-ann1.jpg": ("CC-BY-SA-4.0", 'Ann, "the photographer"', "Cropped."),
    "fog[1].jpg": ("public-domain", "Various", "Taken from a collection. (Exceptions noted below.)"),
}


@pytest.mark.parametrize("form", ["deb", "unpacked", "game", "installed"])
def test_photographs_come_with_their_licences(
    form: str, contents: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = unpacked(tmp_path / "system", contents)
    game = root / "usr/share/games/endless-sky"
    monkeypatch.setattr(landscapes, "INSTALLED", game)
    place = {"deb": deb(tmp_path / "e.deb", contents), "unpacked": root, "game": game, "installed": None}[form]
    data = fetch("landscapes", tmp_path / "w", None if place is None else str(place))
    assert {path.name for path in data.iterdir()} == {*NAMES, "LICENSES.csv", "LICENSE.txt"}
    assert all((data / name).read_bytes() == contents[f"{BELOW}/{name}"] for name in NAMES)
    assert table(data) == LICENCES
    source = find_raw_images(data, tmp_path, 100, Preprocess(strict=True))
    assert len(source) == 3 and len(source.classes) == 1


@pytest.mark.parametrize("make", [deb, unpacked])
def test_other_photographs_are_named_and_not_taken(
    make: Callable[[Path, dict[str, bytes]], Path],
    contents: dict[str, bytes],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    contents |= {f"{BELOW}/beach0.jpg": b"edited", f"{BELOW}/new.jpg": b"unknown"}
    del contents[f"{BELOW}/fog[1].jpg"]
    data = fetch("landscapes", tmp_path / "w", str(make(tmp_path / "package", contents)))
    assert [path.name for path in data.glob("*.jpg")] == ["city-ann1.jpg"]
    listed = (data / "OTHERS.txt").read_text()
    assert "beach0.jpg: another version of it\n" in listed
    assert "new.jpg: not known\n" in listed
    assert "fog[1].jpg: is not there\n" in listed
    assert "1 photographs, with LICENSES.csv; 3 others, which OTHERS.txt names" in capsys.readouterr().out


def test_links_and_paths_that_lead_elsewhere_are_not_followed(contents: dict[str, bytes], tmp_path: Path) -> None:
    link = tarfile.TarInfo(f"./{BELOW}/link.jpg")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    away = tarfile.TarInfo(f"./{BELOW}/../../../../../../away.jpg")
    data = fetch("landscapes", tmp_path / "w", str(deb(tmp_path / "e.deb", contents, more=(link, away))))
    assert {path.name for path in data.glob("*.jpg")} == set(NAMES)
    assert not list(tmp_path.rglob("away.jpg"))


def test_what_is_no_such_package_is_refused_in_a_sentence(contents: dict[str, bytes], tmp_path: Path) -> None:
    whole = deb(tmp_path / "whole.deb", contents).read_bytes()
    without = {name: content for name, content in contents.items() if name != DOC}
    (tmp_path / "empty").mkdir()
    bad = {
        "cut.deb": whole[: len(whole) // 2],
        "none.deb": b"no archive",
        "short.deb": whole[:30],
        "odd.deb": whole[:8] + b"\xff" * 60,
        "empty.deb": b"",
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    deb(tmp_path / "packed.deb", contents, "zst")
    deb(tmp_path / "bare.deb", without)
    deb(tmp_path / "other.deb", {DOC: COPYRIGHT.encode()})
    unpacked(tmp_path / "bare", without)
    sentences = {
        **dict.fromkeys(bad, "is no .deb, or is damaged"),
        "packed.deb": "unpack it by dpkg-deb -x",
        "bare.deb": "has no copyright file",
        "bare": "has no copyright file",
        "other.deb": "has none of the photographs",
        "empty": "has none of the photographs",
        "nowhere": "there is no",
    }
    for name, words in sentences.items():
        with pytest.raises(UserError, match=words):
            fetch("landscapes", tmp_path / "w", str(tmp_path / name))
        assert not (tmp_path / "w" / "data").exists()
    with pytest.raises(UserError, match=r"name a folder or the \.deb"):
        fetch("landscapes", tmp_path / "w", "https://example.org/e.deb")


def test_a_photograph_without_a_licence_is_refused(contents: dict[str, bytes], tmp_path: Path) -> None:
    contents[DOC] = b"Files: images/land/beach*\nCopyright: Ann\nLicense: CC0\n"
    with pytest.raises(UserError, match=r"names no licence for images/land/city-ann1\.jpg"):
        fetch("landscapes", tmp_path / "w", str(unpacked(tmp_path / "system", contents)))


def test_the_installed_package_is_known(tmp_path: Path) -> None:
    told = ("data", "fetch", "landscapes", "--into", "w")
    if not landscapes.INSTALLED.is_dir():
        assert "apt install endless-sky-data" in refused(tmp_path, *told)
        return
    assert "273 photographs, with LICENSES.csv" in succeeded(ganflow(tmp_path, *told))
    found = table(tmp_path / "w" / "data")
    assert len(found) == 273
    assert {licence for licence, _, _ in found.values()} == {"public-domain", "CC-BY-SA-3.0", "CC-BY-SA-4.0"}
    assert found["lava5.jpg"][0] == "CC-BY-SA-4.0"
