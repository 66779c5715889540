"""What the report shows of a model beyond its finished pictures, each as captions and pictures to stand in a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch
from PIL import Image

from ..gan.dataset import Pixels, Split, to_signed
from ..gan.explain import latent_directions, latent_walk, saliency
from ..gan.inputs import Inputs
from ..gan.published import Published
from ..measures.metrics import neighbours as nearest
from ..pictures.finishing import Draft, one_of_each_class
from ..pictures.tiles import grid, tile, tile_size
from ..workspace.artifacts import Evaluation, Model
from .html import image_uri, number

# Longer side in pixels, at most.
TILE = 84
ROWS = 50
# Of all classes together, so that a page of many classes stays light.
CLASS_TILES = 120
EXTREMES = 12
NEIGHBOURS = 12
DIRECTIONS, WALKERS = 3, 4
DEVIATIONS = (-3.0, -1.5, 0.0, 1.5, 3.0)
LOOKED_AT = 6
HEAT = (232, 119, 34)

Score = Literal["confidence", "discriminator"]


@dataclass(frozen=True)
class Tile:
    """Pictures of one thing, as data URIs, and a few words below them."""

    pictures: tuple[str, ...]
    caption: str


@dataclass(frozen=True)
class ClassRow:
    """How the samples of one class came out; `share` and `expected` where the network was not told the class."""

    name: str
    samples: int
    recognised: float | None
    mistaken: str
    share: float
    expected: float
    strip: str | None


class Samples:
    """The evaluation's samples with their scores, and which of them says how good one is.

    The classifier's probability of the class asked for, where the network was told a class, else the
    discriminator's logit.
    """

    def __init__(self, evaluation: Evaluation, model: Model) -> None:
        self.table = pd.read_csv(evaluation.folder / "samples.csv")
        self.pixels: Pixels = np.load(evaluation.folder / "samples.npy", mmap_mode="r", allow_pickle=False)
        self.classes = model.image.classes
        self.conditional = model.training.network.conditional and model.image.labelled
        self.by: Score = "confidence" if self.conditional and "confidence" in self.table else "discriminator"

    def classes_shown(self, shares: Sequence[float]) -> list[ClassRow]:
        """Return a row for each class that was asked for, else was seen, with the shares it had in training.

        Of many classes the worst `ROWS`.
        """
        if "predicted" not in self.table:
            return []
        many = len(self.classes) > ROWS
        rows = []
        for label in range(len(self.classes)):
            of_class = self.table[self.table["label" if self.conditional else "predicted"] == label]
            wrong = of_class.loc[of_class["predicted"] != label, "predicted"].value_counts()
            recognised = 1 - wrong.sum() / len(of_class) if self.conditional and len(of_class) else None
            mistaken = ""
            if len(wrong):
                # Of equally many the first class, whatever order they were counted in.
                other = int(wrong[wrong == wrong.max()].index.min())
                mistaken = f"{self.classes[other]} ({wrong.max() / len(of_class):.1%})"
            share, expected = len(of_class) / len(self.table), float(shares[label])
            rows.append((of_class.index, recognised, mistaken, share, expected, label))
        if many:
            worst = sorted(rows, key=lambda row: (row[1] if self.conditional else row[3] / max(row[4], 1e-9)) or 0.0)
            rows = sorted(worst[:ROWS], key=lambda row: row[-1])
        columns = max(1, min(8, CLASS_TILES // len(rows)))
        return [
            ClassRow(
                name=self.classes[label],
                samples=len(index),
                recognised=recognised,
                mistaken=mistaken,
                share=share,
                expected=expected,
                strip=_strip(self.pixels[index[:columns].to_numpy()], columns) if len(index) else None,
            )
            for index, recognised, mistaken, share, expected, label in rows
        ]

    def worst(self) -> list[Tile]:
        """Return the samples with the lowest score of all."""
        return self._tiles(self._ranked(best_first=False).head(EXTREMES))

    def best(self) -> list[Tile]:
        """Return the samples with the highest score, class by class: else the easiest class would have them all."""
        ranked = self._ranked(best_first=True)
        ranked["turn"] = ranked.groupby("label").cumcount()
        first = ranked.sort_values(["turn", "label"]).head(EXTREMES)
        return self._tiles(first.sort_values(["label", "turn"]))

    def _ranked(self, best_first: bool) -> pd.DataFrame:
        # The discriminator's logit tells apart what the classifier is equally sure of.
        return self.table.sort_values([self.by, "discriminator", "seed"], ascending=not best_first)

    def _tiles(self, rows: pd.DataFrame) -> list[Tile]:
        pictures = [_picture(self.pixels[row]) for row in rows.index.to_numpy()]
        return [Tile((p,), self._caption_of(row)) for p, (_, row) in zip(pictures, rows.iterrows(), strict=True)]

    def _caption_of(self, row: pd.Series) -> str:
        if self.by == "discriminator":
            return _signed(float(row["discriminator"]))
        asked, seen = (self.classes[int(row[name])] for name in ("label", "predicted"))
        return f"{asked}: {row['confidence']:.1%}" + (f", seen as {seen}" if seen != asked else "")


def neighbours(samples: Sequence[Draft], training: Split, classes: Sequence[str]) -> list[Tile]:
    """Return samples beside their nearest training images, of each class in turn those that come nearest to one."""
    pixels = np.stack([sample.pixels for sample in samples])
    # Some 64 million values at a time, whatever the size of an image.
    batches = (images for images, _ in training.batches(max(1, 2**26 // pixels[0].size)))
    found = training.pixels(nearest(pixels, batches).nearest)
    errors = np.square(pixels.astype(np.float64) - found).mean((1, 2, 3))
    table = pd.DataFrame({"label": [sample.label for sample in samples], "error": errors})
    table = table.sort_values("error", kind="stable")
    table["turn"] = table.groupby("label").cumcount()
    chosen = table.sort_values(["turn", "label"], kind="stable").head(NEIGHBOURS).sort_values(["label", "turn"])
    tiles = []
    for row in chosen.index:
        error = float(errors[row])
        likeness = f"{10 * math.log10(255**2 / error):.1f} dB" if error else "identical"
        name = f"{classes[samples[row].label]}: " if len(classes) > 1 else ""
        tiles.append(Tile((_picture(pixels[row]), _picture(found[row])), name + likeness))
    return tiles


def directions(model: Published, samples: Sequence[Draft]) -> list[str]:
    """For each of the strongest directions a picture: in each row a sample in the middle, moved both ways beside it."""
    firsts = one_of_each_class(samples, len(samples))
    some = [firsts[i] for i in np.linspace(0, len(firsts) - 1, min(WALKERS, len(firsts))).astype(int)]
    generator = model.generator()
    axes = latent_directions(generator, model.manifest.network.latent, DIRECTIONS)
    inputs = model.inputs([sample.seed for sample in some], np.array([sample.label for sample in some]))
    walks = latent_walk(generator, inputs, axes, DEVIATIONS)
    return [_strip(walk.reshape(-1, *walk.shape[2:]), len(DEVIATIONS)) for walk in walks]


def saliency_tiles(model: Published, pixels: Pixels, labels: Sequence[int]) -> list[Tile]:
    """Images (N, H, W, C), beside them what moves the discriminator's logit, and the logit below."""
    image, inputs = (
        to_signed(torch.from_numpy(np.ascontiguousarray(pixels))),
        Inputs.without_latent(torch.tensor(labels)),
    )
    discriminator = model.discriminator()
    heat = saliency(discriminator, image, inputs).numpy()
    with torch.inference_mode():
        logits = discriminator(image, inputs).tolist()
    return [
        Tile((_picture(pixels[i]), _picture(overlaid(pixels[i], heat[i]))), _signed(logits[i]))
        for i in range(len(pixels))
    ]


