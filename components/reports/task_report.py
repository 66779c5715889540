"""The gallery's page of a model of an image task: what it was given, what it made of that, and what others would."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from markupsafe import Markup

from ..gan.dataset import Pixels, to_image
from ..gan.symptoms import symptoms
from ..pictures.tiles import tile, tile_size
from ..workspace.artifacts import DIRECTIONS, Dataset, Evaluation, Key, Model
from ..workspace.measure_words import WORDS, measure_of, plain
from ..workspace.params import Postprocess
from ..workspace.scores import Scores
from ..workspace.text import uncelled
from .examples import Example, Extremes
from .gallery_report import BLUE, INK, ORANGE, STYLE, as_svg, flat_options, new_figure
from .html import data_uri, image_uri, number, to_html
from .scores import rating, score_rows
from .sections import ROWS
from .task_words import words_of

_OF_PAIRS = "mean absolute difference to the originals, of training images; dashed: made without a network"
_WITHOUT_PAIRS = (
    "mean absolute difference of training images to themselves, after the way into another class and back; dashed: "
    "left in their own"
)
_OF_DIRECTIONS = {
    "kid": "KID",
    "kid_input": "of the pictures as they are",
    "kid_reinhard": "in its colours",
    "agreed": "Class agreement",
    "truth": "Distance to hidden partners",
    "truth_input": "of the pictures as they are",
    "truth_reinhard": "in its colours",
}
# Longer sides in pixels: of a picture in a line of four, and of one that is pulled over another.
SIDE, SLIDER = 240, 480


@dataclass(frozen=True)
class Contents:
    """A gallery of a model of an image task, with all that its page rests on."""

    # Where the contact sheet lies.
    folder: Path
    key: Key
    options: Postprocess
    shown: Sequence[Example]
    extremes: Extremes
    # The name of the one beside the model's images, the best of all.
    baseline: str
    evaluation: Evaluation
    model: Model
    dataset: Dataset


def render(shown: Contents) -> str:
    """Return the page."""
    model, scores = shown.model, Scores.of(shown.evaluation)
    rejected = pd.read_csv(shown.dataset.folder / "rejected.csv", dtype=str, keep_default_na=False)
    history = pd.read_csv(model.folder / "history.csv")
    rows = [{str(name): value for name, value in row.items()} for row in history.to_dict("records")]
    height, width, channels = model.image.shape
    labels = [model.image.classes[example.label] for example in shown.shown]
    return to_html(
        "task_report.html.jinja",
        options=shown.options,
        evaluation=shown.evaluation,
        model=model,
        dataset=shown.dataset,
        key=shown.key,
        words=words_of(model.training.task),
        measure=WORDS[measure_of(model.training.task)],
        width=width,
        height=height,
        colours={1: "grey", 3: "colour", 4: "colour with transparency"}.get(channels, f"{channels} channels"),
        rating=rating(scores, False),
        scores=score_rows(scores),
        baseline=plain(shown.baseline),
        sheet=data_uri("png", (shown.folder / "contact_sheet.png").read_bytes()),
        groups={name: [_row(each) for each in group] for name, group in shown.extremes.named.items()},
        sliders=[_slider(name, group[0]) for name, group in shown.extremes.named.items()],
        files=_files(shown.evaluation),
        directions=_directions(shown.evaluation),
        curves=curves(history, model.images),
        symptoms=symptoms(rows),
        classes=model.image.classes[:ROWS],
        made=Counter(labels),
        rejected=rejected.head(ROWS).map(uncelled).to_dict("records"),
        rejected_count=len(rejected),
        parameters={
            "Training": dict(flat_options(model.training.model_dump(mode="json"))),
            "Execution": dict(flat_options(model.execution.model_dump(mode="json"))),
        },
    )


def _row(example: Example) -> dict[str, Any]:
    """Return the four pictures of an example, and how near what was made and the baseline are."""
    words = f"{number(example.distance, 3)}, the baseline {number(example.baseline_distance, 3)}"
    return {"pictures": [_picture(pixels, SIDE) for pixels in example.pictures], "caption": words}


def _slider(name: str, example: Example) -> dict[str, Any]:
    width, height = tile_size(example.made, SLIDER)
    pictures = {"before": _picture(example.given, SLIDER), "after": _picture(example.made, SLIDER)}
    return {"name": name, "width": width, "height": height, **pictures}


def _picture(pixels: Pixels, side: int) -> str:
    """Return a picture as it is, or reduced to `side`; the page enlarges it in whole steps."""
    image = to_image(pixels)
    return image_uri(image if max(image.size) <= side else tile(pixels, tile_size(pixels, side)))


def _files(evaluation: Evaluation) -> int:
    """Return of how many files, with what is nearly the same as they, the measured images are."""
    return int(pd.read_csv(evaluation.folder / "samples.csv")["group"].nunique())


def _directions(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return for each class that pictures were carried into what is told of it; nothing of tasks with originals."""
    file = evaluation.folder / DIRECTIONS
    if not file.exists():
        return []
    table = pd.read_csv(file, keep_default_na=False, na_values=[""], dtype={"class": str}).head(ROWS)
    return [
        {
            "name": row["class"],
            "pictures": row["pictures"],
            "figures": [(title, number(row[name], 3)) for name, title in _OF_DIRECTIONS.items() if name in row],
        }
        for row in table.to_dict("records")
    ]


