"""The command `ganflow`. Heavy imports are paid only by the command that needs them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from components.gan.errors import StoppedError, UserError
from components.gan.options import DCGAN
from components.provenance import ledger
from components.services import versioning
from components.services.address import masked
from components.services.cluster import placement, session
from components.services.tracking import champions, connection, registry
from components.training import begun
from components.workspace.artifacts import Artifact, Dataset, Evaluation, Registration
from components.workspace.graph import STAGES, Step, plan
from components.workspace.params import Params
from components.workspace.presets import preset as preset_named
from components.workspace.scores import Scores
from components.workspace.verdict import Verdict
from components.workspace.workspace import Workspace
from flows.cli.cards import card
from flows.cli.clean import clean
from flows.cli.data import data_app, init, shown
from flows.cli.doctor import doctor
from flows.cli.generate import generate, render, sample
from flows.cli.platform import down, drift, status, up
from flows.cli.presets import presets
from flows.cli.provenance import impact, rebuild_registry, trace
from flows.cli.shared import SetOption, WorkspaceOption, check_servers, ready, workspace_at
from flows.cli.sign import sign
from flows.cli.sweep import sweep
from flows.runner import Work, judge
from flows.supervisor import supervisor
from flows.supervisor.ephemeral_server import end_orphans

DiscardOption = Annotated[
    bool, typer.Option("--discard-training", help="do not finish a training that waits, of other data or parameters")
]
# The server that Prefect starts for a flow lives as long as the flow: no schedules, no automations.
_PREFECT = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
    "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_FOREMAN_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_PAUSE_EXPIRATIONS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_REPOSSESSOR_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "false",
    # What goes wrong is told once, by `main`.
    "PREFECT_LOGGING_LEVEL": "ERROR",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    "DO_NOT_TRACK": "1",
}

app = typer.Typer(
    help="Train, judge, finish and publish image GANs: preprocess, train, evaluate, postprocess, register.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Entry point: what is wrong is told in one sentence, with exit code 2 (130 for Ctrl-C)."""
    try:
        app()
    except UserError as error:
        _fail(str(error), error.exit_code)
    except OSError as error:
        if error.errno is None:
            raise
        _fail(f"{error.strerror}: {error.filename or 'the disk'}; earlier results are intact", 2)


def _fail(sentence: str, code: int) -> NoReturn:
    print(f"ganflow: {sentence}", file=sys.stderr)
    sys.exit(code)


