"""The cards of registered versions, attached to their runs in MLflow."""

from __future__ import annotations

import re

from ..gan.errors import NotThereError
from ..services.tracking import runs
from ..services.tracking.named_model import ModelName, named_version
from ..workspace.workspace import Workspace
from .dataset_card import dataset_card
from .model_card import Subject, model_card
from .summaries import PREVIEW, Place, model_description, preview, version_summary

MODEL_CARD, DATASET_CARD = "model_card.md", "dataset_card.md"
# Of a run: the cards as they are published.
HUB = f"{runs.REPORT}/hub"


def attach(workspace: Workspace) -> None:
    """Put the cards, and the verdict if there is one, into the run of the registered version, and describe it.

    Raises:
        UserError: the model is not registered, or the server cannot be reached.
    """
    subject = Subject.of(workspace)
    registration = subject.registration
    if registration is None:
        raise NotThereError("this model is not registered: run `ganflow register`")
    written = {
        MODEL_CARD: model_card(subject),
        DATASET_CARD: dataset_card(subject.dataset, registration.name, subject.data_version, subject.params),
    }
    files = {f"{HUB}/{name}": card.encode() for name, card in written.items()}
    files |= {f"{runs.REPORT}/{name}": readable(card).encode() for name, card in written.items()}
    if subject.verdict is not None:
        files |= {f"{runs.REPORT}/{file.name}": file.read_bytes() for file in sorted(workspace.verdict.iterdir())}
    if picture := preview(subject):
        files[f"{runs.PICTURES}/{PREVIEW}"] = picture
    facts = {"splits": subject.dataset.splits, "classes": len(subject.dataset.image.classes)}
    data = runs.UsedData(subject.data_version or subject.dataset.source, facts)
    version = registration.name, registration.version
    place = Place(*version, *runs.run_of_version(*version, workspace))
    promoted = subject.verdict is not None and subject.verdict.answer == "promote"
    of_model = model_description(subject, place) if promoted else None
    descriptions = runs.Descriptions(version_summary(subject, place), of_model)
    runs.attach(*version, workspace, files, descriptions, data)


def readable(card: str) -> str:
    """Return a card without the YAML at its beginning, which MLflow's page shows as text."""
    return re.sub(r"\A---\n.*?\n---\n+", "", card, flags=re.DOTALL)


def attached(name: str, wanted: ModelName, file: str, workspace: Workspace) -> str:
    """Return the `MODEL_CARD` or `DATASET_CARD` of the version of `name` that `wanted` names, as the gate wrote it.

    Raises:
        NotThereError: there is no such version, or the gate has not judged it.
        UnreachableError: the registry does not answer.
    """
    version = named_version(wanted, name, workspace)
    # Those of earlier versions of ganflow lie in no folder.
    card = runs.attached(name, version.version, (f"{HUB}/{file}", file), workspace)
    if card is None:
        raise NotThereError(f"{version} has no card yet: `ganflow promote` judges it and writes one")
    return card
