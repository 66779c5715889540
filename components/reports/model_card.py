"""The model card, in the Hugging Face format, and the summary of it, derived from artifacts alone.

The format: https://github.com/huggingface/hub-docs, `modelcard.md`. The Hub's own library writes the same YAML, for
five packages and 22 MB more, of which half is native code, so it is not used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from ..pictures.metadata import mark_in
from ..services import versioning
from ..services.tracking import registry
from ..training.cost import Cost, spent
from ..workspace.artifacts import Artifact, Dataset, Evaluation, Gallery, Model, Registration
from ..workspace.graph import STAGES
from ..workspace.params import Params
from ..workspace.scores import Score, Scores
from ..workspace.verdict import Verdict
from ..workspace.workspace import Workspace
from .dataset_card import CLASSES, sections_of
from .markdown import bare, to_markdown
from .scores import ScoreRow, rating, score_rows
from .task_words import TaskWords, words_of

WEAKEST = 3
# The Hub's identifier for images that lie in folders here, not on the Hub.
LOCAL_IMAGES = "imagefolder"


@dataclass(frozen=True)
class Subject:
    """A finished model, and what else is known about it."""

    model: Model
    evaluation: Evaluation
    gallery: Gallery
    dataset: Dataset
    registration: Registration | None = None
    verdict: Verdict | None = None
    # Of the workspace: cards show those of them that made these artifacts.
    params: Params | None = None
    commit: str | None = None
    data_version: str | None = None
    cost: Cost | None = None

    @classmethod
    def of(cls, workspace: Workspace) -> Subject:
        """Return what lies in the workspace, with the commit that it was registered with.

        Raises:
            UserError: there is no model, evaluation, gallery or data set.
        """
        model = Model.load(workspace.model)
        registration = Registration.load(workspace.registration) if workspace.registration.exists() else None
        if registration is not None and registration.model_key != model.key.id:
            registration = None
        tags, verdict = {}, None
        if registration is not None:
            tags = registry.tags(registration.name, registration.version, workspace)
            verdict = Verdict.last(workspace.verdict, registration.name, registration.version)
        return cls(
            model=model,
            evaluation=Evaluation.load(workspace.evaluation),
            gallery=Gallery.load(workspace.gallery),
            dataset=Dataset.load(workspace.dataset),
            registration=registration,
            verdict=verdict,
            params=Params.load(workspace.params) if workspace.params.exists() else None,
            commit=None if tags.get("commit") in ("none", "unknown") else tags.get("commit"),
            data_version=versioning.data_version(workspace)[0],
            cost=spent(workspace.state / "training" / model.key.id),
        )

    @property
    def title(self) -> str:
        found = self.registration
        return "ganflow" if found is None else f"{found.name}, version {found.version}"

    @property
    def words(self) -> TaskWords | None:
        """What a model of an image task does; None of one that makes images from noise."""
        task = self.model.training.task
        return None if task.name == "generate" else words_of(task)

    @property
    def conditional(self) -> bool:
        """Whether the network is told which class to make."""
        return self.model.image.labelled and self.model.training.network.conditional


def model_card(subject: Subject) -> str:
    """Return the card of one model."""
    evaluation, dataset, gallery = subject.evaluation, subject.dataset, subject.gallery
    sections, absent = _sections(subject)
    checkout = [f"git checkout {subject.commit}"] if subject.commit else []
    checkout += ["dvc checkout"] if subject.data_version else []
    return to_markdown(
        "model_card.md.jinja",
        facts=_facts(subject),
        words=subject.words,
        rating=rating(Scores.of(evaluation), subject.conditional),
        title=subject.title,
        model=subject.model,
        evaluation=evaluation,
        dataset=dataset,
        verdict=subject.verdict,
        commit=subject.commit,
        data_version=subject.data_version,
        cost=subject.cost,
        conditional=subject.conditional,
        steps=gallery.pictures[0].steps if gallery.pictures else (),
        net=_net(evaluation),
        uneven=_uneven(dataset),
        symptoms=_symptoms(subject.model),
        weakest=_weakest(subject),
        most=CLASSES,
        scores=_score_rows(evaluation),
        copied=list(Scores.of(evaluation).of_metric("copied")),
        commands=[*checkout, "ganflow run"],
        sections=sections,
        absent=absent,
        mark=_mark(gallery),
    )


def _facts(subject: Subject) -> dict[str, object]:
    dataset, net = subject.dataset, _net(subject.evaluation)
    results: list[dict[str, object]] = []
    scores = Scores.of(subject.evaluation)
    for score, floor, _ in scores.compared():
        if math.isfinite(score.value) and score.images == "samples":
            result = {"type": _metric_type(score, net), "value": score.value, "name": score.name}
            # The format has no place for what others get, and leaves `args` to the metric.
            others = {"real_images": floor.value} if floor else {}
            others |= {baseline.images: baseline.value for baseline in scores.baselines(score)}
            results.append(result | ({"args": others} if others else {}))
    words = subject.words
    kind, name = ("unconditional-image-generation", "Image generation")
    if words is not None:
        kind, name = "image-to-image", bare(words.does)
    task = {"type": kind, "name": name}
    data = {"type": LOCAL_IMAGES, "name": f"{dataset.splits['training']:,} images", "revision": dataset.content}
    index = {"name": bare(subject.title), "results": [{"task": task, "dataset": data, "metrics": results}]}
    return {
        "license": "unknown",
        "library_name": "ganflow",
        "pipeline_tag": kind,
        "tags": ["ganflow", "gan", *_tags(subject.model), subject.model.training.network.name],
        "datasets": [LOCAL_IMAGES],
        "metrics": sorted({str(result["type"]) for result in results}),
        "model-index": [index],
    }


def _tags(model: Model) -> list[str]:
    task = model.training.task.name
    return ["image-generation"] if task == "generate" else [task.replace("_", "-")]


def _symptoms(model: Model) -> list[str]:
    import pandas as pd

    from ..gan.symptoms import symptoms

    history = pd.read_csv(model.folder / "history.csv").to_dict("records")
    return symptoms([{str(name): value for name, value in row.items()} for row in history])


def _weakest(subject: Subject) -> list[tuple[str, float]]:
    """Classes with the least agreement, where the network is told the classes and not all are perfect."""
    import pandas as pd

    table = pd.read_csv(subject.evaluation.folder / "samples.csv")
    if not subject.conditional or "predicted" not in table:
        return []
    shares = (table["predicted"] == table["label"]).groupby(table["label"]).mean().sort_values(kind="stable")
    named = zip(shares.index.to_list(), map(float, shares), strict=True)
    return [(subject.model.image.classes[label], share) for label, share in named if share < 1][:WEAKEST]


def _uneven(dataset: Dataset) -> tuple[int, int] | None:
    """Return the sizes of the smallest and the largest class, if the one has twice the images of the other."""
    counts = dataset.class_counts["training"].values()
    least, most = min(counts), max(counts)
    return (least, most) if dataset.image.labelled and most >= 2 * max(1, least) else None


def _score_rows(evaluation: Evaluation) -> list[ScoreRow]:
    """All rows in the order of the report, without copies, which have a section of their own."""
    scores = Scores.of(evaluation)
    return [row for row in score_rows(scores, scores.compared()) if row.compared.score.metric != "copied"]


def _sections(subject: Subject) -> tuple[dict[str, Mapping[str, JsonValue]], list[str]]:
    """Return the sections of the parameters that made it, and the names of those that are no longer known."""
    artifacts: dict[str, Artifact] = {
        "preprocess": subject.dataset,
        "train": subject.model,
        "evaluate": subject.evaluation,
        "postprocess": subject.gallery,
    }
    # The model itself knows how it was trained.
    known = {"train": subject.model.training.model_dump(mode="json"), **sections_of(subject.params, artifacts)}
    shown = {stage.name: known[stage.name] for stage in STAGES if stage.name in known}
    return shown, [name for name in artifacts if name not in known]


def _mark(gallery: Gallery) -> str | None:
    """Return how the first finished image says that it is generated, or changed, if it does."""
    if not gallery.pictures:
        return None
    term = mark_in((gallery.folder / gallery.pictures[0].file).read_bytes())
    return None if term is None else term.rpartition("/")[2]


def _net(evaluation: Evaluation) -> str:
    """Return the name of the feature net, in which KID is measured."""
    return next((score.features for score in Scores.of(evaluation) if score.metric == "kid"), "unknown")


def _metric_type(score: Score, net: str) -> str:
    """Return what a score is a number of, as the format calls it where it knows such."""
    if score.metric == "fd":
        return "frechet_distance"
    if score.metric in ("agreement", "classification_accuracy", "discriminator_accuracy"):
        return "accuracy"
    return "_".join(filter(None, (score.metric, score.split, score.features if score.features != net else "")))