@app.command(
    epilog="Examples: ganflow run | ganflow run --dry-run | ganflow run --set train.images=64000 | "
    "ganflow run --preset fashion-dcgan"
)
def run(
    folder: WorkspaceOption = None,
    overrides: SetOption = [],  # noqa: B006 - typer copies it
    preset: Annotated[
        str | None, typer.Option(metavar="NAME", help="its section train instead of params.yaml's; see ganflow presets")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only list which stages would run, and why")] = False,
    discard: DiscardOption = False,
) -> None:
    """Run the stages whose data, parameters or code changed, as a Prefect flow."""
    workspace = workspace_at(folder)
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
        _discard(params, workspace)
    if half:
        print(f"ganflow is {half.finishing(workspace)}.\n")
    else:
        _announce(workspace, params, due)
    began = time.monotonic()
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
    print(f"Done in {took}. `ganflow ui` opens the experiments, `ganflow generate` makes images.")


app.command(
    epilog="Examples: ganflow init --data ~/photos --workspace ~/faces | ganflow init --data pictures.zip --workspace w"
)(init)
app.add_typer(data_app, name="data")
app.command(epilog="Examples: ganflow presets | ganflow presets fashion-r3gan")(presets)
app.command(epilog="Examples: ganflow card > model_card.md | ganflow card --dataset")(card)
app.command(
    epilog="Examples: ganflow sweep --images 64000 --write | ganflow sweep --over train.r1_gamma=0.5,1,2 "
    "--over train.loss=hinge,non_saturating --trials 4"
)(sweep)


@app.command()
def preprocess(folder: WorkspaceOption = None, overrides: SetOption = []) -> None:  # noqa: B006
    """Raw images under data/ -> artifacts/dataset."""
    _stage("preprocess", *ready(folder, overrides))


@app.command()
def train(
    folder: WorkspaceOption = None,
    overrides: SetOption = [],  # noqa: B006
    discard: DiscardOption = False,
) -> None:
    """artifacts/dataset -> artifacts/model; goes on where a killed training stopped."""
    workspace, params = ready(folder, overrides)
    if discard:
        _discard(params, workspace)
    present = Dataset.load(workspace.dataset).key if (workspace.dataset / Dataset.manifest).exists() else None
    half = begun.unfinished(params, workspace, present)
    if half and "DVC_STAGE" in os.environ:
        # What DVC writes down is that these parameters and this data set were trained with.
        print(f"{half.told(workspace)} waits: `ganflow run` finishes it")
    elif half:
        print(f"ganflow is {half.finishing(workspace)}.", flush=True)
        params = half.resumed(params)
        begun.restore_dataset(half, workspace)
    model = _stage("train", workspace, params)
    begun.end(model.key, workspace)


@app.command(epilog="Examples: ganflow evaluate | ganflow evaluate --full")
def evaluate(
    folder: WorkspaceOption = None,
    overrides: SetOption = [],  # noqa: B006
    full: Annotated[bool, typer.Option("--full", help="the same as --set evaluate.full=true")] = False,
) -> None:
    """The model's scores, and the samples they were measured on -> artifacts/evaluation."""
    _stage("evaluate", *ready(folder, [*overrides, *(["evaluate.full=true"] if full else [])]))


@app.command()
def postprocess(folder: WorkspaceOption = None, overrides: SetOption = []) -> None:  # noqa: B006
    """Finished images, contact sheet and report -> artifacts/gallery."""
    _stage("postprocess", *ready(folder, overrides))


@app.command()
def register(folder: WorkspaceOption = None, overrides: SetOption = []) -> None:  # noqa: B006
    """The model with its scores and pictures -> a version in MLflow's registry."""
    _stage("register", *ready(folder, overrides))


@app.command(epilog="Examples: ganflow promote | ganflow promote --set promote.margin=0.1")
def promote(folder: WorkspaceOption = None, overrides: SetOption = []) -> None:  # noqa: B006
    """Challenger against champion: the better one becomes champion, and a page says why."""
    workspace, params = ready(folder, overrides)
    verdict = judge(params, workspace)
    print(f"{verdict.name} version {verdict.challenger}: {verdict.answer}; {verdict.reason}")
    for check in verdict.checks:
        print(f"  {'passed' if check.passed else 'VETO':<8} {check.name}: {check.words}")
    print(f"Who is champion: {_champion(verdict)}. The page: {shown(workspace.verdict / 'verdict.html')}")


@app.command(epilog="Example: ganflow rollback")
def rollback(folder: WorkspaceOption = None, overrides: SetOption = []) -> None:  # noqa: B006
    """Make the champion before the present one champion again; a second time changes nothing."""
    workspace, params = ready(folder, overrides)
    name = params.register.name
    now, before = champions.rollback(name, workspace)
    print(
        f"{name} version {now} is champion again, instead of version {before}"
        if before is not None
        else f"{name} version {now} is champion again already"
    )


app.command(
    epilog="Examples: ganflow generate --n 1000 --class 7 --out renders/sevens | "
    "ganflow generate --n 100000 --out s3://bucket/digits | ganflow generate --model 3 --raw"
)(generate)
app.command(epilog="Example: ganflow sample --n 20 --class 7 --seed 1 --out sevens")(sample)
app.command(epilog="Example: ganflow render --n 1000 --class 7 --out renders/sevens")(render)
app.command(epilog="Example: ganflow sign --certificate chain.pem --key key.pem --out signed")(sign)


@app.command(epilog="Exit code 0: all is as it was written; 1: something is not.")
def verify(folder: WorkspaceOption = None) -> None:
    """Hash data, artifacts, checkpoints, ledger and registered models again; say what is damaged and what mends it."""
    workspace = workspace_at(folder)
    check_servers()
    from components.maintenance.verify import verify as findings

    damaged = 0
    for finding in findings(workspace):
        print(f"{'damaged' if finding.wrong else 'ok':<8} {finding.part}", flush=True)
        if finding.wrong:
            damaged += 1
            print(f"         {finding.wrong};\n         {finding.mends}")
    if damaged:
        raise typer.Exit(1)


app.command(epilog="Examples: ganflow trace ~/Desktop/7-1000004.png | ganflow trace picture.png --html chain.html")(
    trace
)
app.command(epilog="Examples: ganflow impact data/images-idx3-ubyte.gz | ganflow impact e3f4078c")(impact)
app.command(epilog="Example: ganflow rebuild-registry --workspace ~/faces")(rebuild_registry)
app.command(epilog="Examples: ganflow clean | ganflow clean --remove | ganflow clean --set clean.keep_days=1")(clean)


app.command(epilog="Examples: ganflow up | ganflow up --detach | ganflow up --prefect-port 4201")(up)
app.command(epilog="Example: ganflow down")(down)
app.command(epilog="Example: ganflow drift --set retrain.inbox=~/incoming")(drift)
app.command(epilog="Examples: ganflow status | ganflow status --json")(status)
app.command(epilog="Exit code 0: all is well; 1: something is to be done. Example: ganflow doctor --json")(doctor)


@app.command(name="params")
def list_params() -> None:
    """Every key of params.yaml with its default and what it does."""
    for section, field in Params.model_fields.items():
        defaults = field.default
        print(f"{section}:  # {(type(defaults).__doc__ or '').partition(chr(10))[0]}")
        for name, described in type(defaults).model_fields.items():
            value = defaults.model_dump(mode="json")[name]
            print(f"  {name}: {json.dumps(value)}")
            if described.description:
                print(f"      # {described.description}")


@app.command()
def ui(
    folder: WorkspaceOption = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="on this machine only")] = 5000,
) -> None:
    """Open MLflow's pages: experiments, sample images, registered models. Ctrl-C ends it."""
    workspace = workspace_at(folder)
    if connection.address() != "embedded":
        print(f"The experiments are at {connection.address()}")
        return
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise UserError(f"port {port} is in use: name another by --port")
    print(f"Experiments and models: http://127.0.0.1:{port} (Ctrl-C ends it)")
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    quiet = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    subprocess.run([*command, "--backend-store-uri", connection.uri(workspace)], env=quiet, check=False)


