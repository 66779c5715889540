"""What every flow run does: says which process it is, waits its turn, is named after what it did and why."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec, get_type_hints
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.runtime import deployment, flow_run
from prefect.states import Completed, Crashed, Failed

from components.gan.errors import BusyError, StoppedError, UserError
from components.services import notification, signals
from components.services.platform import running
from components.services.process import Claim, drop_claim
from components.workspace.text import printable, said_in_chat
from components.workspace.workspace import Workspace
from flows.outcomes import Outcome
from flows.prefect_artifacts import mlflow_pages
from flows.supervisor import ephemeral_server

P = ParamSpec("P")
# Of a run that was interrupted; the platform's next start goes on with it.
STOPPED = "Stopped"
WAIT_SECONDS = 24 * 3600


def named() -> str:
    """Name of a flow run until it has ended: what it does, and when it was due."""
    due = flow_run.scheduled_start_time or datetime.now(UTC)
    return f"{flow_run.flow_name} {due.astimezone():%Y-%m-%d %H:%M}"


@contextmanager
def turn(workspace: Workspace) -> Iterator[None]:
    """Hold the workspace; a run that finds another one at work waits for its end.

    Raises:
        BusyError: the other one works for longer than a day.
    """
    until, told = time.monotonic() + WAIT_SECONDS, False
    while True:
        try:
            held = workspace.exclusive()
            break
        except BusyError as busy:
            if time.monotonic() > until:
                raise
            if not told:
                get_run_logger().info("waits: %s", str(busy).partition(":")[0])
            told = True
            time.sleep(2)
    with held:
        ephemeral_server.note(workspace)
        yield


@contextmanager
def introduced(workspace: Workspace) -> Iterator[None]:
    """Let server and workspace know which process this flow run is, which ends in order however it is told to.

    Raises:
        UserError: the workspace is not there.
    """
    if not workspace.root.is_dir():
        raise UserError(f"{workspace.root} is not there any more: start the platform where it is now by `ganflow up`")
    signals.pass_on_as_terminate()
    run = flow_run.id
    if not run:
        yield
        return
    given = os.environ.get("PREFECT__FLOW_RUN_ID") == run
    Claim.make(workspace, run, f"PREFECT__FLOW_RUN_ID={run}" if given else "")
    with get_client(sync_client=True) as client:
        client.update_flow_run(UUID(run), infrastructure_pid=f"{socket.gethostname()}:{os.getpid()}")
    try:
        yield
    finally:
        drop_claim(workspace, run)


def state_of(work: Callable[P, Outcome]) -> Callable[P, State[Any]]:
    """`work` as a flow's body: what it did, or what went wrong, is the run's name and the sentence of its last state.

    Prefect's notifications send both to chats. Who calls the flow gets an error as it was raised.
    """

    @wraps(work)
    def run(*args: P.args, **kwargs: P.kwargs) -> State[Any]:
        given = signature(work).bind(*args, **kwargs)
        given.apply_defaults()
        workspace = Workspace(given.arguments["workspace"].absolute())
        logger = get_run_logger()
        try:
            with introduced(workspace):
                outcome = work(*args, **kwargs)
        except StoppedError as stopped:
            if deployment.id is None:
                # What stopped a command stopped its server too: nobody is left to be told.
                raise
            logger.warning("%s", stopped)
            _conclude(Outcome("stopped", str(stopped), ("stopped",)), workspace)
            return Crashed(name=STOPPED, message=said_in_chat(str(stopped)), data=stopped)
        except UserError as error:
            logger.error("%s", error)
            _conclude(Outcome("failed", str(error), ("failed",), "failed"), workspace)
            return Failed(message=said_in_chat(str(error)), data=error)
        except Exception as error:
            _conclude(Outcome("failed", f"{type(error).__name__}: {error}", ("failed",), "failed"), workspace)
            raise
        logger.info("%s", outcome.message)
        _conclude(outcome, workspace)
        return Completed(message=said_in_chat(outcome.message))

    # Prefect would look for the types of the parameters among the names of this module.
    run.__annotations__ = get_type_hints(work, include_extras=True)
    run.__signature__ = signature(work, eval_str=True)  # type: ignore[attr-defined]
    return run


def _conclude(outcome: Outcome, workspace: Workspace) -> None:
    """Name the run after what it did, and tell those who want to know."""
    if flow_run.id:
        name = f"{flow_run.flow_name}: {printable(outcome.what)}"
        # What a run is called is no reason to lose it.
        with suppress(Exception), get_client(sync_client=True) as client:
            tags = [*flow_run.tags, *(tag for tag in outcome.tags if tag not in flow_run.tags)]
            client.update_flow_run(UUID(flow_run.id), name=name, tags=tags)
    if outcome.event:
        _notify(outcome, workspace)


def _notify(outcome: Outcome, workspace: Workspace) -> None:
    """Tell people what happened, with the pictures and where to look."""
    platform, links = running(workspace), {}
    if platform and flow_run.id:
        links["run"] = f"{platform.pages}/runs/flow-run/{flow_run.id}"
    if outcome.verdict:
        links |= mlflow_pages(outcome.verdict, workspace)
    picture = workspace.gallery / "contact_sheet.png" if outcome.verdict else None
    title = f"{flow_run.flow_name or 'ganflow'}: {outcome.what}"
    # That somebody was not told is no reason to lose a run.
    try:
        for failure in notification.send(title, outcome.message, links, picture):
            get_run_logger().warning("%s", failure)
    except Exception as error:
        get_run_logger().warning("nobody was told of it: %s", type(error).__name__)
