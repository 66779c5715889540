"""The lock: every package by its hash, but torch and what it pulls in; the versions are those of constraints.txt."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import PROJECT

LOCK = PROJECT / "requirements"
HASHED = ("build.txt", "run.txt", "test.txt")


def pins(file: Path) -> dict[str, tuple[Requirement, int]]:
    """Of each package its pin, with how many hashes it has."""
    text = "\n".join(line for line in file.read_text().splitlines() if not line.startswith("#"))
    found = {}
    for entry in text.replace("\\\n", " ").splitlines():
        pin, *hashes = re.split(r"\s+--hash=sha256:", entry.strip())
        assert all(re.fullmatch("[0-9a-f]{64}", each) for each in hashes)
        found[canonicalize_name(Requirement(pin).name)] = Requirement(pin), len(hashes)
    return found


@pytest.mark.parametrize("name", HASHED)
def test_every_package_has_hashes(name: str) -> None:
    found = pins(LOCK / name)
    assert found and all(hashes for _, hashes in found.values())
    assert all(str(pin.specifier).startswith("==") for pin, _ in found.values())


@pytest.mark.parametrize("name", ("run.txt", "test.txt"))
def test_torch_and_its_cuda_packages_have_none(name: str) -> None:
    torch, found = pins(LOCK / "torch.txt"), pins(LOCK / name)
    assert "torch" in torch and not any(hashes for _, hashes in torch.values())
    assert not [each for each in found if each == "torch" or each.startswith(("nvidia-", "cuda-", "triton"))]
    assert all(found[each][0].specifier == torch[each][0].specifier for each in torch.keys() & found.keys())


def test_the_lock_holds_what_the_project_asks_for() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    asked = {canonicalize_name(Requirement(each).name) for each in project["project"]["dependencies"]} - {"torch"}
    extras = project["project"]["optional-dependencies"].values()
    more = {canonicalize_name(Requirement(each).name) for extra in extras for each in extra} - {"ganflow"}
    assert asked <= pins(LOCK / "run.txt").keys()
    assert asked | more <= pins(LOCK / "test.txt").keys()
    assert set(project["dependency-groups"]["build"]) <= pins(LOCK / "build.txt").keys()


@pytest.mark.parametrize("name", HASHED)
def test_versions_are_those_that_were_tried(name: str) -> None:
    tried = pins(PROJECT / "constraints.txt")
    found = pins(LOCK / name)
    assert not [each for each in found if each != "pip" and found[each][0].specifier != tried[each][0].specifier]


def test_no_index_is_named() -> None:
    named = re.compile("https?://|file:|--(extra-)?index|find-links")
    assert not [file for file in LOCK.iterdir() if named.search(file.read_text())]