def overlaid(pixels: Pixels, heat: np.ndarray) -> Pixels:
    """`heat` (H, W), smoothed, in orange over the picture (H, W, C) in grey: (H, W, 3)."""
    from skimage.filters import gaussian

    smooth = gaussian(heat, sigma=max(heat.shape) / 40)
    opacity = 0.9 * (smooth / max(float(np.quantile(smooth, 0.99)), 1e-12)).clip(0, 1)[:, :, None]
    grey = pixels[:, :, : min(3, pixels.shape[2])].mean(2, keepdims=True)
    # Paler, so that the colour shows on white as on black.
    mixed = (1 - opacity) * (0.65 * grey + 30) + opacity * np.array(HEAT)
    painted: Pixels = np.rint(mixed).astype(np.uint8)
    return painted


def _picture(pixels: Pixels) -> str:
    size = tile_size(pixels, TILE)
    return _encoded(tile(pixels, size), lossless=size[0] >= pixels.shape[1])


def _strip(pictures: Pixels, columns: int) -> str:
    size = tile_size(pictures[0], TILE)
    return _encoded(grid(list(pictures), columns, size, gap=3), lossless=size[0] >= pictures.shape[2])


def _encoded(image: Image.Image, lossless: bool) -> str:
    """WebP: every pixel of small images, good quality of those that were reduced anyhow."""
    return image_uri(image, "webp", lossless=lossless, quality=85)


def _signed(value: float) -> str:
    # Never a negative zero.
    return number(round(value, 1) or 0.0, form="{:+.1f}")
