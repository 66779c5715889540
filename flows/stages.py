"""The stages as Prefect tasks, and what Prefect's pages show of each.

Nothing is carried from one to the next but through the workspace, and stages skip what has not changed by their own
keys, so Prefect caches nothing. What a task made is written into the ledger, with the id of its flow run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import wraps
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar, cast

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.context import TaskRunContext
from prefect.runtime import flow_run
from prefect.states import Completed, Crashed, Failed
from prefect.tasks import Task

import components.apply
import components.generate
from components.apply import Applied
from components.gan.errors import StoppedError, UserError
from components.generate import Generated, GenerateRequest
from components.ingest.inbox import inbox
from components.photos.maker import ApplyRequest
from components.photos.sources import is_address
from components.services import versioning
from components.training.begun import Begun, restore_dataset
from components.workspace.artifacts import Artifact, Evaluation
from components.workspace.params import Params
from components.workspace.text import printable
from components.workspace.verdict import Verdict
from components.workspace.workspace import Workspace
from flows import prefect_artifacts
from flows.outcomes import details, summary
from flows.overheard import overheard
from flows.runner import Work, run_gate
from flows.runs import STOPPED

P = ParamSpec("P")
R = TypeVar("R")
UNCHANGED = "up to date"


class Done(NamedTuple, Generic[R]):
    """What a task returns, and in a few words what it did: its name in Prefect's pages, with the name of the stage."""

    result: R
    what: str


def _task(work: Callable[P, Done[R]]) -> Task[P, R]:
    """`work` as a task: logs what is printed, is named after what it did, and ends in a state that says it.

    What a user can mend is one sentence of the log and of the state, without a traceback.
    """

    @wraps(work)
    def run(*args: P.args, **kwargs: P.kwargs) -> Any:
        logger = get_run_logger()
        try:
            with overheard(_plain(logger.info), _plain(logger.warning)):
                done = work(*args, **kwargs)
        except StoppedError as stopped:
            return Crashed(name=STOPPED, message=printable(str(stopped)), data=stopped)
        except UserError as error:
            logger.error("%s", printable(str(error)))
            return Failed(message=printable(str(error)), data=error)
        what = printable(done.what)
        if context := TaskRunContext.get():
            context.task_run.name = f"{work.__name__}: {what}"
        return Completed(message=what, data=done.result)

    made = task(name=work.__name__, task_run_name=work.__name__, cache_policy=NO_CACHE)(run)

    def call(*args: Any, **kwargs: Any) -> Any:
        # A task that returns a state hands on the state itself.
        return made(*args, return_state=True, **kwargs).result()

    return cast("Task[P, R]", call)


def _plain(tell: Callable[..., object]) -> Callable[[str], object]:
    """`tell` a line as it is: a per cent sign in it is none of a format."""
    return lambda line: tell("%s", printable(line))


def _ran(name: str, params: Params, workspace: Workspace) -> Done[Artifact]:
    """Run a stage unless its result is there, and log which of both it was."""
    return _run(Work.of(name, params, workspace))


def _run(work: Work) -> Done[Artifact]:
    logger = get_run_logger()
    present = work.done()
    made = work.run(flow_run.id)
    if present is not None:
        logger.info("Skipped: parameters, inputs and code are those of the result in %s", made.folder)
        return Done(made, UNCHANGED)
    for line in details(made, work.workspace):
        logger.info("%s", printable(line))
    return Done(made, summary(made, work.workspace))


@_task
def data(params: Params, workspace: Workspace) -> Done[str]:
    """Return new files of the inbox, or of DVC's remote, into data/; a sentence about them if there are any."""
    logger, place = get_run_logger(), params.retrain.inbox
    if place is None:
        versioning.pull(workspace)
        logger.info("No retrain.inbox is named: data/ stays as DVC and people leave it")
        return Done("", "no inbox")
    found = inbox.ingest(place, workspace, params.preprocess)
    for name, reason in found.left.items():
        logger.warning("left in the inbox: %s: %s", printable(name), reason)
    logger.info("%s", found.message or f"Nothing new in {place}")
    if found.added:
        said = versioning.add(workspace)
        prefect_artifacts.new_data(found.added, said, place)
    what = f"{len(found.added):,} new files" if found.added else "nothing new"
    return Done(f"{found.message}; " if found.message else "", what)


