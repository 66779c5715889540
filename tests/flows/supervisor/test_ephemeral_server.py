"""The server of one flow whose process was killed is ended by the next run in that workspace, and by no other."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from components.maintenance.doctor.diagnosis import Diagnosis
from components.maintenance.doctor.guards import guards
from components.workspace.workspace import Workspace
from flows.supervisor import ephemeral_server
from tests.harness.trainings import Run


def test_what_a_killed_run_left_is_ended_by_its_workspace_alone(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    workspace.state.mkdir(parents=True)
    started = [
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", named])
        for named in ("prefect.server", "something.else")
    ]
    server, other = started
    try:
        ephemeral_server.note(workspace)
        shutil.copytree(workspace.root, tmp_path / "copy")
        ephemeral_server.end_orphans(Workspace(tmp_path / "copy"))
        with pytest.raises(subprocess.TimeoutExpired):
            server.wait(0.5)
        ephemeral_server.end_orphans(workspace)
        server.wait(10)
        assert other.poll() is None
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_the_temporary_server_of_a_run_refuses_strangers(make_workspace: Callable[..., Path]) -> None:
    run = Run(make_workspace(), "run")
    try:

        def asked() -> list[Diagnosis]:
            children = run.tree.children(recursive=True)
            return [found for found in guards(children, {}) if found.ok is not None]

        run.until(lambda: bool(asked()))
        assert all(found.ok and "Prefect" in found.words for found in asked())
    finally:
        run.kill_everything()
