"""The command `ganflow card`: what is known about the model or its data, to be published with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from components.gan.errors import UserError
from components.services import versioning
from components.workspace.artifacts import Dataset
from components.workspace.params import Params
from components.workspace.workspace import Workspace
from flows.cli.shared import ExistingOption, ModelOption, check_servers, existing_workspace


def card(
    model: ModelOption = "champion",
    dataset: Annotated[
        bool, typer.Option("--dataset", help="print the card of the data set that it learned from instead")
    ] = False,
    folder: ExistingOption = Path(),
) -> None:
    """Print the model card, in the Hugging Face format.

    That of the champion, as the gate wrote it, unless --model names another.
    """
    workspace = existing_workspace(folder)
    if model == "workspace":
        print(_workspace_card(workspace, dataset))
        return
    from components.reports.cards import DATASET_CARD, MODEL_CARD, attached
    from components.services.tracking.named_model import known_model

    try:
        wanted = known_model(model)
    except ValueError as error:
        raise UserError(f"--model: {error}") from None
    check_servers()
    print(
        attached(
            Params.load(workspace.params).register.name, wanted, DATASET_CARD if dataset else MODEL_CARD, workspace
        )
    )


def _workspace_card(workspace: Workspace, dataset: bool) -> str:
    from components.reports.dataset_card import dataset_card
    from components.reports.model_card import Subject, model_card

    if not dataset:
        check_servers()
        return model_card(Subject.of(workspace))
    params = Params.load(workspace.params)
    version, _ = versioning.data_version(workspace)
    return dataset_card(Dataset.load(workspace.dataset), params.register.name, version, params)
