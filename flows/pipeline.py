"""The main flow: from raw images to a registered model."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from components.artifacts import Registration, Workspace
from components.params import Params
from flows import stages, temporary_server


@flow
def pipeline(params: Params | None = None, workspace: Path = Path()) -> Registration:
    """Preprocess, train, evaluate, postprocess, register, promote; by default with the workspace's parameters."""
    home = Workspace(workspace.absolute())
    params = params or Params.load(home.params)
    with home.exclusive():
        temporary_server.note(home)
        dataset = stages.preprocess(params.preprocess, home.data, home.dataset)
        model = stages.train(params.train, dataset, home.model)
        evaluation = stages.evaluate(params.evaluate, model, dataset, home.evaluation)
        gallery = stages.postprocess(params.postprocess, evaluation, model, dataset, home.gallery)
        registration = stages.register(params.register, model, evaluation, gallery, home.registration)
        stages.promote(params.promote, registration, model, evaluation, dataset, home)
        return registration
