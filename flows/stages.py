"""The stages as Prefect tasks. They hand each other artifacts, a path and a few numbers, so nothing heavy is carried.

Stages skip what has not changed by their own keys, so Prefect caches nothing. What a task made is written into the
ledger, with the id of its flow run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

import components.evaluate
import components.postprocess
import components.preprocess
import components.promote
import components.register
import components.train
from components import ledger
from components.artifacts import Artifact, Dataset, Evaluation, Model, Registration, Workspace
from components.params import Promote
from components.verdict import Verdict

P = ParamSpec("P")
A = TypeVar("A", bound=Artifact)


def _recorded(stage: Callable[P, A]) -> Callable[P, A]:
    @wraps(stage)
    def run(*args: P.args, **kwargs: P.kwargs) -> A:
        made = stage(*args, **kwargs)
        ledger.record(Workspace.around(made.folder), made, flow_run.id)
        return made

    return run


preprocess = task(cache_policy=NO_CACHE)(_recorded(components.preprocess.preprocess))
train = task(cache_policy=NO_CACHE)(_recorded(components.train.train))
evaluate = task(cache_policy=NO_CACHE)(_recorded(components.evaluate.evaluate))
postprocess = task(cache_policy=NO_CACHE)(_recorded(components.postprocess.postprocess))
register = task(cache_policy=NO_CACHE)(_recorded(components.register.register))


@task(cache_policy=NO_CACHE)
def promote(
    options: Promote,
    registration: Registration,
    model: Model,
    evaluation: Evaluation,
    dataset: Dataset,
    home: Workspace,
) -> Verdict:
    verdict = components.promote.promote(options, registration, model, evaluation, dataset, home)
    ledger.record(home, verdict, flow_run.id)
    return verdict
