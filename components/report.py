"""The gallery's page: one HTML file that holds all it shows, for a phone or a desk, by day or night."""

from __future__ import annotations

import io
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jinja2
import matplotlib
import numpy as np
import pandas as pd
import safetensors.torch
from markupsafe import Markup
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

from . import insights
from .gan.dataset import Pixels, Split, to_image
from .gan.models import restored
from .gan.symptoms import symptoms
from .insights import ROWS, data_uri
from .pictures.finishing import Draft, one_of_each_class
from .workspace.artifacts import Dataset, Evaluation, Key, Model
from .workspace.params import Postprocess

PAIRS = 10
# Drawn in a colour that nothing else has, which then becomes the page's own text colour.
INK = "#010203"
BLUE, ORANGE = "#3b82c4", "#d9822b"


@dataclass(frozen=True)
class Explanation:
    """How to read the metrics whose names begin with `prefix`."""

    prefix: str
    title: str
    better: str
    words: str
    form: str | None = None


# Copies that were planted among the samples, to see that they are found.
CONTROL = "_canaries"
# In the order of the page.
EXPLANATIONS = (
    Explanation(
        "agreement",
        "Class agreement",
        "higher is better",
        "How often a classifier, trained on the real images, sees the class that was asked for.",
        "{:.1%}",
    ),
    Explanation(
        "fd_holdout_",
        "Fr\u00e9chet distance to unseen images",
        "lower is better",
        "The same to real images that nothing was trained on; far above its floor means a memorised training split.",
        "{:,.1f}",
    ),
    Explanation(
        "fd_",
        "Fr\u00e9chet distance",
        "lower is better",
        "How far the crowd of generated images is from the training images, in the features of the net that judges.",
        "{:,.1f}",
    ),
    Explanation(
        "kid_",
        "Kernel distance (KID)",
        "lower is better",
        "The same question asked in another way, with little bias for few samples; about 0 where both are alike.",
    ),
    Explanation(
        "class_score_",
        "Class score",
        "higher is better, at most the number of classes",
        "Whether the classifier is sure of each image, and sees all classes alike (the Inception score's formula).",
        "{:.2f}",
    ),
    Explanation(
        "precision_",
        "Precision",
        "higher is better",
        "Fidelity: the share of generated images that could pass for training images.",
        "{:.1%}",
    ),
    Explanation(
        "recall_",
        "Recall",
        "higher is better",
        "Diversity: the share of training images that the generator could have made.",
        "{:.1%}",
    ),
    Explanation(
        "density_",
        "Density",
        "higher is better; real images get about 1",
        "Fidelity: how crowded with training images the places are where generated images lie.",
        "{:.2f}",
    ),
    Explanation(
        "coverage_",
        "Coverage",
        "higher is better",
        "Diversity: the share of training images that have a generated one nearby.",
        "{:.1%}",
    ),
    Explanation(
        "msssim_",
        "Likeness within a class (MS-SSIM)",
        "near the floor is best; far above it, images repeat",
        "How alike pairs of generated images of one class are: 1 is the same image.",
        "{:.3f}",
    ),
    Explanation(
        "discriminator_accuracy_generated",
        "Discriminator on generated images",
        "near 50% is best",
        "How often it tells that a generated image is not real; at 50% it can only guess.",
        "{:.1%}",
    ),
    Explanation(
        "discriminator_accuracy_holdout",
        "Discriminator on unseen real images",
        "near its value in training is best",
        "How often it accepts real images that it never saw; far lower than in training, it learned them by heart.",
        "{:.1%}",
    ),
    Explanation(
        "discriminator_calibration_",
        "Discriminator's calibration",
        "lower is better",
        "How far its probability of real is from how often it is right.",
        "{:.1%}",
    ),
    Explanation(
        "membership_",
        "Membership inference",
        "near 50% is best",
        "How well the discriminator's logit tells training images from unseen ones; at 50% it gives nothing away.",
        "{:.1%}",
    ),
    Explanation(
        "copied_",
        "Copies of training images",
        "near the floor is best",
        "The share of generated images that are far nearer to one training image than to its neighbours.",
        "{:.1%}",
    ),
    Explanation(
        "classification_accuracy_",
        "Classification accuracy score",
        "near the floor is best",
        "How often a classifier that learned from generated images alone is right about unseen real ones.",
        "{:.1%}",
    ),
    Explanation(
        "perceptual_",
        "Distance to the nearest training image, in features",
        "far below the floor means copies",
        "The same question in what the net that judges sees, which a shift of some pixels does not deceive.",
    ),
    Explanation(
        "psnr_nearest",
        "Likeness to the nearest training image (PSNR)",
        "far above the floor means copies",
        "How nearly a generated image repeats a training image, pixel by pixel.",
        "{:.1f} dB",
    ),
    Explanation(
        "ssim_nearest",
        "Likeness to the nearest training image (SSIM)",
        "far above the floor means copies",
        "The same by structure: 1 is an exact copy.",
        "{:.2f}",
    ),
)
UNKNOWN = Explanation("", "", "", "")


