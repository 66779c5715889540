"""What MLflow's pages say of a version, of its run, and of the registered model: Markdown with a picture and links."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

from markupsafe import Markup

from ..gan.options import GENERATE
from ..gan.tasks.options import AnyTask, Inpaint
from ..pictures.metadata import mark_of, png_text
from ..pictures.opening import opened
from ..pictures.tiles import grid, tile_size
from ..services.tracking import pages
from ..services.tracking.runs import PICTURES, REPORT
from ..workspace.measure_words import WORDS, measure_of
from ..workspace.scores import Scores
from .markdown import to_markdown
from .model_card import Subject
from .scores import ScoreRow, rating, score_rows

# MLflow keeps 5,000 characters of a description.
LONGEST = 4_800
# In the order of the table.
METRICS = ("agreement", "perceptual", "psnr", "ssim", "kid", "fd", "precision", "recall", "copied")
ROWS = 8
# A picture that leaves room for words: so many columns, one for each class, with so many rows.
PREVIEW, COLUMNS, LINES, SIDE = "preview.png", 10, 2, 64


class Place(NamedTuple):
    """Where a version lies in MLflow."""

    name: str
    version: int
    experiment: str
    run_id: str

    @property
    def picture(self) -> Markup:
        """Some of what it makes."""
        return Markup(f"![what it makes]({pages.picture(self.run_id, f'{PICTURES}/{PREVIEW}')})")

    def links(self, judged: bool) -> list[Markup]:
        """What there is to read further."""
        files = [("report", "report.html"), *([("why it was promoted or not", "verdict.html")] if judged else [])]
        files.append(("card", "model_card.md"))
        run = ("", self.experiment, self.run_id)
        return [
            _link("version", pages.version("", self.name, self.version)),
            _link("run", pages.run(*run)),
            _link("curves and samples over time", pages.run(*run, "model-metrics")),
            *(_link(words, pages.run(*run, "artifacts", f"{REPORT}/{file}")) for words, file in files),
        ]


def version_summary(subject: Subject, place: Place | None = None) -> str:
    """Return the card in short, for a version and its run, at most `LONGEST` characters."""
    rows = _rows(subject)
    while len(text := _summary(subject, place, rows)) > LONGEST and rows:
        rows = rows[:-1]
    return text


def model_description(subject: Subject, place: Place) -> str:
    """Return what the registered model is, of which `subject` is a version."""
    return to_markdown(
        "model_description.md.jinja",
        image=subject.model.image,
        picture=place.picture,
        words=subject.words,
        measure=WORDS[measure_of(subject.model.training.task)],
        usage=usage(f"models:/{place.name}@champion", subject.model.training.task),
        command=command(subject.model.training.task, ""),
    ).rstrip()


def preview(subject: Subject) -> bytes | None:
    """Return a small picture of some finished images, as PNG; None where they are no pictures."""
    import numpy as np

    by_label: dict[str, list[str]] = defaultdict(list)
    for picture in subject.gallery.pictures:
        if picture.file.endswith(".png"):
            by_label[picture.label].append(picture.file)
    if len(by_label) == 1:
        (files,) = by_label.values()
        chosen = files[: COLUMNS * LINES]
    else:
        columns = [files[:LINES] for files in list(by_label.values())[:COLUMNS]]
        chosen = [file for line in zip_longest(*columns) for file in line if file]
    if not chosen:
        return None
    pixels = []
    for file in chosen:
        with opened(subject.gallery.folder / file) as image:
            pixels.append(np.atleast_3d(np.asarray(image)))
    columns_used = min(COLUMNS, len(pixels) if len(by_label) == 1 else len(by_label))
    buffer = io.BytesIO()
    made_by = png_text({"model": subject.model.key.id}, mark_of(subject.model.training.task))
    grid(pixels, columns_used, tile_size(pixels[0], SIDE)).save(buffer, "png", optimize=True, pnginfo=made_by)
    return buffer.getvalue()


def command(task: AnyTask, model: str) -> str:
    """Return the command that makes images, by the `model` that an option names."""
    if task.name == "generate":
        return f"ganflow generate {model}--n 16 --out pictures"
    mask = "--mask mask.png " if isinstance(task, Inpaint) else ""
    return f"ganflow apply {model}{mask}photo.jpg --out results"


def usage(address: str, task: AnyTask = GENERATE) -> str:
    """Return the lines of Python that make images by a registered model."""
    if task.name != "generate":
        mask = ', "mask": [open("mask.png", "rb").read()]' if isinstance(task, Inpaint) else ""
        return (
            "import mlflow, pandas\n"
            f"model = mlflow.pyfunc.load_model({json.dumps(address)})\n"
            f'photos = pandas.DataFrame({{"image": [open("photo.jpg", "rb").read()]{mask}}})\n'
            'open("result.png", "wb").write(model.predict(photos)["image"][0])'
        )
    return (
        "import mlflow\n"
        f"model = mlflow.pyfunc.load_model({json.dumps(address)})\n"
        'images = model.predict([], params={"n": 16, "seed": 1})  # uint8, (16, height, width, channels)'
    )


def _summary(subject: Subject, place: Place | None, rows: Sequence[ScoreRow]) -> str:
    verdict, version = subject.verdict, place.version if place else 0
    return to_markdown(
        "model_summary.md.jinja",
        rating=rating(Scores.of(subject.evaluation), subject.conditional),
        picture=place.picture if place else "",
        title=subject.title,
        model=subject.model,
        training_images=subject.dataset.splits["training"],
        scores=rows,
        verdict=verdict,
        words=subject.words,
        usage=usage(
            f"models:/{place.name}/{version}" if place else "models:/ganflow@champion", subject.model.training.task
        ),
        command=command(subject.model.training.task, f"--model {version or 'workspace'} "),
        commit=subject.commit,
        data_version=subject.data_version,
        cost=subject.cost and f"{subject.cost.words} (energy estimated)",
        links=place.links(verdict is not None) if place else [],
    ).rstrip()


def _rows(subject: Subject) -> list[ScoreRow]:
    """Return rows of the scores that decide, those with a floor of as many images."""
    rows = [row for row in score_rows(Scores.of(subject.evaluation)) if row.compared.floor or row.beside]
    rows = [row for row in rows if row.compared.score.metric in METRICS and not row.compared.score.split]
    return sorted(rows, key=lambda row: METRICS.index(row.compared.score.metric))[:ROWS]


def _link(words: str, address: str) -> Markup:
    return Markup(f"[{words}]({address})")
