"""What every flow run does: has a readable name, says which process it is, waits its turn, and tells why it ended."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from inspect import signature
from typing import ParamSpec, get_type_hints
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Crashed, Failed

from components.gan.errors import BusyError, StoppedError, UserError
from components.services import signals
from components.services.process import Claim, drop_claim
from components.workspace.text import said_in_chat
from components.workspace.workspace import Workspace
from flows.supervisor import ephemeral_server

P = ParamSpec("P")
# Of a run that was interrupted; the platform's next start goes on with it.
STOPPED = "Stopped"
WAIT_SECONDS = 24 * 3600


def named() -> str:
    """Name of a flow run: what it does, and when it was due."""
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


def state_of(work: Callable[P, str]) -> Callable[P, State[str]]:
    """`work` as a flow's body: the sentence that it returns, or that says what went wrong, is the run's last state.

    Prefect's notifications send it to chats.
    """

    @wraps(work)
    def run(*args: P.args, **kwargs: P.kwargs) -> State[str]:
        given = signature(work).bind(*args, **kwargs)
        given.apply_defaults()
        try:
            with introduced(Workspace(given.arguments["workspace"].absolute())):
                return Completed(message=said_in_chat(work(*args, **kwargs)))
        except StoppedError as stopped:
            return Crashed(name=STOPPED, message=said_in_chat(str(stopped)))
        except UserError as error:
            return Failed(message=said_in_chat(str(error)))

    # Prefect would look for the types of the parameters among the names of this module.
    run.__annotations__ = get_type_hints(work)
    run.__signature__ = signature(work, eval_str=True)  # type: ignore[attr-defined]
    return run
