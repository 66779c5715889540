"""The command `ganflow run`: what is due, the flow, and what came out of it."""

from __future__ import annotations

import logging
import os
import secrets
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from components.gan.errors import StoppedError, UserError
from components.gan.network_options import DCGAN
from components.gan.tasks.options import Generate, Inpaint, Restyle
from components.provenance import ledger
from components.reports.scores import rating, score_rows
from components.services import password, versioning
from components.services.address import masked
from components.services.cluster import placement, session
from components.services.platform import running
from components.services.tracking import connection, pages, registry
from components.training import begun
from components.workspace.artifacts import Evaluation, Model, Registration
from components.workspace.graph import STAGES, Step, plan
from components.workspace.params import Params
from components.workspace.presets import preset as preset_named
from components.workspace.scores import Scores
from components.workspace.text import printable
from components.workspace.verdict import Verdict
from components.workspace.workspace import Workspace
from flows.cli.data import shown
from flows.cli.shared import (
    STRICT,
    QuietOption,
    SetOption,
    StrictOption,
    WorkspaceOption,
    away,
    check_servers,
    workspace_at,
)
from flows.cli.stages import DiscardOption, discard_trainings
from flows.supervisor import supervisor
from flows.supervisor.ephemeral_server import end_orphans

_STARTUP_SECONDS = "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"
# The server that Prefect starts for a flow lives as long as the flow: no schedules, no automations.
_PREFECT = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    _STARTUP_SECONDS: "90",
    "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_FOREMAN_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_PAUSE_EXPIRATIONS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_REPOSSESSOR_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "false",
    # Its pages show what the run says; the terminal is told once, by `main`.
    "PREFECT_LOGGING_LEVEL": "INFO",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    "DO_NOT_TRACK": "1",
}


