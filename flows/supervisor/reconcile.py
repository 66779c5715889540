"""Closes what died: runs that Prefect or MLflow believe to be running while their process is gone.

Called when the platform starts and every few seconds while it runs. Prefect's own heartbeats would not do: they come
every 30 seconds at most, so that a run is missed after 90 instead of 20; one whose process dies before its flow begins
never is; and nothing but this gives a run back to its worker or closes its tasks and MLflow's run.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

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
from components.services.tracking import runs
from components.workspace.workspace import Workspace
from flows.runs import STOPPED
from flows.supervisor.prefect_api import runs as flow_runs

# A run that is given back to its worker so often is not given back again.
MAX_STARTS = 4
# So long a run may exist before it has said which process it is.
SILENT = timedelta(seconds=90)


def reconcile(workspace: Workspace) -> Iterator[str]:
    """Close every run whose process is gone, so that it goes on or is marked crashed; a sentence for each."""
    with get_client(sync_client=True) as client:
        unfinished = FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING, StateType.CANCELLING])
        for run in flow_runs(client, FlowRunFilter(state=FlowRunFilterState(type=unfinished))):
            if run.parent_task_run_id is None and (reason := _dead(run)):
                yield _close(client, run, reason)
        stopped = FlowRunFilterStateName(any_=[STOPPED])
        for run in flow_runs(client, FlowRunFilter(state=FlowRunFilterState(name=stopped))):
            if run.deployment_id:
                yield _go_on(client, run, "the platform was stopped")
    # Held for a moment only where there is something to close: whoever starts a run meanwhile would be turned away.
    if runs.any_running(workspace):
        with suppress(BusyError), workspace.exclusive():
            # Nobody works here, so what MLflow believes to be running is not.
            yield from runs.end_dead_runs(workspace)


def _dead(run: FlowRun) -> str | None:
    """Why the run cannot be running, if so."""
    host, _, pid = (run.infrastructure_pid or "").rpartition(":")
    if not pid.isdigit():
        begun = run.state.timestamp if run.state else datetime.now(UTC)
        return "it never said which process it is" if datetime.now(UTC) - begun > SILENT else None
    if host and host != socket.gethostname():
        return None
    with suppress(psutil.Error):
        process = psutil.Process(int(pid))
        born = datetime.fromtimestamp(process.create_time(), UTC)
        begun = run.state.timestamp if run.state else born
        # Another one may have the number by now.
        if process.status() != psutil.STATUS_ZOMBIE and born <= begun + timedelta(seconds=60):
            return None
    return f"its process {pid} is gone"


def _close(client: SyncPrefectClient, run: FlowRun, reason: str) -> str:
    message = f"{reason[0].upper()}{reason[1:]}."
    unfinished = TaskRunFilterState(type=TaskRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING]))
    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
    for task in client.read_task_runs(flow_run_filter=of_run, task_run_filter=TaskRunFilter(state=unfinished)):
        client.set_task_run_state(task.id, Crashed(message=message), force=True)
    # Crashed first: this gives back its place among the runs that its deployment may have at once.
    client.set_flow_run_state(run.id, Crashed(message=message))
    return _go_on(client, run, reason)


def _go_on(client: SyncPrefectClient, run: FlowRun, reason: str) -> str:
    if run.deployment_id is None:
        return f"{run.name} is marked crashed, because {reason}; the same command goes on with it"
    if run.run_count >= MAX_STARTS:
        return f"{run.name} is marked crashed, because {reason}; it was started {run.run_count} times and is left alone"
    goes_on = f"It goes on from its last checkpoint, because {reason}."
    client.set_flow_run_state(run.id, AwaitingRetry(scheduled_time=datetime.now(UTC), message=goes_on))
    return f"{run.name} goes on, because {reason}"
