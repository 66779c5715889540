"""What is asked of Prefect's server: the worker's pool, who is told of runs, which were missed, ran or come next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.states import Cancelled

from components.gan.errors import UserError

_TELLS = "ganflow tells how runs ended"
_ENDS = ("Completed", "Failed", "Crashed", "TimedOut")


def cancel_missed() -> Iterator[str]:
    """Of the runs of each schedule that were missed while nothing ran only the last one is left to be made up for."""
    with get_client(sync_client=True) as client:
        waiting = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
        past = FlowRunFilterExpectedStartTime(before_=datetime.now(UTC))
        late: dict[UUID, list[FlowRun]] = {}
        for run in runs(client, FlowRunFilter(state=waiting, expected_start_time=past)):
            if run.deployment_id and run.auto_scheduled:
                late.setdefault(run.deployment_id, []).append(run)
        for deployment, waited in late.items():
            *missed, last = sorted(waited, key=lambda run: run.expected_start_time or datetime.now(UTC))
            for run in missed:
                reason = f"Missed while the platform was down; {last.name} stands for it."
                client.set_flow_run_state(run.id, Cancelled(message=reason))
            if missed:
                name = client.read_deployment(deployment).name
                yield f"{name}: {len(missed)} missed runs are cancelled, one is made up for"


def cancel_runs_of(root: str) -> int:
    """Cancel what is due in a workspace that was at `root` and is not there any more, or not this one; how many."""
    with get_client(sync_client=True) as client:
        waiting = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
        found = [run for run in runs(client, FlowRunFilter(state=waiting)) if run.parameters.get("workspace") == root]
        for run in found:
            client.set_flow_run_state(run.id, Cancelled(message="The workspace was copied or moved to another place."))
    return len(found)


def runs(client: SyncPrefectClient, chosen: FlowRunFilter) -> Iterator[FlowRun]:
    """All flow runs that are asked for."""
    found: list[FlowRun] = []
    # Read whole before anything changes: pages would shift.
    while page := client.read_flow_runs(flow_run_filter=chosen, limit=200, offset=len(found)):
        found += page
    yield from found


def make_pool(name: str) -> None:
    """Create the pool of the platform's worker, once."""
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=name, type="process", base_job_template=template))


def notify(block: str | None) -> None:
    """Have the server tell the notification block, `type/name`, of every end of a run; None: tell nobody.

    Raises:
        UserError: there is no such block.
    """
    with get_client(sync_client=True) as client:
        present = client.read_automations_by_name(_TELLS)
        if block is None:
            for automation in present:
                client.delete_automation(automation.id)
            return
        kind, _, name = block.partition("/")
        try:
            document = client.read_block_document_by_name(name, kind).id
        except ObjectNotFound:
            raise UserError(
                f"retrain.notify: Prefect has no block {block}: make it under Blocks in its pages, or remove the key"
            ) from None
        for automation in present:
            if [getattr(action, "block_document_id", None) for action in automation.actions] == [document]:
                return
            client.delete_automation(automation.id)
        client.create_automation(
            AutomationCore(
                name=_TELLS,
                trigger=EventTrigger(
                    expect={f"prefect.flow-run.{end}" for end in _ENDS},
                    match={"prefect.resource.id": "prefect.flow-run.*"},
                    posture=Posture.Reactive,
                    threshold=1,
                    within=0,
                ),
                actions=[
                    SendNotification(
                        block_document_id=document,
                        subject="{{ flow_run.name }}: {{ flow_run.state.name }}",
                        body="{{ flow_run.name }}: {{ flow_run.state.name }}. {{ flow_run.state.message }}",
                    )
                ],
            )
        )


def last_runs(count: int) -> list[FlowRun]:
    """Return what runs, and what ran last, the newest first."""
    begun = FlowRunFilter(start_time=FlowRunFilterStartTime(is_null_=False))
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(flow_run_filter=begun, sort=FlowRunSort.START_TIME_DESC, limit=count)
    return [run for run in found if run.parent_task_run_id is None]


def next_runs() -> list[tuple[str, datetime]]:
    """For each deployment with a schedule its name and when it runs next, the soonest first."""
    with get_client(sync_client=True) as client:
        soonest: dict[str, datetime] = {}
        names = {deployment.id: deployment.name for deployment in client.read_deployments()}
        scheduled = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
        for run in runs(client, FlowRunFilter(state=scheduled)):
            if run.deployment_id in names and run.expected_start_time:
                name = names[run.deployment_id]
                soonest[name] = min(soonest.get(name, run.expected_start_time), run.expected_start_time)
    return sorted(soonest.items(), key=lambda item: item[1])
