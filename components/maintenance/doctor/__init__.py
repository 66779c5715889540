"""Whether this machine is fit for the work: what is old, open, full, unreachable or left over, and what mends it.

It only looks. Nothing is changed, ended or deleted, and nothing is asked but the servers that the user named.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator, Mapping
from datetime import date
from importlib.metadata import distributions
from pathlib import Path

from packaging.utils import canonicalize_name

from ...workspace.workspace import Workspace
from . import exposure, guards, leftovers, machine, processes, reachability, versions
from .diagnosis import Diagnosis

_PROJECT = Path(__file__).resolve().parents[3]


def examine(workspace: Workspace, environment: Mapping[str, str] = os.environ) -> Iterator[Diagnosis]:
    """All checks, for a workspace and the servers that `environment` names."""
    ours = processes.related()
    temporary = Path(environment.get("RAY_TMPDIR") or environment.get("TMPDIR") or "/tmp")
    installed: dict[str, str] = {canonicalize_name(each.name): each.version for each in distributions()}
    yield versions.advisories(installed, date.today())
    yield versions.versions(installed, _PROJECT / "constraints.txt")
    settings = reachability.dvc_settings(workspace.root)
    set_to = settings[1].get("core", "site_cache_dir", fallback=None) if settings else None
    yield versions.dvc_cache(Path(environment.get("DVC_SITE_CACHE_DIR") or set_to or "/var/tmp/dvc"), workspace.root)
    yield from exposure.ports(ours)
    yield exposure.ray_token(Path(environment.get("HOME") or "/"))
    yield from exposure.authentication(environment)
    yield from guards.guards(ours, environment)
    yield exposure.secrets(workspace.params, workspace.root / "prefect.yaml")
    yield from machine.disk([workspace.root, temporary])
    yield machine.shared_memory(Path("/dev/shm"))
    yield machine.open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    yield machine.clock(time.time(), [workspace.ledger, workspace.state / "holder.json"], environment)
    yield leftovers.staging(workspace, time.time())
    for folder in (temporary / "ray", temporary / f"ganflow-{os.getuid()}" / "r"):
        yield leftovers.ray_sessions(folder, ours)
    yield from leftovers.orphans(ours, environment)
    yield leftovers.platform(workspace)
    yield from reachability.servers(environment)
    yield from reachability.places(workspace, environment)
