"""From a picture back to the data that it was learned from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, JsonValue

from ..gan.errors import NotThereError
from ..gan.options import ImageFormat
from ..training.cost import Cost
from ..workspace.files import sha256_of
from ..workspace.workspace import Workspace
from .entries import (
    DatasetEntry,
    Entry,
    EvaluationEntry,
    GalleryEntry,
    KnownPicture,
    ModelEntry,
)
from .ledger import Ledger
from .picture import NearestImage, TracedPicture, nearest_images, read_picture
from .queries import Answer, Head, KnownData, KnownVersion, head_of, model_key_of, parent_of, versions_of

FoundBy = Literal["pixels", "marks"]


class ImageTrace(Answer):
    """The picture, and what is known of how it was made."""

    file: str
    sha256: str
    pixels: str | None
    width: int
    height: int
    found_by: FoundBy
    seed: int | None
    label: str | None = Field(alias="class")
    steps: Sequence[str]
    # Of a picture that was made of another one: what was done to it, and the sha256 of that other file.
    task: str | None = Field(None, exclude_if=lambda value: value is None)
    input: str | None = Field(None, exclude_if=lambda value: value is None)


class GalleryTrace(Head):
    """The gallery that holds it, under the name `file`."""

    file: str | None
    pictures: int


class EvaluationTrace(Head):
    """The scores of its model."""

    metrics: Mapping[str, float]


class ModelTrace(Head):
    """The model that made it."""

    network: str
    images: int
    score: float
    generator_parameters: int
    execution: Mapping[str, JsonValue]
    cost: Cost | None


class VersionTrace(KnownVersion):
    """The version that the model was registered as last, and the others."""

    others: Sequence[KnownVersion]


class RunTrace(Answer):
    """Runs in MLflow and Prefect; of the latter by what they made."""

    mlflow: str | None
    prefect: Mapping[str, str] | None


class ParamsTrace(Answer):
    """What the model was trained with."""

    train: Mapping[str, JsonValue]
    image: ImageFormat


class DataTrace(KnownData):
    """The data that the model was trained on."""

    nearest: Sequence[NearestImage] | None


class Trace(Answer):
    """What a picture came from; None where it is not known."""

    image: ImageTrace
    gallery: GalleryTrace | None
    evaluation: EvaluationTrace | None
    model: ModelTrace
    version: VersionTrace | None
    run: RunTrace
    params: ParamsTrace
    commit: str | None
    data: DataTrace | None


class _Chain(NamedTuple):
    """The entries that a picture goes back to, and by what it was found."""

    found_by: FoundBy
    picture: KnownPicture | None
    gallery: GalleryEntry | None
    evaluation: EvaluationEntry | None
    model: ModelEntry
    dataset: DatasetEntry | None

    @property
    def flow_runs(self) -> dict[str, str] | None:
        entries: Sequence[Entry | None] = (self.dataset, self.model, self.evaluation, self.gallery)
        return {entry.kind: entry.flow_run for entry in entries if entry and entry.flow_run} or None


def trace(file: Path, workspace: Workspace) -> Trace:
    """Trace the picture in `file` back to the data that its model was trained on.

    It is found by its pixels, or else by what is written in it.

    Raises:
        NotThereError: there is no such file, or the ledger knows nothing of it.
        DamagedError: `artifacts/dataset` or `artifacts/evaluation` is damaged.
        UserError: it is no picture.
    """
    picture = read_picture(file)
    ledger = Ledger(workspace)
    chain = _chain(picture, ledger)
    if chain is None:
        raise _unknown(file, picture, workspace)
    image = _image(file, picture, chain)
    gallery, evaluation, dataset, model = chain.gallery, chain.evaluation, chain.dataset, chain.model.facts
    version = _version(chain.model, ledger, workspace)
    # A photo that was changed comes from that photo, and not from images that look like it.
    nearest = None
    if dataset and image.input is None:
        nearest = nearest_images(picture, image.seed, dataset, evaluation, workspace)
    return Trace(
        image=image,
        gallery=gallery
        and GalleryTrace(
            **head_of(gallery),
            file=chain.picture.file if chain.picture else None,
            pictures=len(gallery.facts.pictures),
        ),
        evaluation=evaluation and EvaluationTrace(**head_of(evaluation), metrics=evaluation.facts.metrics),
        model=ModelTrace(
            **head_of(chain.model),
            network=model.network,
            images=model.images,
            score=model.score,
            generator_parameters=model.generator_parameters,
            execution=model.execution,
            cost=model.cost,
        ),
        version=version,
        run=RunTrace(mlflow=version.run if version else model.run_id, prefect=chain.flow_runs),
        params=ParamsTrace(train=model.training, image=model.image),
        commit=model.commit or (version.commit if version else None),
        data=dataset and DataTrace.of(dataset, nearest=nearest),
    )


def _chain(picture: TracedPicture, ledger: Ledger) -> _Chain | None:
    """Follow the picture's gallery, or else what is written in it; None if neither leads to a model."""
    marks = picture.marks
    gallery, described, found_by = _in_galleries(picture, ledger)
    model = parent_of(ledger, gallery, ModelEntry) if gallery else None
    if model is None and "model" in marks:
        model, found_by = next(ledger.find(ModelEntry, "key", marks["model"]), None), "marks"
    if model is None:
        return None
    evaluation = parent_of(ledger, gallery, EvaluationEntry) if gallery else None
    if evaluation is None and "evaluation" in marks:
        evaluation = next(ledger.find(EvaluationEntry, "key", marks["evaluation"]), None)
    return _Chain(found_by, described, gallery, evaluation, model, parent_of(ledger, model, DatasetEntry))


