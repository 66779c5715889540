"""The gallery's page: one HTML file that holds all it shows, for a phone or a desk, by day or night."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..gan.dataset import Pixels, Split, to_image
from ..gan.published import Published
from ..gan.symptoms import symptoms
from ..pictures.finishing import Draft, one_of_each_class
from ..workspace.artifacts import TRUNCATION, Dataset, Evaluation, Key, Model
from ..workspace.params import Postprocess
from ..workspace.scores import Scores
from ..workspace.text import uncelled
from . import sections
from .html import data_uri, image_uri, to_html
from .scores import rating, score_rows
from .sections import ROWS

PAIRS = 10
# Drawn in a colour that nothing else has, which then becomes the page's own text colour.
INK = "#010203"
BLUE, ORANGE = "#3b82c4", "#d9822b"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ganflow",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Contents:
    """A gallery, with all that its page rests on; `samples` are before any step."""

    # Where the contact sheet and the interpolation lie.
    folder: Path
    key: Key
    options: Postprocess
    samples: Sequence[Draft]
    finished: Sequence[Draft]
    published: Published
    evaluation: Evaluation
    model: Model
    dataset: Dataset


def render(shown: Contents) -> str:
    """Return the page."""
    return to_html(
        "report.html.jinja",
        options=shown.options,
        evaluation=shown.evaluation,
        model=shown.model,
        dataset=shown.dataset,
        key=shown.key,
        **_pictures(shown),
        **_quality(shown),
        **_training(shown),
        **_data(shown),
        parameters={
            "Training": dict(flat_options(shown.model.training.model_dump(mode="json"))),
            "Execution": dict(flat_options(shown.model.execution.model_dump(mode="json"))),
            "Finishing": dict(flat_options(shown.options.model_dump(mode="json"))),
        },
    )


def _pictures(shown: Contents) -> dict[str, object]:
    """Show what was finished."""
    height, width, channels = shown.finished[0].pixels.shape
    walk, classes = shown.folder / "interpolation.webp", shown.model.image.classes
    return {
        "finished": shown.finished,
        "samples_taken": len(shown.samples),
        "width": width,
        "height": height,
        "colours": {1: "grey", 3: "colour", 4: "colour with transparency"}.get(channels, f"{channels} channels"),
        "sheet": data_uri("png", (shown.folder / "contact_sheet.png").read_bytes()),
        "walk": data_uri("webp", walk.read_bytes()) if walk.exists() else None,
        "pairs": list(_pairs(shown.samples, shown.finished, classes)) if shown.options.steps else [],
    }


def _quality(shown: Contents) -> dict[str, object]:
    """Show how good the model is, what it varies, and what its discriminator looks at."""
    model, samples, published = shown.model, shown.samples, shown.published
    scores = Scores.of(shown.evaluation)
    every = sections.Samples(shown.evaluation, model)
    training, holdout = (Split(shown.dataset.folder, name, model.image) for name in ("training", "holdout"))
    held = holdout.spread(sections.LOOKED_AT)
    seen = [samples[i] for i in np.linspace(0, len(samples) - 1, sections.LOOKED_AT).astype(int)]
    return {
        "rating": rating(scores, every.conditional),
        "conditional": every.conditional,
        "by": every.by,
        "scores": score_rows(scores),
        "by_class": every.classes_shown(training.class_shares.tolist()),
        "truncation": truncation_curve(shown.evaluation),
        "worst": every.worst(),
        "best": every.best(),
        "neighbours": sections.neighbours(samples, training, model.image.classes),
        "directions": sections.directions(published, samples),
        "real_looks": sections.saliency_tiles(published, holdout.pixels(held), holdout.labels[held].tolist()),
        "made_looks": sections.saliency_tiles(published, np.stack([s.pixels for s in seen]), [s.label for s in seen]),
    }


def _training(shown: Contents) -> dict[str, object]:
    """Show the course of the training, and what is wrong with it."""
    history = pd.read_csv(shown.model.folder / "history.csv")
    rows = [{str(name): value for name, value in row.items()} for row in history.to_dict("records")]
    return {"curves": curves(history, shown.model.images), "symptoms": symptoms(rows)}


def _data(shown: Contents) -> dict[str, object]:
    """Show the classes, and what was left out of them."""
    rejected = pd.read_csv(shown.dataset.folder / "rejected.csv", dtype=str, keep_default_na=False)
    classes = shown.model.image.classes
    return {
        "classes": classes[:ROWS],
        "made": Counter(classes[draft.label] for draft in shown.finished),
        "rejected": rejected.head(ROWS).map(uncelled).to_dict("records"),
        "rejected_count": len(rejected),
    }


def truncation_curve(evaluation: Evaluation) -> tuple[list[dict[str, Any]], Markup] | None:
    """Scores at each truncation, the last row those of real images, and a drawing of them; None without such."""
    if evaluation.truncation is None:
        return None
    table = pd.read_csv(evaluation.folder / TRUNCATION)
    values, real = table.dropna(subset=["truncation"]), table[table["truncation"].isna()]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 3.2), layout="constrained")
        axes = figure.subplots()
        axes.plot(values["recall"], values["fd"], color=BLUE, marker="o", markersize=3.5, label="samples")
        for _, row in values.iterrows():
            axes.annotate(f"{row['truncation']:g}", (row["recall"], row["fd"]), (4, 4), textcoords="offset points")
        chosen = values[values["truncation"] == evaluation.truncation]
        axes.plot(chosen["recall"], chosen["fd"], "o", color=ORANGE, markersize=9, fillstyle="none", label="chosen")
        axes.plot(real["recall"], real["fd"], "D", color=INK, markersize=5, label="real images")
        axes.set_xlabel("recall")
        axes.xaxis.set_major_formatter(ticker.PercentFormatter(1.0))
        axes.set_ylabel("Fr\u00e9chet distance")
        axes.set_ylim(bottom=0)
        axes.grid(color=INK, alpha=0.12, linewidth=0.6)
        axes.legend()
        rows = [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
        return rows, as_svg(figure)


def curves(history: pd.DataFrame, published: int) -> list[tuple[str, str, Markup]]:
    """Training curves: title, how to read it, inline SVG; a ring marks the checkpoint at `published` images."""
    with matplotlib.rc_context(STYLE):
        losses, axes = new_figure()
        axes.plot(history["images"], history["generator_loss"], color=ORANGE, label="generator")
        axes.plot(history["images"], history["discriminator_loss"], color=BLUE, label="discriminator")
        axes.legend()
        drawings = [("Losses", "neither should run away from the other", as_svg(losses))]

        accuracy, axes = new_figure()
        axes.axhline(0.5, color=INK, alpha=0.4, linestyle="--", linewidth=0.8)
        axes.plot(history["images"], history["discriminator_accuracy"], color=BLUE)
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(ticker.PercentFormatter(1.0))
        drawings.append(("Discriminator accuracy", "dashed: it can only guess", as_svg(accuracy)))

        scored = history.dropna(subset=["score"]) if "score" in history else history.head(0)
        if len(scored):
            score, axes = new_figure()
            axes.plot(scored["images"], scored["score"], color=BLUE, marker="o", markersize=3.5)
            chosen = scored[scored["images"] == published]
            axes.plot(chosen["images"], chosen["score"], "o", color=ORANGE, markersize=9, fillstyle="none")
            if scored["score"].min() > 0 and scored["score"].max() > 10 * scored["score"].min():
                axes.set_yscale("log")
                axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
                axes.yaxis.set_major_formatter(ticker.EngFormatter(sep=""))
                axes.yaxis.set_minor_formatter(ticker.NullFormatter())
            drawings.append(
                ("Score at checkpoints", f"lower is better; the ring is published{_of(chosen)}", as_svg(score))
            )
        if "generalisation_gap" in scored:
            gap, axes = new_figure()
            axes.axhline(0, color=INK, alpha=0.4, linestyle="--", linewidth=0.8)
            axes.plot(scored["images"], scored["generalisation_gap"], color=BLUE, marker="o", markersize=3.5)
            words = "how much farther from images it never saw than from training images: above 0 it memorises"
            drawings.append(("Generalisation gap", words, as_svg(gap)))
    return drawings


def _of(chosen: pd.DataFrame) -> str:
    """Return the words on which of several moving averages it is, with the score of each."""
    scores = {str(name).removeprefix("score_"): chosen[name] for name in chosen if str(name).startswith("score_")}
    known = {name: float(values.iloc[0]) for name, values in scores.items() if len(values)}
    if not known:
        return ""
    best = min(known, key=lambda name: known[name])
    return f": {best} of the averages ({', '.join(f'{name} {score:.3g}' for name, score in known.items())})"


def new_figure() -> tuple[Figure, Axes]:
    """Return a small figure over the images seen."""
    figure = Figure(figsize=(4.2, 2.5), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel("images seen")
    axes.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))
    axes.margins(x=0.02)
    axes.grid(color=INK, alpha=0.12, linewidth=0.6)
    return figure, axes


def as_svg(figure: Figure) -> Markup:
    """SVG to stand in the page: in its text colour, and without names that another drawing has too."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", svg[svg.index("<svg") :])
    return Markup(svg.replace(INK, "currentColor"))


def _pairs(samples: Sequence[Draft], finished: Sequence[Draft], classes: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yield the first finished picture of each of up to ten classes, before and after."""
    before = {draft.seed: draft.pixels for draft in samples}
    for draft in one_of_each_class(finished, PAIRS):
        yield {"name": classes[draft.label], "before": _png(before[draft.seed]), "after": _png(draft.pixels)}


def flat_options(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested options as `network.latent`, `steps.1.name`, with their values in words."""
    for name, value in values.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = {str(index): item for index, item in enumerate(value, 1)}
        if isinstance(value, dict):
            yield from flat_options(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            yield prefix + name, ", ".join(map(str, value)) or "none"
        elif isinstance(value, bool):
            yield prefix + name, "yes" if value else "no"
        else:
            yield prefix + name, f"{value:,}" if isinstance(value, int) else str(value)


def _png(pixels: Pixels) -> str:
    return image_uri(to_image(pixels))
