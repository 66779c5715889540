"""The cards of registered versions, attached to their runs in MLflow."""

from __future__ import annotations

from ..gan.errors import NotThereError
from ..services.tracking import runs
from ..services.tracking.named_model import ModelName, named_version
from ..workspace.workspace import Workspace
from .dataset_card import dataset_card
from .model_card import Subject, model_card, model_summary

MODEL_CARD, DATASET_CARD = "model_card.md", "dataset_card.md"


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
        MODEL_CARD: model_card(subject).encode(),
        DATASET_CARD: dataset_card(subject.dataset, registration.name, subject.data_version, subject.params).encode(),
    }
    if subject.verdict is not None:
        files |= {file.name: file.read_bytes() for file in sorted(workspace.verdict.iterdir())}
    facts = {"splits": subject.dataset.splits, "classes": len(subject.dataset.image.classes)}
    data = runs.UsedData(subject.data_version or subject.dataset.source, facts)
    runs.attach(registration.name, registration.version, workspace, files, model_summary(subject), data)


def attached(name: str, wanted: ModelName, file: str, workspace: Workspace) -> str:
    """Return the `MODEL_CARD` or `DATASET_CARD` of the version of `name` that `wanted` names, as the gate wrote it.

    Raises:
        NotThereError: there is no such version, or the gate has not judged it.
        UnreachableError: the registry does not answer.
    """
    version = named_version(wanted, name, workspace)
    card = runs.attached(name, version.version, file, workspace)
    if card is None:
        raise NotThereError(f"{version} has no card yet: `ganflow promote` judges it and writes one")
    return card
