"""Stage: Evaluation + Model + Dataset -> Gallery."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from .gan.dataset import Pixels
from .gan.inputs import Inputs
from .gan.published import Published
from .pictures import metadata
from .pictures.finishing import Draft, ImageStep, Step, one_of_each_class
from .pictures.lettering import lettering
from .pictures.tiles import BACKGROUND, GAP, grid, paste, tile_size
from .reports import gallery_report
from .reports.task_gallery import postprocess_task
from .workspace.artifacts import Dataset, Evaluation, Gallery, Key, Model, Picture
from .workspace.files import staging
from .workspace.params import Postprocess
from .workspace.published import load_published
from .workspace.workspace import Workspace

COLUMNS = 10
SHEET_TILES, SHEET_CLASSES = 200, 500
ONE_CLASS_ROWS = 8
FRAME_MS = 80
INK = (214, 216, 220)


def postprocess(
    options: Postprocess, evaluation: Evaluation, model: Model, dataset: Dataset, key: Key, workspace: Workspace
) -> Gallery:
    """Finish samples of every class, and show them: PNG files, contact sheet, walk between latents, report.

    Every picture is marked as generated, with the keys of the model, the evaluation and the gallery.

    Raises:
        UserError: an input is damaged, or a step cannot treat such images.
    """
    for artifact in (evaluation, model, dataset):
        artifact.verified()
    torch.set_num_threads(min(model.execution.workers * model.execution.threads, len(os.sched_getaffinity(0))))
    if model.training.task.name != "generate":
        return postprocess_task(options, evaluation, model, dataset, key, workspace)
    classes = model.image.classes
    samples = choose(evaluation, options.images)
    drafts = list(samples)
    for step in tqdm(options.steps, desc="postprocess", disable=None, leave=False):
        drafts = step.apply(drafts)
    published = load_published(model.folder, "the model")
    facts = {"model": model.key.id, "evaluation": evaluation.key.id, "gallery": key.id}
    with staging(workspace.gallery) as folder:
        pictures = save(drafts, classes, facts, folder)
        sheet = contact_sheet(drafts, classes)
        sheet.save(folder / "contact_sheet.png", optimize=True, pnginfo=metadata.png_text(facts))
        if options.interpolation_frames:
            frames = interpolation(drafts, options, published)
            frames[0].save(
                folder / "interpolation.webp",
                save_all=True,
                append_images=frames[1:],
                duration=FRAME_MS,
                loop=0,
                quality=80,
                method=4,
                xmp=metadata.xmp(facts),
            )
        page = gallery_report.render(
            gallery_report.Contents(folder, key, options, samples, drafts, published, evaluation, model, dataset)
        )
        (folder / "report.html").write_text(page, encoding="utf-8")
        Gallery.describe(folder, key, pictures=pictures, model=model.content)
    return Gallery.load(workspace.gallery)


def choose(evaluation: Evaluation, count: int) -> list[Draft]:
    """Return the first samples of each class, as many of each as `count` in all allows, in the order of the classes."""
    table = pd.read_csv(evaluation.folder / "samples.csv")
    turn = table.groupby("label").cumcount()
    first = table.assign(turn=turn).sort_values(["turn", "label"]).head(count).sort_values(["label", "turn"])
    pixels: Pixels = np.load(evaluation.folder / "samples.npy", mmap_mode="r", allow_pickle=False)
    # Only images with labels have a confidence.
    scored = first[[name for name in ("confidence", "discriminator") if name in first]].to_dict("records")
    return [
        Draft(
            pixels=np.array(pixels[row]),
            seed=int(seed),
            label=int(label),
            scores={str(name): float(value) for name, value in scores.items()},
        )
        for row, seed, label, scores in zip(first.index, first["seed"], first["label"], scored, strict=True)
    ]


def save(
    drafts: Sequence[Draft], classes: Sequence[str], facts: Mapping[str, str], folder: Path
) -> tuple[Picture, ...]:
    """Write each picture as `images/<class>-<seed>.png`, marked with the gallery's `facts` and its own."""
    (folder / "images").mkdir()
    pictures = []
    for draft in drafts:
        files = metadata.files_of(draft, classes, facts)
        for name, content in files.items():
            (folder / "images" / name).write_bytes(content)
        file = f"images/{next(iter(files))}"
        pictures.append(Picture(file=file, seed=draft.seed, label=classes[draft.label], steps=draft.steps))
    return tuple(pictures)


