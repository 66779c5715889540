"""Versions of packages: with known faults, and others than those that were tried together."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
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
ONLINE_SECONDS = 300
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
    words = (
        f"its own list of {len(ADVISORIES)} faults known on {LISTED}, {age} days ago, names no package here; of the "
        "others it knows nothing: `ganflow doctor --online` asks pip-audit about all"
    )
    return Diagnosis("advisories", None if age > DAYS else True, words)


def online(installed: Mapping[str, str]) -> Diagnosis:
    """Ask the vulnerability service about every package, by pip-audit, and say of which it told nothing."""
    check = "advisories"
    # A build such as 2.13.0+cpu is the version 2.13.0; the service knows no ganflow.
    asked = [f"{name}=={Version(version).public}" for name, version in installed.items() if name != "ganflow"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as listed:
        listed.write("\n".join(asked))
        listed.flush()
        options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
        command = [sys.executable, "-m", "pip_audit", *options, "--requirement", listed.name]
        try:
            process = subprocess.run(command, capture_output=True, text=True, timeout=ONLINE_SECONDS)
            answers = json.loads(process.stdout)["dependencies"]
        except (OSError, subprocess.TimeoutExpired, ValueError, KeyError):
            remedy = "check the network, and pip install -c constraints.txt pip-audit"
            return Diagnosis(check, False, "pip-audit did not answer", remedy)
    faults = [
        f"{each['name']} {each['version']} ({', '.join(fault['id'] for fault in each['vulns'])})"
        for each in answers
        if each.get("vulns")
    ]
    unknown = [each["name"] for each in answers if "skip_reason" in each]
    if faults:
        remedy = "raise them in constraints.txt to a version without the fault, `make lock`, `make install`"
        return Diagnosis(check, False, f"{len(faults)} packages have known faults: {some(faults)}", remedy)
    if unknown:
        words = f"the vulnerability service told nothing of {len(unknown)} of {len(asked)} packages: {some(unknown)}"
        return Diagnosis(check, False, words, "check the network, and the package index that pip is set to")
    return Diagnosis(check, True, f"the vulnerability service knows no fault of the {len(asked)} packages")


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