def _image(file: Path, picture: TracedPicture, chain: _Chain) -> ImageTrace:
    marks, known = picture.marks, chain.picture
    seed = str(known.seed) if known else marks.get("seed", "")
    return ImageTrace(
        file=str(file),
        sha256=sha256_of(file),
        pixels=picture.pixels,
        width=picture.width,
        height=picture.height,
        found_by=chain.found_by,
        # What a stranger wrote into a picture may be longer than any seed.
        seed=int(seed) if re.fullmatch("[0-9]{1,20}", seed) else None,
        label=known.label if known else marks.get("class"),
        steps=known.steps if known else [step for step in marks.get("steps", "").split(", ") if step],
        task=marks.get("task"),
        input=marks.get("input") if re.fullmatch("[0-9a-f]{64}", marks.get("input", "")) else None,
    )


def _version(model: ModelEntry, ledger: Ledger, workspace: Workspace) -> VersionTrace | None:
    versions = versions_of(model, ledger, workspace)
    return VersionTrace(**dict(versions[0]), others=versions[1:]) if versions else None


def _in_galleries(picture: TracedPicture, ledger: Ledger) -> tuple[GalleryEntry | None, KnownPicture | None, FoundBy]:
    """Return the gallery with the picture, what it says of it, and by what it was found: its pixels, or else its marks.

    Of several the one that it names, else the newest.
    """
    marks = picture.marks
    found = ledger.find_picture(picture.pixels) if picture.pixels else ()
    holding = sorted(found, key=lambda entry: entry.key != marks.get("gallery"))
    for gallery in holding:
        return gallery, next(p for p in gallery.facts.pictures if p.pixels == picture.pixels), "pixels"
    for gallery in _named_galleries(marks, ledger):
        for described in gallery.facts.pictures:
            own = (str(described.seed), described.label, ", ".join(described.steps))
            if own == (marks.get("seed"), marks.get("class"), marks.get("steps")):
                return gallery, described, "marks"
        if "gallery" in marks:
            return gallery, None, "marks"
    return None, None, "marks"


def _named_galleries(marks: Mapping[str, str], ledger: Ledger) -> Iterator[GalleryEntry]:
    """Read the galleries of the model that the picture names, newest first; of those the one that it names."""
    if "gallery" in marks:
        found = list(ledger.find(GalleryEntry, "key", marks["gallery"]))
    else:
        models = {entry.content for entry in ledger.find(ModelEntry, "key", marks.get("model", ""))}
        found = [entry for content in models for entry in ledger.find(GalleryEntry, "of model", content)]
    for gallery in sorted(found, key=lambda entry: -entry.place):
        if model_key_of(ledger, gallery) == marks.get("model"):
            yield gallery


def _unknown(file: Path, picture: TracedPicture, workspace: Workspace) -> NotThereError:
    if "model" in picture.marks:
        return NotThereError(
            f"{file} says that model {picture.marks['model'][:40]} made it, which {workspace.root} does not know: name "
            "the folder where it was made by --workspace"
        )
    if picture.pixels is None:
        return NotThereError(
            f"nothing is known of {file}: it has too many pixels to be known by them, and nothing of ganflow is "
            "written in it; name the picture as it was made"
        )
    return NotThereError(
        f"{file} was not made in {workspace.root}, or was changed since: its pixels are in no gallery and nothing of "
        "ganflow is written in it; name another folder by --workspace, or the picture as it was made"
    )