def render(
    folder: Path,
    key: Key,
    options: Postprocess,
    samples: Sequence[Draft],
    finished: Sequence[Draft],
    generator: nn.Module,
    evaluation: Evaluation,
    model: Model,
    dataset: Dataset,
) -> str:
    """The page, with the contact sheet and the interpolation that lie in `folder`; `samples` are before any step."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = "{:,}".format
    history = pd.read_csv(model.folder / "history.csv")
    rejected = pd.read_csv(dataset.folder / "rejected.csv", dtype=str, keep_default_na=False)
    walk = folder / "interpolation.webp"
    made = Counter(model.image.classes[draft.label] for draft in finished)
    height, width, channels = finished[0].pixels.shape
    every = insights.Samples(evaluation, model)
    training, holdout = (Split(dataset.folder, name, model.image) for name in ("training", "holdout"))
    weights = safetensors.torch.load_file(model.folder / "discriminator.safetensors")
    discriminator = restored(model.training.network, model.image, weights, "discriminator")
    held = holdout.spread(insights.LOOKED_AT)
    seen = [samples[i] for i in np.linspace(0, len(samples) - 1, insights.LOOKED_AT).astype(int)]
    return environment.get_template("report.html.jinja").render(
        options=options,
        evaluation=evaluation,
        model=model,
        dataset=dataset,
        colours={1: "grey", 3: "colour", 4: "colour with transparency"}.get(channels, f"{channels} channels"),
        samples_taken=len(samples),
        finished=finished,
        width=width,
        height=height,
        made=made,
        key=key,
        sheet=data_uri("png", (folder / "contact_sheet.png").read_bytes()),
        walk=data_uri("webp", walk.read_bytes()) if walk.exists() else None,
        pairs=list(_pairs(samples, finished, model.image.classes)) if options.steps else [],
        verdict=verdict(evaluation.metrics, every.told),
        told=every.told,
        by=every.by,
        scores=list(scores(evaluation.metrics, evaluation.intervals)),
        by_class=every.classes_shown(training.class_shares.tolist()),
        worst=every.worst(),
        best=every.best(),
        neighbours=insights.neighbours(samples, training, model.image.classes),
        directions=insights.directions(generator, model.training.network.latent, samples),
        real_looks=insights.looks(discriminator, holdout.pixels(held), holdout.labels[held].tolist()),
        made_looks=insights.looks(discriminator, np.stack([s.pixels for s in seen]), [s.label for s in seen]),
        curves=curves(history, model.images),
        symptoms=symptoms([{str(name): value for name, value in row.items()} for row in history.to_dict("records")]),
        rejected=rejected.head(ROWS).to_dict("records"),
        rejected_count=len(rejected),
        classes=model.image.classes[:ROWS],
        parameters={
            "Training": dict(_flat(model.training.model_dump(mode="json"))),
            "Execution": dict(_flat(model.execution.model_dump(mode="json"))),
            "Finishing": dict(_flat(options.model_dump(mode="json"))),
        },
    )


def verdict(metrics: Mapping[str, float], told: bool) -> tuple[str, str] | None:
    """A word and a sentence on whether the model is good, from its scores beside those of unseen real images.

    Four questions, each answered well, fairly or badly; the word is the worst answer's. `told`: the network was told
    the classes.
    """
    answers = []
    for value, floor in _with_floor(metrics, "agreement_"):
        if told:
            level = _level(value / max(floor, 1e-9), 0.97, 0.85)
            answers.append((level, f"{value:.1%} of the samples show the class asked for (real images {floor:.1%})"))
    for prefix, bounds, words in (
        (
            "precision_",
            (0.9, 0.7),
            ("about as realistic as real images", "less realistic than real images", "unrealistic"),
        ),
        ("recall_", (0.8, 0.5), ("about as varied", "less varied", "with little variety")),
    ):
        for value, floor in _with_floor(metrics, prefix):
            level = _level(value / max(floor, 1e-9), *bounds)
            answers.append((level, f"{words[level]} ({prefix.strip('_')} {value:.0%}, real images {floor:.0%})"))
    copied = [pair for prefix in ("copied_pixels_", "copied_") for pair in _with_floor(metrics, prefix)]
    if copied:
        value, floor = max(copied)
        level = _level(floor - value, -0.02, -0.05)
        likeness = ("no sign of copies", "some copies of training images", "copies of training images")[level]
        answers.append((level, f"{likeness} ({value:.1%} of the samples, {floor:.1%} of unseen real images)"))
    if not answers:
        return None
    # What is wrong comes first.
    answers.sort(key=lambda answer: -answer[0])
    return ("Good", "Fair", "Poor")[answers[0][0]], "; ".join(words for _, words in answers)


def _with_floor(metrics: Mapping[str, float], prefix: str) -> list[tuple[float, float]]:
    """The first metric with this prefix that has a floor, with it."""
    pairs = [(v, metrics[f"{n}_floor"]) for n, v in metrics.items() if n.startswith(prefix) and f"{n}_floor" in metrics]
    return pairs[:1]


def _level(value: float, good: float, fair: float) -> int:
    return 0 if value >= good else 1 if value >= fair else 2


def scores(
    metrics: Mapping[str, float], intervals: Mapping[str, tuple[float, float]] = MappingProxyType({})
) -> Iterator[dict[str, Any]]:
    """Rows of the table: each metric with its floor and interval, those known first, in the order of `EXPLANATIONS`."""

    def explanation(name: str) -> Explanation:
        return next((e for e in EXPLANATIONS if name.startswith(e.prefix)), UNKNOWN)

    order = [*EXPLANATIONS, UNKNOWN]
    beside = ("_floor", CONTROL)
    names = [n for n in metrics if not any(n.endswith(end) and n.removesuffix(end) in metrics for end in beside)]
    for name in sorted(names, key=lambda n: (order.index(explanation(n)), n)):
        known, floor, found = explanation(name), metrics.get(f"{name}_floor"), metrics.get(f"{name}{CONTROL}")
        yield {
            "name": name,
            "title": known.title or name.replace("_", " "),
            "better": known.better,
            "words": known.words
            + (f" Of copies that were planted {found:.0%} were found." if found is not None else ""),
            "value": _rounded(known.form, metrics[name]),
            "floor": None if floor is None else _rounded(known.form, floor),
            "interval": [_rounded(known.form, end) for end in intervals.get(name, ())],
        }


def curves(history: pd.DataFrame, published: int) -> list[tuple[str, str, Markup]]:
    """Training curves: title, how to read it, inline SVG; a ring marks the checkpoint at `published` images."""
    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "ganflow",
        "text.color": INK,
        "axes.labelcolor": INK,
    }
    style |= {"axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK, "axes.spines.top": False}
    style |= {"axes.spines.right": False, "axes.linewidth": 0.6, "lines.linewidth": 1.8, "legend.frameon": False}
    with matplotlib.rc_context(style):
        losses, axes = _figure()
        axes.plot(history["images"], history["generator_loss"], color=ORANGE, label="generator")
        axes.plot(history["images"], history["discriminator_loss"], color=BLUE, label="discriminator")
        axes.legend()
        drawings = [("Losses", "neither should run away from the other", _svg(losses))]

        accuracy, axes = _figure()
        axes.axhline(0.5, color=INK, alpha=0.4, linestyle="--", linewidth=0.8)
        axes.plot(history["images"], history["discriminator_accuracy"], color=BLUE)
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(ticker.PercentFormatter(1.0))
        drawings.append(("Discriminator accuracy", "dashed: it can only guess", _svg(accuracy)))

        scored = history.dropna(subset=["score"]) if "score" in history else history.head(0)
        if len(scored):
            score, axes = _figure()
            axes.plot(scored["images"], scored["score"], color=BLUE, marker="o", markersize=3.5)
            chosen = scored[scored["images"] == published]
            axes.plot(chosen["images"], chosen["score"], "o", color=ORANGE, markersize=9, fillstyle="none")
            if scored["score"].min() > 0 and scored["score"].max() > 10 * scored["score"].min():
                axes.set_yscale("log")
                axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
                axes.yaxis.set_major_formatter(ticker.EngFormatter(sep=""))
                axes.yaxis.set_minor_formatter(ticker.NullFormatter())
            drawings.append(("Score at checkpoints", "lower is better; the ring is published", _svg(score)))
    return drawings


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.2, 2.5), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel("images seen")
    axes.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))
    axes.margins(x=0.02)
    axes.grid(color=INK, alpha=0.12, linewidth=0.6)
    return figure, axes


def _svg(figure: Figure) -> Markup:
    """SVG to stand in the page: in its text colour, and without names that another drawing has too."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", svg[svg.index("<svg") :])
    return Markup(svg.replace(INK, "currentColor"))