def _run_flow(params: Params, workspace: Workspace) -> None:
    supervisor.use(workspace)
    os.environ.setdefault("PREFECT_HOME", str(workspace.state / "prefect"))
    for name, value in _PREFECT.items():
        os.environ.setdefault(name, value)
    from flows.pipeline import pipeline

    try:
        pipeline(params, workspace.root)
    except Exception as error:
        # Ctrl-C ends Prefect's temporary server too, so what arrives may be its absence.
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, StoppedError):
                raise cause from None
            cause = cause.__context__
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
    print("Scores (floor: the same for real images)")
    scores = Scores.of(evaluation)
    for score in scores:
        if score.images != "floor":
            floor = scores.beside(score, "floor")
            print(f"  {score.name:<32} {score.value:9.4f}" + (f"   floor {floor.value:.4f}" if floor else ""))
    print("Results")
    print(f"  pictures     {shown(workspace.gallery / 'contact_sheet.png')}")
    print(f"  report       {shown(workspace.gallery / 'report.html')}")
    print(f"  model        {registration.name} version {registration.version} ({_aliases(workspace, registration)})")
    if verdict := Verdict.of(workspace):
        print(f"  verdict      {verdict.answer}: {verdict.reason}")
        print(f"               {shown(workspace.verdict / 'verdict.html')}")


def _champion(verdict: Verdict) -> str:
    version = verdict.challenger if verdict.answer == "promote" else verdict.champion
    return "nobody" if version is None else f"version {version}"


def _aliases(workspace: Workspace, registration: Registration) -> str:
    return ", ".join(registry.aliases(registration.name, registration.version, workspace)) or "no alias"


def _discard(params: Params, workspace: Workspace) -> None:
    """Let go of the trainings that wait to be finished."""
    while half := begun.unfinished(params, workspace):
        print(f"given up: {half.told(workspace)}; with its parameters and data it would still go on from there")
        begun.end(half.key, workspace)


def _stage(name: str, workspace: Workspace, params: Params) -> Artifact:
    work = Work.of(name, params, workspace)
    if name == "train" and not work.done():
        # Ray takes as long to start as the imports.
        session.start()
    artifact = work.run()
    print(f"{type(artifact).__name__.lower()} {artifact.key.id} in {shown(artifact.folder)}")
    return artifact


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
