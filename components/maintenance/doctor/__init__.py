"""Whether this machine is fit for the work: what is old, open, full, unreachable or left over, and what mends it.

It only looks. Nothing is changed, ended or deleted, and nothing is asked but the servers that the user named and, where
the user says so, the vulnerability service.
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

from ...services import surroundings
from ...workspace.project import project_file
from ...workspace.workspace import Workspace
from . import exposure, guards, leftovers, machine, places, processes, reachability, versions
from .diagnosis import Diagnosis


def examine(
    workspace: Workspace, environment: Mapping[str, str] = os.environ, online: bool = False
) -> Iterator[Diagnosis]:
    """All checks, for a workspace and the servers that `environment` names; `online`: the vulnerability service too."""
    ours = processes.related()
    temporary = Path(environment.get("RAY_TMPDIR") or environment.get("TMPDIR") or "/tmp")
    installed: dict[str, str] = {canonicalize_name(each.name): each.version for each in distributions()}
    yield versions.online(installed) if online else versions.advisories(installed, date.today())
    yield versions.versions(installed, project_file("constraints.txt"))
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
    yield machine.address_space(resource.getrlimit(resource.RLIMIT_AS)[0])
    yield from places.shell(environment, surroundings.mended)
    yield places.settings(Path.cwd())
    yield places.code()
    yield places.path(workspace)
    yield places.file_system(workspace)
    yield places.repository(workspace)
    yield machine.clock(time.time(), [workspace.ledger, workspace.state / "holder.json"], environment)
    yield leftovers.staging(workspace, time.time())
    for folder in (temporary / "ray", temporary / f"ganflow-{os.getuid()}" / "r"):
        yield leftovers.ray_sessions(folder, ours)
    yield from leftovers.orphans(ours, environment)
    yield leftovers.platform(workspace)
    yield from reachability.servers(environment)
    yield from reachability.places(workspace, environment)
