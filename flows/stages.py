"""The stages as Prefect tasks, and what Prefect's pages show of each.

Nothing is carried from one to the next but through the workspace, and stages skip what has not changed by their own
keys, so Prefect caches nothing. What a task made is written into the ledger, with the id of its flow run.
"""

from __future__ import annotations

from typing import cast

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

import components.generate
from components.generate import Generated, GenerateRequest
from components.ingest import inbox
from components.services import versioning
from components.training.begun import Begun, restore_dataset
from components.workspace.artifacts import Artifact, Evaluation
from components.workspace.params import Params
from components.workspace.text import printable
from components.workspace.verdict import Verdict
from components.workspace.workspace import Workspace
from flows import prefect_artifacts
from flows.runner import Work, run_gate, run_stage


@task(cache_policy=NO_CACHE)
def data(params: Params, workspace: Workspace) -> str:
    """Return new files of the inbox, or of DVC's remote, into data/; a sentence about them if there are any."""
    if params.retrain.inbox is None:
        versioning.pull(workspace)
        return ""
    found = inbox.ingest(params.retrain.inbox, workspace, params.preprocess)
    for name, reason in found.left.items():
        get_run_logger().warning("left in the inbox: %s: %s", printable(name), reason)
    if found.added:
        said = versioning.add(workspace)
        prefect_artifacts.new_data(found.added, said, params.retrain.inbox)
    return f"{found.message}; " if found.message else ""


@task(cache_policy=NO_CACHE)
def preprocess(params: Params, workspace: Workspace) -> Artifact:
    return run_stage("preprocess", params, workspace, flow_run.id)


@task(cache_policy=NO_CACHE)
def restore(half: Begun, workspace: Workspace) -> Artifact:
    """Return the data set that a training was begun with, in place of the present one."""
    get_run_logger().info("%s", half.finishing(workspace))
    return restore_dataset(half, workspace)


@task(cache_policy=NO_CACHE)
def train(params: Params, workspace: Workspace) -> Artifact:
    work = Work.of("train", params, workspace)
    with prefect_artifacts.training(work.key.id, params.train.images, workspace):
        return work.run(flow_run.id)


@task(cache_policy=NO_CACHE)
def evaluate(params: Params, workspace: Workspace) -> Artifact:
    evaluation = cast(Evaluation, run_stage("evaluate", params, workspace, flow_run.id))
    prefect_artifacts.scores(evaluation)
    return evaluation


@task(cache_policy=NO_CACHE)
def postprocess(params: Params, workspace: Workspace) -> Artifact:
    return run_stage("postprocess", params, workspace, flow_run.id)


@task(cache_policy=NO_CACHE)
def register(params: Params, workspace: Workspace) -> Artifact:
    return run_stage("register", params, workspace, flow_run.id)


@task(cache_policy=NO_CACHE)
def promote(params: Params, workspace: Workspace) -> Verdict:
    verdict = run_gate(params, workspace, flow_run.id)
    prefect_artifacts.verdict(verdict, workspace)
    return verdict


@task(cache_policy=NO_CACHE)
def render(batch: GenerateRequest, params: Params, workspace: Workspace) -> Generated:
    generated = components.generate.generate(batch, params, workspace)
    prefect_artifacts.generated(generated)
    return generated
