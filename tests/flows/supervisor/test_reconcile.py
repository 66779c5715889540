"""Which runs are closed: those that are certainly dead, and no other one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.states import Running

from components.services.process import Claim, Process, folder_id
from components.workspace.workspace import Workspace
from flows.supervisor.reconcile import reason_to_close
from tests.conftest import environment


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    found = Workspace(tmp_path / "workspace")
    found.state.mkdir(parents=True)
    return found


def running(workspace: Workspace, minutes: float = 10, host: str = "", deployed: bool = True) -> FlowRun:
    """A run that Prefect believes to be running for so long."""
    return FlowRun(
        id=uuid4(),
        name="retrain",
        flow_id=uuid4(),
        deployment_id=uuid4() if deployed else None,
        infrastructure_pid=f"{host or socket.gethostname()}:1",
        parameters={"workspace": str(workspace.root)},
        state=Running(timestamp=datetime.now(UTC) - timedelta(minutes=minutes)),
    )


def claim(workspace: Workspace, run: FlowRun, folder: str | None = None, **process: Any) -> None:
    """Write who works on the run, with changes."""
    made = Claim.make(workspace, str(run.id))
    changed = made.model_copy(
        update={"process": made.process.model_copy(update=process), "folder": folder or made.folder}
    )
    (workspace.state / "claims" / f"{run.id}.json").write_text(changed.model_dump_json())


def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize("own", [True, False])
def test_a_run_whose_process_lives_is_left_alone(workspace: Workspace, own: bool) -> None:
    """Whatever this machine is called by now, and whenever it began by the clock."""
    for minutes in (10.0, -600.0, 1e6):
        run = running(workspace, minutes, host="another-name")
        claim(workspace, run)
        assert reason_to_close(run, workspace, own) is None


@pytest.mark.parametrize("own", [True, False])
def test_a_run_whose_process_is_gone_is_closed(workspace: Workspace, own: bool) -> None:
    run = running(workspace, host="another-name")
    claim(workspace, run, pid=dead())
    assert "is gone" in (reason_to_close(run, workspace, own) or "")
    # Another one has its number by now, or its number and start but not its token.
    ticks = Process.of(os.getpid()).ticks
    for change in ({"ticks": ticks - 1}, {"token": f"PREFECT__FLOW_RUN_ID={run.id}"}):
        claim(workspace, run, **change)
        assert "is gone" in (reason_to_close(run, workspace, own) or "")


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("change", [{"namespace": "pid:[1]"}, {"boot": "before"}])
def test_of_a_container_that_is_gone_the_lock_tells(workspace: Workspace, own: bool, change: dict[str, str]) -> None:
    run = running(workspace, host="container-aaa")
    claim(workspace, run, **change)
    holds = "import sys; from filelock import FileLock\nwith FileLock(sys.argv[1]): print('held', flush=True); input()"
    lock = str(workspace.state / "lock")
    with subprocess.Popen(
        [sys.executable, "-c", holds, lock], env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout and holder.stdout.readline() == b"held\n"
        # Somebody works there: that run, or another one.
        assert reason_to_close(run, workspace, own) is None
        holder.kill()
    assert "container-aaa does not hold the workspace" in (reason_to_close(run, workspace, own) or "")


def test_a_copied_workspace_closes_what_its_own_server_has_and_nothing_of_a_shared_one(workspace: Workspace) -> None:
    for change in ({}, {"boot": "another machine"}):
        run = running(workspace)
        claim(workspace, run, folder="1:1", **change)
        assert "copied or moved" in (reason_to_close(run, workspace, own_server=True) or "")
        assert reason_to_close(run, workspace, own_server=False) is None


def test_runs_of_others_are_left_alone_on_a_shared_server(workspace: Workspace, tmp_path: Path) -> None:
    there = Workspace(tmp_path / "another")
    for run in (running(workspace, host="another"), running(there), running(there, host="another")):
        assert reason_to_close(run, workspace, own_server=False) is None
    # A script of the user's own that tells a platform of its run.
    assert reason_to_close(running(workspace, deployed=False), workspace, own_server=True) is None


@pytest.mark.parametrize("own", [True, False])
def test_a_run_that_never_began_is_closed_if_nothing_was_started_for_it(workspace: Workspace, own: bool) -> None:
    assert reason_to_close(running(workspace, minutes=0.5), workspace, own) is None
    run = running(workspace)
    assert "never said" in (reason_to_close(run, workspace, own) or "")
    # A machine so slow that it has not come to say it.
    waits = [sys.executable, "-c", "print('ready', flush=True); input()"]
    with subprocess.Popen(
        waits, env=environment(PREFECT__FLOW_RUN_ID=str(run.id)), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as slow:
        assert slow.stdout and slow.stdout.readline() == b"ready\n"
        assert reason_to_close(run, workspace, own) is None
        slow.kill()
    assert folder_id(workspace)
