"""Closes what died: runs that Prefect or MLflow believe to be running while their process is gone.

Called when the platform starts and every few seconds while it runs. Prefect's own heartbeats would not do: they come
every 30 seconds at most, so that a run is missed after 90 instead of 20; one whose process dies before its flow begins
never is; and nothing but this gives a run back to its worker or closes its tasks and MLflow's run.

What is not known to be dead is left alone: on a server that several workspaces share most runs are others'.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterStateType,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import AwaitingRetry, Crashed

from components.gan.errors import BusyError
from components.services.process import Claim, drop_claim
from components.services.tracking import runs
from components.workspace.workspace import Workspace
from flows.runs import STOPPED
from flows.supervisor.prefect_api import runs as flow_runs

# A run that is given back to its worker so often is not given back again.
MAX_STARTS = 4
# So long a run may exist before it has said which process it is, if no process was started for it.
SILENT = timedelta(seconds=90)


def reconcile(workspace: Workspace, own_server: bool) -> Iterator[str]:
    """Close every run whose process is gone, so that it goes on or is marked crashed; a sentence for each.

    `own_server`: whether the server keeps its runs in this workspace; otherwise the user named it, and others use it.
    """
    with get_client(sync_client=True) as client:
        unfinished = FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING, StateType.CANCELLING])
        for run in flow_runs(client, FlowRunFilter(state=FlowRunFilterState(type=unfinished))):
            if run.parent_task_run_id is None and (reason := reason_to_close(run, workspace, own_server)):
                yield _close(client, run, reason, workspace)
        stopped = FlowRunFilterStateName(any_=[STOPPED])
        for run in flow_runs(client, FlowRunFilter(state=FlowRunFilterState(name=stopped))):
            if run.deployment_id and _is_of(run, workspace):
                yield _go_on(client, run, "the platform was stopped", workspace)
    # Held for a moment only where there is something to close: whoever starts a run meanwhile would be turned away.
    if runs.any_running(workspace):
        with suppress(BusyError), workspace.exclusive():
            # Nobody works here, so what MLflow believes to be running is not.
            yield from runs.end_dead_runs(workspace)


def reason_to_close(run: FlowRun, workspace: Workspace, own_server: bool) -> str | None:
    """Why the run cannot be running, if that is certain."""
    claim = Claim.read(workspace, str(run.id))
    if claim is None:
        return _never_began(run, workspace, own_server)
    if not claim.is_of(workspace):
        # A copy of the workspace has a copy of its own server's runs; another server still has the runs themselves.
        return "the workspace was copied or moved here since" if own_server else None
    if claim.process.is_here:
        return None if claim.process.find() else f"its process {claim.process.pid} is gone"
    # In a container that has gone or is another one now, or before the machine was started again.
    with suppress(BusyError), workspace.exclusive():
        return f"its process {claim.process.pid} on {_host(run)} does not hold the workspace any more"
    return None


def _never_began(run: FlowRun, workspace: Workspace, own_server: bool) -> str | None:
    """Why a run that never said in this workspace which process it is cannot be running, if that is certain."""
    begun = run.state.timestamp if run.state else datetime.now(UTC)
    ours = own_server or (_is_of(run, workspace) and _host(run) == socket.gethostname())
    # Without a deployment it is somebody's script, which our server is shown.
    if run.deployment_id is None or not ours or datetime.now(UTC) - begun < SILENT or _has_process(run):
        return None
    return "it never said which process it is"


def _has_process(run: FlowRun) -> bool:
    """Whether a process of this machine was started for the run."""
    line = f"PREFECT__FLOW_RUN_ID={run.id}".encode()
    for pid in psutil.pids():
        with suppress(OSError):
            if line in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                return True
    return False


def _is_of(run: FlowRun, workspace: Workspace) -> bool:
    named = run.parameters.get("workspace")
    return isinstance(named, str) and Path(named).resolve() == workspace.root.resolve()


def _host(run: FlowRun) -> str:
    return (run.infrastructure_pid or "").rpartition(":")[0]


def _close(client: SyncPrefectClient, run: FlowRun, reason: str, workspace: Workspace) -> str:
    message = f"{reason[0].upper()}{reason[1:]}."
    unfinished = TaskRunFilterState(type=TaskRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING]))
    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
    for task in client.read_task_runs(flow_run_filter=of_run, task_run_filter=TaskRunFilter(state=unfinished)):
        client.set_task_run_state(task.id, Crashed(message=message), force=True)
    # Crashed first: this gives back its place among the runs that its deployment may have at once.
    client.set_flow_run_state(run.id, Crashed(message=message))
    drop_claim(workspace, str(run.id))
    return _go_on(client, run, reason, workspace)


def _go_on(client: SyncPrefectClient, run: FlowRun, reason: str, workspace: Workspace) -> str:
    if run.deployment_id is None:
        return f"{run.name} is marked crashed, because {reason}; the same command goes on with it"
    if not _is_of(run, workspace):
        return f"{run.name} is marked crashed, because {reason}; the next run goes on with what it left"
    if run.run_count >= MAX_STARTS:
        return f"{run.name} is marked crashed, because {reason}; it was started {run.run_count} times and is left alone"
    goes_on = f"It goes on from its last checkpoint, because {reason}."
    client.set_flow_run_state(run.id, AwaitingRetry(scheduled_time=datetime.now(UTC), message=goes_on))
    return f"{run.name} goes on, because {reason}"