def contact_sheet(drafts: Sequence[Draft], classes: Sequence[str]) -> Image.Image:
    """Draw the first pictures of each class in a row with its name; many classes share a line and show fewer.

    Pictures of one class fill rows without a name.
    At most some 200 pictures, or one of each of 500 classes, so that the sheet's size is bounded.
    """
    rows = [(classes[label], list(group)) for label, group in groupby(drafts, key=lambda d: d.label)][:SHEET_CLASSES]
    if len(rows) == 1:
        shown = drafts[: COLUMNS * ONE_CLASS_ROWS]
        rows = [("", list(shown[start : start + COLUMNS])) for start in range(0, len(shown), COLUMNS)]
    columns = min(COLUMNS, max(1, SHEET_TILES // len(rows)), max(len(row) for _, row in rows))
    blocks = min(len(rows), max(1, COLUMNS // columns)) if len(rows) > SHEET_TILES // COLUMNS else 1
    tile_width, tile_height = tile = tile_size(drafts[0].pixels, 112 if blocks == 1 else 64)
    font, names = lettering([name for name, _ in rows], 20 if blocks == 1 else 12)
    names = [_shortened(name, font, 190 if blocks == 1 else 90) for name in names]
    label_width = int(max(font.getlength(name) for name in names)) + 3 * GAP
    block_width = label_width + columns * (tile_width + GAP)
    lines = -(-len(rows) // blocks)
    size = (blocks * block_width + 3 * GAP, lines * (tile_height + GAP) + 3 * GAP)
    sheet = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for index, (name, (_, row)) in enumerate(zip(names, rows, strict=True)):
        left, top = 2 * GAP + index // lines * block_width, 2 * GAP + index % lines * (tile_height + GAP)
        draw.text((left + label_width - 2 * GAP, top + tile_height / 2), name, INK, font, anchor="rm")
        for column, draft in enumerate(row[:columns]):
            paste(sheet, draft.pixels, tile, (left + label_width + column * (tile_width + GAP), top))
    return sheet


def interpolation(drafts: Sequence[Draft], options: Postprocess, model: Published) -> list[Image.Image]:
    """Frames of a closed walk through the latent space for the first pictures of up to ten classes, in a grid.

    Each walk is the great circle z(t) = cos(t) a + sin(t) b from the picture's own latent a: a spherical
    interpolation of constant speed without corners, and every z(t) is N(0, 1) again, as a and b are.
    """
    firsts = one_of_each_class(drafts, COLUMNS)
    count = options.interpolation_frames
    labels = np.array([first.label for first in firsts])
    a = model.inputs([first.seed for first in firsts], labels).z
    # No sample has a negative seed.
    b = model.inputs([-1 - index for index in range(len(firsts))], labels).z
    t = (2 * torch.pi * torch.arange(count) / count)[:, None, None]
    z = (t.cos() * a + t.sin() * b).flatten(0, 1)
    walk = [
        replace(firsts[index % len(firsts)], pixels=pixels)
        for index, pixels in enumerate(model.images_of(Inputs(z, torch.from_numpy(labels).repeat(count))))
    ]
    step: Step
    for step in options.steps:
        if isinstance(step, ImageStep):
            walk = step.apply(walk)
    size, columns = tile_size(walk[0].pixels, 112), min(5, len(firsts))
    shown = [draft.pixels for draft in walk]
    return [grid(shown[start : start + len(firsts)], columns, size) for start in range(0, len(shown), len(firsts))]


def _shortened(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """`text` on one line of at most `width` pixels."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
