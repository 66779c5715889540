"""The commands of single stages, which DVC calls too, and of the gate."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from components.gan.errors import UserError
from components.services.cluster import session
from components.services.tracking import champions
from components.training import begun
from components.workspace.artifacts import Artifact, Dataset
from components.workspace.params import Params
from components.workspace.verdict import Verdict
from components.workspace.workspace import Workspace
from flows.cli.data import shown
from flows.cli.shared import STRICT, QuietOption, SetOption, StrictOption, WorkspaceOption, away, ready
from flows.runner import Work, run_gate

if TYPE_CHECKING:
    from components.training.profiling import Steps

DiscardOption = Annotated[
    bool,
    typer.Option(
        "--discard-training",
        help="give up a training that was begun with other data or parameters, instead of finishing it",
    ),
]


def preprocess(
    folder: WorkspaceOption = None,
    overrides: SetOption = [],  # noqa: B006
    quiet: QuietOption = False,
    strict: StrictOption = False,
) -> None:
    """Turn the raw images in data/ into artifacts/dataset."""
    dataset = _stage("preprocess", *ready(folder, [*overrides, *([STRICT] if strict else [])]))
    assert isinstance(dataset, Dataset)
    print(f"{dataset.sizes}. {dataset.near_duplicates_found}")


def train(
    folder: WorkspaceOption = None,
    overrides: SetOption = [],  # noqa: B006
    quiet: QuietOption = False,
    discard: DiscardOption = False,
    profile: Annotated[
        str | None,
        typer.Option(
            metavar="FIRST..LAST",
            help="look at these steps, counted from the start: times, memory and a trace for Perfetto, in "
            ".ganflow/profiles and MLflow",
        ),
    ] = None,
) -> None:
    """Train artifacts/model; continue a training that was stopped."""
    steps = None
    if profile is not None:
        from components.training.profiling import Steps

        steps = Steps.read(profile)
    workspace, params = ready(folder, overrides)
    if discard:
        discard_trainings(params, workspace)
    present = Dataset.load(workspace.dataset).key if (workspace.dataset / Dataset.manifest).exists() else None
    half = begun.unfinished(params, workspace, present)
    if half and "DVC_STAGE" in os.environ:
        # What DVC writes down is that these parameters and this data set were trained with.
        print(f"{half.summary(workspace)} waits: `ganflow run` finishes it")
    elif half:
        print(f"ganflow is {half.finishing(workspace)}.", flush=True)
        params = half.resumed(params)
        begun.restore_dataset(half, workspace)
    model = _stage("train", workspace, params, **({"profile": steps} if steps else {}))
    begun.end(model.key, workspace)
    if steps:
        _show_profile(model.key.id, steps, workspace)


def evaluate(
    folder: WorkspaceOption = None,
    overrides: SetOption = [],  # noqa: B006
    quiet: QuietOption = False,
    full: Annotated[bool, typer.Option("--full", help="the same as --set evaluate.full=true")] = False,
) -> None:
    """Score the model on samples of it: artifacts/evaluation."""
    _stage("evaluate", *ready(folder, [*overrides, *(["evaluate.full=true"] if full else [])]))


def postprocess(
    folder: WorkspaceOption = None,
    overrides: SetOption = [],  # noqa: B006
    quiet: QuietOption = False,
) -> None:
    """Finish pictures and write the report: artifacts/gallery."""
    _stage("postprocess", *ready(folder, overrides))


def register(
    folder: WorkspaceOption = None,
    overrides: SetOption = [],  # noqa: B006
    quiet: QuietOption = False,
) -> None:
    """Register the model as a version in MLflow's registry."""
    _stage("register", *ready(folder, overrides))


def promote(
    folder: WorkspaceOption = None,
    overrides: SetOption = [],  # noqa: B006
    quiet: QuietOption = False,
    accept: Annotated[
        str | None,
        typer.Option(metavar="REASON", help="let the scores decide although a check could not tell; overrules no veto"),
    ] = None,
) -> None:
    """Let the gate compare challenger and champion.

    The better one becomes champion, and a page says why.
    """
    workspace, params = ready(folder, overrides)
    if accept is not None and not accept.strip():
        raise UserError("--accept needs the reason, which stands in the verdict")
    verdict = run_gate(params, workspace, accepted=accept)
    print(f"{verdict.name} version {verdict.challenger}: {verdict.answer}; {verdict.reason}")
    for check in verdict.checks:
        print(f"  {check.result:<8} {check.name}: {check.words}")
    print(f"Who is champion: {_champion(verdict)}. The page: {shown(workspace.verdict / 'verdict.html')}")


def rollback(folder: WorkspaceOption = None, overrides: SetOption = []) -> None:  # noqa: B006
    """Restore the previous champion (idempotent)."""
    workspace, params = ready(folder, overrides)
    name = params.register.name
    now, before = champions.rollback(name, workspace)
    print(
        f"{name} version {now} is champion again, instead of version {before}"
        if before is not None
        else f"{name} version {now} is champion again already"
    )


def _champion(verdict: Verdict) -> str:
    version = verdict.challenger if verdict.answer == "promote" else verdict.champion
    return "nobody" if version is None else f"version {version}"


def discard_trainings(params: Params, workspace: Workspace) -> None:
    """Give up the trainings that wait to be finished."""
    while half := begun.unfinished(params, workspace):
        print(f"given up: {half.summary(workspace)}; with its parameters and data it would still go on from there")
        begun.end(half.key, workspace)


def _show_profile(key: str, steps: Steps, workspace: Workspace) -> None:
    from components.services.tracking.live import send_folder
    from components.training import profiling

    folder = profiling.folder_of(key, steps, workspace)
    found = profiling.read(folder)
    first, last = found.steps
    print(f"Steps {first} to {last} took {1000 * found.step_seconds:,.1f} ms each. Where the time of all steps went:")
    for line in found.lines:
        print(f"  {line}")
    sent = send_folder(workspace, key, folder, f"profiles/{first}-{last}")
    print(f"Profile  {shown(folder)}{f', and in MLflow under {sent}' if sent else ''}")
    print(f"         {profiling.TABLE}: the dearest operators; {profiling.TRACE}: open it in https://ui.perfetto.dev")


def _stage(name: str, workspace: Workspace, params: Params, **asked: Any) -> Artifact:
    work = Work.of(name, params, workspace)
    if asked and work.done():
        from components.training.profiling import NOTHING_LEFT

        raise UserError(NOTHING_LEFT)
    with away(workspace):
        if name == "train" and not work.done():
            # Ray takes as long to start as the imports.
            session.start()
        artifact = work.run(**asked)
    print(f"{type(artifact).__name__.lower()} {artifact.key.id} in {shown(artifact.folder)}")
    return artifact