def run(
    folder: WorkspaceOption = None,
    overrides: SetOption = [],  # noqa: B006 - typer copies it
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="train as this preset says, not as params.yaml does; `ganflow presets` lists them"
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only list which stages would run, and why")] = False,
    discard: DiscardOption = False,
    strict: StrictOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run every stage that is out of date, then the gate.

    As a Prefect flow. A stage is out of date if its data, parameters or code changed.
    """
    workspace, overrides = workspace_at(folder), [*overrides, *([STRICT] if strict else [])]
    params = Params.load(workspace.params, overrides, preset_named(preset) if preset else None)
    steps = plan(workspace, params, connection.address())
    due = [step for step in steps if step.reason]
    judged = not due and Verdict.of(workspace) is not None
    half = None if discard else begun.unfinished(params, workspace)
    if dry_run or not (due or half):
        _show_plan(steps, judged)
    if dry_run:
        if half:
            print(f"Before that, it would be {half.finishing(workspace)}.")
        if session.address() is not None:
            check_servers()
            print(f"Ray at {session.address()}")
            for line in placement.describe(params.train.wanted_workers):
                print(f"  {line}")
        return
    if judged and not half:
        ledger.record(workspace)
        print("Nothing to do: data, parameters and code are those of the last run.")
        _summary(workspace)
        return
    check_servers()
    workspace.exclusive()
    end_orphans(workspace)
    if discard:
        discard_trainings(params, workspace)
    if half:
        print(f"ganflow is {half.finishing(workspace)}.\n")
    else:
        _announce(workspace, params, due)
    began = time.monotonic()
    with away(workspace):
        if half or "train" in {step.stage.name for step in due}:
            session.start()
        _run_flow(params, workspace)
    print()
    _summary(workspace)
    if half:
        print("  versions     not recorded: the next run is that of the present data and parameters")
    elif not overrides and not preset:
        print(f"  versions     {versioning.record(workspace, [stage.name for stage in STAGES])}")
    took = _duration(time.monotonic() - began)
    print(f"Done in {took}. Next:")
    for what, command in _next(workspace):
        print(f"  {what:<12} {command}")


def _run_flow(params: Params, workspace: Workspace) -> None:
    supervisor.use(workspace)
    os.environ.setdefault("PREFECT_HOME", str(workspace.state / "prefect"))
    for name, value in _PREFECT.items():
        os.environ.setdefault(name, value)
    if not os.environ.get("PREFECT_API_URL"):
        # Nobody but this flow knows the password of its server, which has no pages.
        auth = password.prefect_auth(secrets.token_urlsafe(32))
        os.environ.update(password.for_prefect_server(auth, "http://127.0.0.1"))
    from flows.pipeline import pipeline

    # Where the server has gone, what its pages lack is no news for the terminal.
    logging.raiseExceptions = False
    try:
        pipeline(params, workspace.root)
    except Exception as error:
        # Ctrl-C ends Prefect's temporary server too, so what arrives may be its absence.
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, StoppedError):
                raise cause from None
            cause = cause.__context__
        if isinstance(error, RuntimeError) and "ephemeral Prefect API server" in str(error):
            raise UserError(
                f"Prefect's temporary server has not started in {os.environ[_STARTUP_SECONDS]} s: wait until this "
                f"machine does less and run the same command again, set {_STARTUP_SECONDS} to more, or run the stages "
                "one by one (ganflow preprocess, train, ...)"
            ) from None
        from httpx import HTTPError

        if isinstance(error, HTTPError):
            server = masked(f"{os.environ.get('PREFECT_API_URL', 'its temporary server')}: {error}")
            told = f"Prefect cannot be reached any more ({server}); what is done is kept, and the same command"
            print(f"ganflow: {told} goes on from there", file=sys.stderr, flush=True)
            session.stop()
            # Prefect would try for minutes to tell the server that has gone what happened.
            os._exit(2)
        raise


def _show_plan(steps: Sequence[Step], judged: bool) -> None:
    for step in steps:
        print(f"  {step.stage.name:<12} {'would run: ' + step.reason if step.reason else 'up to date'}")
    why = "register runs" if steps[-1].reason else "this version was not judged"
    print(f"  {'promote':<12} {'up to date' if judged else 'would run: ' + why}")


def _announce(workspace: Workspace, params: Params, due: Sequence[Step]) -> None:
    names = [*(step.stage.name for step in due), "promote"]
    print(f"ganflow runs {' -> '.join(names)} in {workspace.root}")
    for step in due:
        print(f"  {step.stage.name:<12} {step.reason}")
    if "train" in names and params.train.network != DCGAN():
        print("How long it takes shows after the first images; around the training it is less than a minute.\n")
    elif "train" in names:
        # The default network's rate on two cores with bf16; cost grows with the pixels.
        height, width = params.preprocess.shape
        rate = 1_900 * (28**2 / (height * width)) ** 1.3
        seconds = params.train.images / rate
        print(f"About {_duration(seconds)} of training on two cores, and less than a minute around it.\n")
    else:
        print("Less than a minute.\n")


def _summary(workspace: Workspace) -> None:
    evaluation, registration = Evaluation.load(workspace.evaluation), Registration.load(workspace.registration)
    rows = score_rows(Scores.of(evaluation))
    if any(row.beside for row in rows):
        print("Scores (in brackets what is made of the same inputs without a network)")
    else:
        print("Scores (in brackets what real images get in their place, so what a perfect generator would get)")
    for row in rows:
        real = ", ".join(f"{name} {value}" for name, value, _ in row.baselines) or row.real
        print(f"  {row.name:<36} {row.value:>8}   {f'({real})' if real else '':<28} {row.standing}".rstrip())
    if found := rating(Scores.of(evaluation), False) if any(row.beside for row in rows) else None:
        print(f"  {found.word}: {found.reason}")
    print("Results")
    print(f"  pictures     {shown(workspace.gallery / 'contact_sheet.png')}")
    print(f"  report       {shown(workspace.gallery / 'report.html')}")
    print(f"  model        {registration.name} version {registration.version} ({_aliases(workspace, registration)})")
    if verdict := Verdict.of(workspace):
        print(f"  verdict      {verdict.answer}: {verdict.reason}")
        print(f"               {shown(workspace.verdict / 'verdict.html')}")


def _next(workspace: Workspace) -> Iterator[tuple[str, str]]:
    """Yield what a person may want to do now, and how."""
    where = "" if workspace.root == Path.cwd() else f" --workspace {shown(workspace.root)}"
    registration, verdict = Registration.load(workspace.registration), Verdict.of(workspace)
    server = pages.server_of(workspace)
    address = pages.version(server, registration.name, registration.version) if server else f"ganflow ui{where}"
    yield "open", address
    named = f"--model {registration.version}"
    model = Model.load(workspace.model)
    match model.training.task:
        case Generate():
            yield "sample", f"ganflow generate {named} --n 100 --out pictures{where}"
        case Restyle():
            wanted = shlex.quote(printable(model.image.classes[0]))
            yield "apply", f"ganflow apply {named} --to {wanted} photo.jpg --out results{where}"
        case Inpaint():
            yield "apply", f"ganflow apply {named} --mask mask.png photo.jpg --out results{where}"
        case _:
            yield "apply", f"ganflow apply {named} photo.jpg --out results{where}"
    if verdict and verdict.champion is not None and verdict.champion != registration.version:
        yield "compare", f"ganflow compare {verdict.champion} {registration.version}{where}"
    if running(workspace) is None:
        yield "schedule", f"ganflow up --detach{where}"


def _aliases(workspace: Workspace, registration: Registration) -> str:
    return ", ".join(registry.aliases(registration.name, registration.version, workspace)) or "no alias"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