@_task
def preprocess(params: Params, workspace: Workspace) -> Done[Artifact]:
    """Raw images -> artifacts/dataset."""
    return _ran("preprocess", params, workspace)


@_task
def restore(half: Begun, workspace: Workspace) -> Done[Artifact]:
    """Return the data set that a training was begun with, in place of the present one."""
    get_run_logger().info("%s", half.finishing(workspace))
    return Done(restore_dataset(half, workspace), f"data of {half.since:.16}")


@_task
def train(params: Params, workspace: Workspace) -> Done[Artifact]:
    """artifacts/dataset -> artifacts/model; goes on from the last checkpoint of the same training."""
    work = Work.of("train", params, workspace)
    shown = nullcontext() if work.done() else prefect_artifacts.training(work.key.id, params.train.images, workspace)
    with shown:
        return _run(work)


@_task
def evaluate(params: Params, workspace: Workspace) -> Done[Artifact]:
    """artifacts/model -> artifacts/evaluation: scores on samples of it."""
    done = _ran("evaluate", params, workspace)
    prefect_artifacts.scores(cast(Evaluation, done.result))
    return done


@_task
def postprocess(params: Params, workspace: Workspace) -> Done[Artifact]:
    """Finished pictures and the report: artifacts/gallery."""
    return _ran("postprocess", params, workspace)


@_task
def register(params: Params, workspace: Workspace) -> Done[Artifact]:
    """A version in MLflow's registry."""
    return _ran("register", params, workspace)


@_task
def promote(params: Params, workspace: Workspace) -> Done[Verdict]:
    """The gate: challenger against champion."""
    logger, before = get_run_logger(), Verdict.of(workspace)
    verdict = run_gate(params, workspace, flow_run.id)
    logger.info("%s: %s", verdict.headline, printable(verdict.reason))
    for check in verdict.checks:
        tell = logger.info if check.result == "passed" else logger.warning
        tell("%s: %s: %s", check.result, check.name, printable(check.words))
    if verdict.command:
        logger.info("What would let it decide: `%s`", verdict.command)
    logger.info("The page with the evidence: %s", workspace.verdict / "verdict.html")
    prefect_artifacts.verdict(verdict, workspace)
    return Done(verdict, UNCHANGED if verdict == before else f"version {verdict.challenger} {verdict.word.lower()}")


@_task
def render(batch: GenerateRequest, params: Params, workspace: Workspace) -> Done[Generated]:
    """A batch of finished pictures by a model of the registry."""
    generated = components.generate.generate(batch, params, workspace)
    get_run_logger().info("%s", printable(str(generated)))
    prefect_artifacts.generated(generated)
    return Done(generated, f"{generated.made:,} pictures made")


@_task
def apply(
    photos: Sequence[str], out: str, request: ApplyRequest, mask: str, params: Params, workspace: Workspace
) -> Done[Applied]:
    """Photos through a model of an image task; without any, those that are new in `apply.inbox`."""
    logger = get_run_logger()
    if photos and not out:
        raise UserError("name a folder for the results as out")
    if not photos and (out or mask):
        raise UserError("name photos, or folders of them; without any, those in apply.inbox are taken to apply.out")
    if photos:
        places = [_of_workspace(photo, workspace) for photo in photos]
        masked = _of_workspace(mask, workspace) if mask else None
        found = components.apply.apply(places, out, request, masked, params, workspace)
    else:
        found = components.apply.apply_to_arrived(request, params, workspace)
    for result in found.made:
        logger.info("%s", printable("; ".join((result.name, *result.said))))
    for name, reason in found.left.items():
        logger.info("left: %s: %s", printable(name), printable(reason))
    for name, reason in found.refused.items():
        logger.warning("refused: %s: %s", printable(name), printable(reason))
    logger.info("%s", printable(str(found)))
    prefect_artifacts.applied(found, workspace)
    return Done(found, f"{len(found.made):,} photos made")


def _of_workspace(place: str, workspace: Workspace) -> str:
    """Return an address as it is, and a path as one of the workspace."""
    return place if is_address(place) else str(workspace.root / place)
