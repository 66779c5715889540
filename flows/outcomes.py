"""What a stage made and what a run did, in the words of Prefect's pages: of names, logs and states."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from components.reports.scores import Rating, rating, score_rows
from components.training import cost
from components.workspace.artifacts import Artifact, Dataset, Evaluation, Gallery, Model, Registration
from components.workspace.scores import Scores
from components.workspace.verdict import Verdict
from components.workspace.workspace import Workspace

# What somebody may be told of.
Event = Literal["promote", "keep", "abstain", "failed", "drift"]


class Outcome(NamedTuple):
    """What a flow run did.

    Attributes:
        what: in a few words, which name the run: "version 7 promoted".
        message: the sentence of its state.
        tags: by which the run can be found among others.
        event: of which people may want to be told; None where nothing happened.
        verdict: the gate's, where it was asked.
    """

    what: str
    message: str
    tags: tuple[str, ...] = ()
    event: Event | None = None
    verdict: Verdict | None = None


def summary(made: Artifact, workspace: Workspace) -> str:
    """Return in a few words what a stage made."""
    match made:
        case Dataset():
            return f"{sum(made.splits.values()):,} images"
        case Model():
            return f"score {made.score:.3g} at image {made.images:,}"
        case Evaluation():
            found = _rating(made, workspace)
            return f"{found.word.lower() if found else 'scored'}, by {made.samples:,} samples"
        case Gallery():
            return f"{len(made.pictures):,} pictures"
        case Registration():
            return f"version {made.version}"
    return type(made).__name__.lower()


def details(made: Artifact, workspace: Workspace) -> Iterator[str]:
    """Yield sentences on what a stage made, and at last where it is."""
    match made:
        case Dataset():
            height, width, channels = made.image.shape
            classes = f"{len(made.image.classes)} classes" if made.image.labelled else "no classes"
            yield f"{made.sizes}; images of {width}x{height}x{channels}, {classes}"
            yield made.near_duplicates_found
            if made.rejected:
                yield f"{made.rejected:,} files could not be read: {made.folder / 'rejected.csv'} names them"
        case Model():
            placed = made.execution
            workers = "one worker" if placed.workers == 1 else f"{placed.workers} workers"
            yield (
                f"{made.training.network.name} of {made.generator_parameters:,} parameters, published as it was at "
                f"image {made.images:,} of {made.training.images:,} (score {made.score:.3g}, the lowest); by {workers} "
                f"of {placed.threads} threads on {placed.device} in {placed.precision}"
            )
            if spent := cost.spent(workspace.state / "training" / made.key.id):
                gpu = f", {spent.gpu_seconds:,.0f} GPU seconds" if spent.gpu_seconds else ""
                yield f"It cost {spent.cpu_seconds:,.0f} processor seconds{gpu}, about {spent.energy_kwh:.2g} kWh"
        case Evaluation():
            if found := _rating(made, workspace):
                yield f"{found.word}: {found.reason}"
            for row in score_rows(Scores.of(made)):
                real = f" (real images {row.real})" if row.real else ""
                if row.beside:
                    real = f" ({', '.join(f'{name} {value}' for name, value, _ in row.baselines)})"
                yield f"{row.name} {row.value}{real}{': ' if row.standing else ''}{row.standing}"
        case Gallery():
            yield f"{len(made.pictures):,} finished pictures; the report is {made.folder / 'report.html'}"
        case Registration():
            where = "in the workspace's own MLflow" if made.tracking == "embedded" else f"at {made.tracking}"
            yield f"{made.name} version {made.version} is registered {where}"
    yield f"It is in {made.folder}"


def judged(verdict: Verdict, before: Verdict | None) -> Outcome:
    """Return what a run did that ended with the gate's verdict; `before`: the one that stood there when it began."""
    version = f"version {verdict.challenger}"
    message = f"{verdict.name} {version}: {verdict.answer}; {verdict.reason}"
    if verdict == before:
        return Outcome(f"{version} as before", message, (version,), verdict=verdict)
    word = verdict.word.lower()
    return Outcome(f"{version} {word}", message, (version, word), verdict.answer, verdict)


def _rating(evaluation: Evaluation, workspace: Workspace) -> Rating | None:
    model = Model.load(workspace.model)
    return rating(Scores.of(evaluation), model.training.network.conditional and model.image.labelled)
