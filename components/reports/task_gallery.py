"""Stage postprocess for image tasks: held-out images beside what they were made from, and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from ..gan.errors import UserError
from ..pictures import metadata
from ..pictures.finishing import Draft
from ..pictures.lettering import lettering
from ..pictures.tiles import BACKGROUND, GAP, paste, tile_size
from ..workspace.artifacts import Dataset, Evaluation, Gallery, Key, Model, Picture
from ..workspace.files import staging
from ..workspace.measure_words import WORDS, measure_of, plain
from ..workspace.params import Postprocess
from ..workspace.workspace import Workspace
from . import task_report
from .examples import Example, Extremes, examples, extremes_of, name_of_best

# The longer side of a picture on the contact sheet.
SIDE = 160
INK = (214, 216, 220)


def postprocess_task(
    options: Postprocess, evaluation: Evaluation, model: Model, dataset: Dataset, key: Key, workspace: Workspace
) -> Gallery:
    """Show what the model makes of held-out images: PNG files, contact sheet and report.

    Of all images that were measured some are shown, from the nearest to its original to the farthest, in even steps.

    Raises:
        UserError: there are finishing steps, which would hide what the model makes, or an input is damaged.
    """
    if options.steps:
        raise UserError(
            "postprocess.steps finish images that are made from noise, and would hide what a model of the task "
            f"{model.training.task.name} makes: set them to []"
        )
    facts = {
        "model": model.key.id,
        "evaluation": evaluation.key.id,
        "gallery": key.id,
        "task": model.training.task.name,
    }
    source = metadata.mark_of(model.training.task)
    shown = examples(evaluation, model, dataset, options.images)
    extremes = extremes_of(evaluation, model, dataset)
    baseline = name_of_best(evaluation)
    with staging(workspace.gallery) as folder:
        pictures = _saved(shown, model.image.classes, facts, source, folder)
        sheet = contact_sheet(extremes, baseline, WORDS[measure_of(model.training.task)].fourth)
        sheet.save(folder / "contact_sheet.png", optimize=True, pnginfo=metadata.png_text(facts, source))
        page = task_report.render(
            task_report.Contents(folder, key, options, shown, extremes, baseline, evaluation, model, dataset)
        )
        (folder / "report.html").write_text(page, encoding="utf-8")
        Gallery.describe(folder, key, pictures=pictures, model=model.content)
    return Gallery.load(workspace.gallery)


def _saved(
    shown: Sequence[Example], classes: Sequence[str], facts: Mapping[str, str], source: str, folder: Path
) -> tuple[Picture, ...]:
    """Write what was made of each as `images/<class>-<seed>.png`, marked with the facts."""
    (folder / "images").mkdir()
    pictures = []
    for example in shown:
        draft = Draft(example.made, example.seed, example.label, {})
        files = metadata.files_of(draft, classes, facts, source)
        for name, content in files.items():
            (folder / "images" / name).write_bytes(content)
        file = f"images/{next(iter(files))}"
        pictures.append(Picture(file=file, seed=example.seed, label=classes[example.label], steps=()))
    return tuple(pictures)


def contact_sheet(extremes: Extremes, baseline: str, fourth: str = "original") -> Image.Image:
    """Draw the best, the median and the worst in lines: what was given, the baseline, what was made, a `fourth`."""
    heads = ("given", plain(baseline), "made", fourth)
    width, height = size = tile_size(extremes.best[0].made, SIDE)
    font, texts = lettering([*heads, *extremes.named], 16 if width >= 100 else 11)
    margin, line = int(max(font.getlength(text) for text in texts[4:])) + 3 * GAP, 24
    # Where a picture is narrower than its name.
    column = max(width, int(max(font.getlength(text) for text in texts[:4]))) + GAP
    rows = sum(map(len, extremes.named.values()))
    sheet = Image.new("RGB", (margin + 4 * column + GAP, line + rows * (height + GAP) + 4 * GAP), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for place, text in enumerate(texts[:4]):
        draw.text((margin + place * column, GAP), text, INK, font)
    top = line + GAP
    for text, group in zip(texts[4:], extremes.named.values(), strict=True):
        draw.text((margin - 2 * GAP, top + height / 2), text, INK, font, anchor="rm")
        for example in group:
            for place, pixels in enumerate(example.pictures):
                paste(sheet, pixels, size, (margin + place * column, top))
            top += height + GAP
        top += GAP
    return sheet
