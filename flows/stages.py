"""The stages as Prefect tasks. They hand each other artifacts, a path and a few numbers, so nothing heavy is carried.

Stages skip what has not changed by their own keys, so Prefect caches nothing. What a task made is written into the
ledger, with the id of its flow run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

import components.evaluate
import components.generate
import components.postprocess
import components.preprocess
import components.promote
import components.register
import components.train
from components.generate import Generated, GenerateRequest
from components.ingest import inbox
from components.provenance import ledger
from components.services import versioning
from components.workspace.artifacts import Artifact, Dataset, Evaluation, Model, Registration
from components.workspace.graph import key_of
from components.workspace.params import Evaluate, Params, Promote, Retrain, Train
from components.workspace.verdict import Verdict
from components.workspace.workspace import Workspace
from flows import prefect_artifacts

# DVC is slow on more files than that.
MANY_FILES = 10_000
P = ParamSpec("P")
A = TypeVar("A", bound=Artifact)


def _recorded(stage: Callable[P, A]) -> Callable[P, A]:
    @wraps(stage)
    def run(*args: P.args, **kwargs: P.kwargs) -> A:
        made = stage(*args, **kwargs)
        ledger.record(Workspace.around(made.folder), made, flow_run.id)
        return made

    return run


@task(cache_policy=NO_CACHE)
def data(options: Retrain, workspace: Workspace) -> str:
    """New files of the inbox, or of DVC's remote, into data/; a sentence about them if there are any."""
    if options.inbox is None:
        versioning.pull(workspace)
        return ""
    added = inbox.ingest(options.inbox, workspace)
    if not added:
        return ""
    said = versioning.add(workspace, MANY_FILES)
    prefect_artifacts.new_data(added, said, options.inbox)
    return f"{len(added)} new files; "


preprocess = task(cache_policy=NO_CACHE)(_recorded(components.preprocess.preprocess))


@task(cache_policy=NO_CACHE)
def train(options: Train, dataset: Dataset, out: Path) -> Model:
    key = key_of("train", options, dataset.content)
    with prefect_artifacts.training(key.id, options.images, Workspace.around(out)):
        return _recorded(components.train.train)(options, dataset, out)


@task(cache_policy=NO_CACHE)
def evaluate(options: Evaluate, model: Model, dataset: Dataset, out: Path) -> Evaluation:
    evaluation = _recorded(components.evaluate.evaluate)(options, model, dataset, out)
    prefect_artifacts.scores(evaluation)
    return evaluation


postprocess = task(cache_policy=NO_CACHE)(_recorded(components.postprocess.postprocess))
register = task(cache_policy=NO_CACHE)(_recorded(components.register.register))


@task(cache_policy=NO_CACHE)
def promote(
    options: Promote,
    registration: Registration,
    model: Model,
    evaluation: Evaluation,
    dataset: Dataset,
    workspace: Workspace,
) -> Verdict:
    made = registration, model, evaluation, dataset
    verdict = components.promote.promote(options, *made, workspace, flow_run.id)
    prefect_artifacts.verdict(verdict, workspace)
    return verdict


@task(cache_policy=NO_CACHE)
def render(batch: GenerateRequest, params: Params, workspace: Workspace) -> Generated:
    generated = components.generate.generate(batch, params, workspace)
    prefect_artifacts.generated(generated)
    return generated