def _pairs(samples: Sequence[Draft], finished: Sequence[Draft], classes: Sequence[str]) -> Iterator[dict[str, str]]:
    """The first finished picture of each of up to ten classes, before and after."""
    before = {draft.seed: draft.pixels for draft in samples}
    for draft in one_of_each_class(finished, PAIRS):
        yield {"name": classes[draft.label], "before": _png(before[draft.seed]), "after": _png(draft.pixels)}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested options as `network.latent`, `steps.1.name`, with their values in words."""
    for name, value in values.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = {str(index): item for index, item in enumerate(value, 1)}
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            yield prefix + name, ", ".join(map(str, value)) or "none"
        elif isinstance(value, bool):
            yield prefix + name, "yes" if value else "no"
        else:
            yield prefix + name, f"{value:,}" if isinstance(value, int) else str(value)


def _rounded(form: str | None, value: float) -> str:
    """`value` in its form, else to three digits, with a true minus sign; a dash where it is no number."""
    if not math.isfinite(value):
        return "\u2013"
    text = (form or ("{:,.0f}" if abs(value) >= 100 else "{:.3g}")).format(value)
    return text.replace("-", "\u2212")


def _png(pixels: Pixels) -> str:
    buffer = io.BytesIO()
    to_image(pixels).save(buffer, "png")
    return data_uri("png", buffer.getvalue())
