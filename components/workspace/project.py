"""Where the project's own files lie: in its clone, or beside the code where it was installed from a wheel."""

from __future__ import annotations

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def project_file(name: str) -> Path:
    """Return params.yaml, prefect.yaml or constraints.txt of the project."""
    packed = PROJECT / "ganflow_project" / name
    return packed if packed.exists() else PROJECT / name
