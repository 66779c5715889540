"""The command `ganflow card`: what is known about the model or its data, to be published with it."""

from __future__ import annotations

from typing import Annotated

import typer

from components.services import versioning
from components.workspace.artifacts import Dataset
from components.workspace.params import Params
from flows.cli.shared import WorkspaceOption, check_servers, workspace_at


def card(
    folder: WorkspaceOption = None,
    dataset: Annotated[bool, typer.Option("--dataset", help="that of the data set instead of the model's")] = False,
) -> None:
    """Print the model card, in the Hugging Face format.

    It is made of what lies in the workspace; --dataset prints the card of the data.
    """
    workspace = workspace_at(folder)
    from components.reports.dataset_card import dataset_card
    from components.reports.model_card import Subject, model_card

    if dataset:
        params = Params.load(workspace.params)
        version, _ = versioning.data_version(workspace)
        print(dataset_card(Dataset.load(workspace.dataset), params.register.name, version, params))
    else:
        check_servers()
        print(model_card(Subject.of(workspace)))
