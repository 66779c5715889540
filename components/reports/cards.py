"""The cards of the registered version, attached to its run in MLflow."""

from __future__ import annotations

from ..gan.errors import NotThereError
from ..services.tracking import runs
from ..workspace.workspace import Workspace
from .dataset_card import dataset_card
from .model_card import Subject, model_card, model_summary


def attach(workspace: Workspace) -> None:
    """Put the cards, and the verdict if there is one, into the run of the registered version, and describe it.

    Raises:
        UserError: the model is not registered, or the server cannot be reached.
    """
    subject = Subject.of(workspace)
    registration = subject.registration
    if registration is None:
        raise NotThereError("this model is not registered: run `ganflow register`")
    files = {
        "model_card.md": model_card(subject).encode(),
        "dataset_card.md": dataset_card(
            subject.dataset, registration.name, subject.data_version, subject.params
        ).encode(),
    }
    if subject.verdict is not None:
        files |= {file.name: file.read_bytes() for file in sorted(workspace.verdict.iterdir())}
    facts = {"splits": subject.dataset.splits, "classes": len(subject.dataset.image.classes)}
    data = runs.UsedData(subject.data_version or subject.dataset.source, facts)
    runs.attach(registration.name, registration.version, workspace, files, model_summary(subject), data)