def curves(history: pd.DataFrame, published: int) -> list[tuple[str, str, Markup]]:
    """Training curves: title, how to read it, inline SVG; a ring marks the checkpoint at `published` images."""
    drawings = []
    with matplotlib.rc_context(STYLE):
        paired = "pixel_error" in history
        measure = WORDS["perceptual" if paired else "kid_wanted"]
        drawing, axes = new_figure()
        if paired:
            lines, words = {"made": "pixel_error", "baseline": "baseline_error"}, _OF_PAIRS
        else:
            lines, words = {"back": "cycle_error", "own class": "identity_error"}, _WITHOUT_PAIRS
        for (label, column), dashed in zip(lines.items(), (False, True), strict=True):
            style = {"color": INK, "alpha": 0.4, "linestyle": "--"} if dashed else {"color": BLUE}
            axes.plot(history["images"], history[column], label=label, **style)
        axes.legend()
        drawings.append(("Error", words, as_svg(drawing)))
        titles = (
            (
                "score",
                measure.whole[:1].upper() + measure.whole[1:],
                "lower is better; the ring is published; dashed: the baseline",
            ),
            ("psnr", "PSNR, dB", "higher is better, and texture costs some of it; dashed: the baseline"),
        )
        for name, title, words in titles:
            scored = history.dropna(subset=[name]) if name in history else history.head(0)
            if not len(scored):
                continue
            drawing, axes = new_figure()
            axes.plot(scored["images"], scored[name], color=BLUE, marker="o", markersize=3.5)
            baseline = scored[f"baseline_{name}"]
            axes.plot(scored["images"], baseline, color=INK, alpha=0.4, linestyle="--", linewidth=0.8)
            chosen = scored[scored["images"] == published]
            axes.plot(chosen["images"], chosen[name], "o", color=ORANGE, markersize=9, fillstyle="none")
            drawings.append((title, words, as_svg(drawing)))
        if "discriminator_accuracy" in history and history["discriminator_accuracy"].notna().any():
            drawing, axes = new_figure()
            axes.axhline(0.5, color=INK, alpha=0.4, linestyle="--", linewidth=0.8)
            axes.plot(history["images"], history["discriminator_accuracy"], color=BLUE)
            axes.set_ylim(0, 1.02)
            words = "from where it begins to work; dashed: it can only guess"
            drawings.append(("Discriminator accuracy", words, as_svg(drawing)))
    return drawings
