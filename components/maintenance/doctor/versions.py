"""Versions of packages: with known faults, and others than those that were tried together."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from ...services.site_cache import why_unsafe
from .diagnosis import Diagnosis, some


class Advisory(NamedTuple):
    """Versions of a package with a known fault."""

    package: str
    affected: str
    id: str
    what: str


# The day when the list below was last gone through, and days after which it says nothing more of what is up to date.
LISTED, DAYS = date(2026, 11, 23), 60
# Of the packages that run code, open ports or read foreign files, from their own release notes and the CVE list.
ADVISORIES = (
    Advisory("torch", "<2.6.0", "CVE-2025-32434", "torch.load runs code of a foreign file"),
    Advisory("ray", "<2.52.0", "CVE-2025-62593", "a web page opened on this machine can run jobs"),
    Advisory("ray", "<2.54.0", "CVE-2026-27482", "a web page opened on this machine can delete jobs"),
    Advisory("ray", "<2.55.0", "CVE-2026-41486", "a foreign Parquet file runs code"),
    Advisory("ray", "<2.56.0", "CVE-2026-57516", "a foreign WebDataset archive runs code"),
    Advisory("mlflow", "<2.10.0", "CVE-2024-27132", "a foreign recipe runs code in the browser"),
    Advisory("mlflow", "<3.10.0", "CVE-2026-2614", "its server gives out any file to anybody"),
    Advisory("mlflow", "<3.11.0rc0", "CVE-2026-0545", "its server's jobs are open in spite of a password"),
    Advisory("prefect", "<3.6.14", "CVE-2026-7723", "its server takes events without a password"),
    Advisory("starlette", "<1.0.1", "CVE-2026-48710", "a false Host header passes checks of paths"),
    Advisory("starlette", ">=0.4.1,<1.3.1", "CVE-2026-54283", "a large form exhausts the server's memory"),
    Advisory("pillow", "<10.3.0", "CVE-2024-28219", "a colour profile overflows a buffer"),
    Advisory("pillow", "<13.0.0", "CVE-2026-112403", "a foreign JPEG overflows a buffer"),
    Advisory("pyarrow", ">=0.14.0,<14.0.1", "CVE-2023-47248", "a foreign Arrow or Parquet file runs code"),
    Advisory("fastapi", ">=0.147", "incompatible", "Prefect 3.8 does not start with it"),
    Advisory("sqlalchemy", ">=2.1", "incompatible", "Prefect 3.8 plans no scheduled runs with it"),
)


def advisories(installed: Mapping[str, str], today: date) -> Diagnosis:
    """Name packages in versions with a known fault; an old list finds faults, and cannot exclude any."""
    found = [
        each
        for each in ADVISORIES
        if each.package in installed
        and SpecifierSet(each.affected, prereleases=True).contains(Version(installed[each.package]))
    ]
    if found:
        words = "; ".join(f"{each.package} {installed[each.package]}: {each.what} ({each.id})" for each in found)
        wanted = " ".join(sorted({each.package for each in found}))
        return Diagnosis("advisories", False, words, f"pip install -c constraints.txt --upgrade {wanted}")
    age = (today - LISTED).days
    words = f"none of {len(ADVISORIES)} that were known on {LISTED} applies; pip-audit asks for later ones"
    if age > DAYS:
        return Diagnosis("advisories", None, f"{words}, {age} days later")
    return Diagnosis("advisories", True, words)


def versions(installed: Mapping[str, str], constraints: Path) -> Diagnosis:
    """Return packages in other versions than those that were tried together."""
    if not constraints.exists():
        return Diagnosis("versions", None, f"there is no {constraints.name} to compare with")
    lines = (line.partition("#")[0].strip() for line in constraints.read_text().splitlines())
    pinned = [Requirement(line) for line in lines if line]
    others = [
        f"{pin.name} {version} ({str(pin.specifier).lstrip('=')})"
        for pin in pinned
        # A build such as 2.13.0+cpu is the version 2.13.0.
        if (version := installed.get(canonicalize_name(pin.name)))
        and not pin.specifier.contains(Version(version).public, prereleases=True)
    ]
    if others:
        words = f"{len(others)} packages are not those that were tried together: {some(others)}"
        return Diagnosis("versions", False, words, "pip install -c constraints.txt -e .")
    return Diagnosis("versions", True, f"all are those of {constraints.name}")


def dvc_cache(folder: Path, root: Path) -> Diagnosis:
    """Whether `dvc` typed by hand reads pickles that others may have written; ganflow's own calls never do.

    CVE-2025-69872 of diskcache has no fixed version.
    """
    check = "DVC's cache"
    if not folder.exists():
        return Diagnosis(check, True, f"nobody has put anything into {folder}")
    wrong = why_unsafe(folder)
    if wrong is None and folder.resolve().is_relative_to(root.resolve()):
        wrong = "it came with the workspace"
    if wrong is None:
        return Diagnosis(check, True, f"{folder} is no other user's to write")
    words = f"`dvc` runs code from {folder} (CVE-2025-69872), and {wrong}"
    remedy = "unset DVC_SITE_CACHE_DIR, or have `ganflow up` or `make` write a folder of yours into .dvc/config.local"
    return Diagnosis(check, False, words, remedy)
