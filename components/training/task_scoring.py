"""What a training for an image task is scored by: how far its images look from originals that it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from ..gan.dataset import Pixels, Split, to_pixels
from ..gan.inputs import Inputs
from ..gan.models.layers import Generator
from ..gan.options import Execution, TrainingOptions
from ..gan.sampling import conditions_of, latents, sample
from ..gan.tasks.image_tasks import task_of
from ..gan.training_loop import Progress
from ..measures.fidelity import psnr, squared_errors
from ..measures.perceptual import perceptual_distance
from ..measures.transparency import pixels_over_grey
from ..workspace.artifacts import Dataset
from ..workspace.feature_nets import load_feature_net
from .points import contact_grid, row_of

# Conditions and their originals are paired, so that a few hundred tell checkpoints apart.
SCORE_IMAGES = 500
SHOWN = 12
# Condition, baseline, made, original; twice in a row.
COLUMNS = 8
_PART = 50


class Errors(NamedTuple):
    """How far images are from their originals: mean perceptual distance, and the error in dB of all together."""

    perceptual: float
    psnr: float


class TaskScorer:
    """Scores of the moving averages at fixed conditions of images that they were not trained on, and a picture.

    Without a development split of at least two images the conditions are those of training images.
    """

    def __init__(
        self, dataset: Dataset, data: Split, state: Path, options: TrainingOptions, execution: Execution
    ) -> None:
        task = task_of(options.task)
        assert task is not None
        self._task, self._precision = task, execution.precision
        self._net = load_feature_net(data, dataset.content, state / "features").net
        development = dataset.splits.get("development", 0) >= 2
        self._split = Split(dataset.folder, "development", dataset.image) if development else data
        self._index = self._split.spread(SCORE_IMAGES)
        # As many that it has learned from.
        self._learned = (data, data.spread(len(self._index))) if development else None
        self._baseline = self._errors(None, self._split, self._index)

    def __call__(self, progress: Progress) -> tuple[dict[str, float], Pixels]:
        """Return what a point of the curves says of the averages, and a grid of images by the best of them.

        `score` is the mean perceptual distance to the originals, and `psnr` is that of all of them together; beside
        them those of the baseline, from the same conditions. `generalisation_gap` is by how much the score is more than
        that of training images, in shares of the baselines' scores.
        """
        found = {name: self._errors(g, self._split, self._index) for name, g in progress.averages.items()}
        scores = {name: errors.perceptual for name, errors in found.items()}
        best = min(scores, key=lambda name: scores[name])
        row = row_of(scores) | {
            "baseline_score": self._baseline.perceptual,
            "psnr": found[best].psnr,
            "baseline_psnr": self._baseline.psnr,
        }
        if self._learned is not None:
            learned, baseline = (self._errors(g, *self._learned) for g in (progress.averages[best], None))
            unseen = scores[best] / max(self._baseline.perceptual, 1e-12)
            row["generalisation_gap"] = unseen - learned.perceptual / max(baseline.perceptual, 1e-12)
        return row, self._grid(progress.averages[best])

    def _errors(self, generator: Generator | None, split: Split, index: npt.NDArray[np.int64]) -> Errors:
        """Return the errors of `generator`, None for the baseline, at the conditions of these images of a split."""
        distances, squared = [], []
        for start in range(0, len(index), _PART):
            part = index[start : start + _PART]
            originals = split.pixels(part)
            made = pixels_over_grey(self._made(generator, split, part, start)[-1])
            originals = pixels_over_grey(originals)
            distances.append(perceptual_distance(self._net, made, originals))
            squared.append(squared_errors(made, originals))
        return Errors(float(np.concatenate(distances).mean()), psnr(np.concatenate(squared)))

    def _made(
        self, generator: Generator | None, split: Split, index: npt.NDArray[np.int64], first: int
    ) -> tuple[Pixels, Pixels, Pixels]:
        """Return conditions as a person sees them, baselines and images, the first of which has the number `first`.

        Without a generator the images are the baselines.
        """
        numbers = range(first, first + len(index))
        given = conditions_of(self._task, split, index, numbers)
        shown, baseline = (to_pixels(images) for images in (self._task.shown(given), self._task.baseline(given)))
        if generator is None:
            return shown, baseline, baseline
        inputs = Inputs(latents(numbers, self._task.latent), torch.from_numpy(split.labels[index]), given)
        return shown, baseline, sample(generator, inputs, precision=self._precision)

    def _grid(self, generator: Generator) -> Pixels:
        originals = self._split.pixels(self._index[:SHOWN])
        rows = np.stack([*self._made(generator, self._split, self._index[:SHOWN], 0), originals], 1)
        images = rows.reshape(-1, *originals.shape[1:])
        # Whole rows: of an odd number of images the last stands twice.
        return contact_grid(np.concatenate([images, images[-4:]])[: -(-len(images) // COLUMNS) * COLUMNS], COLUMNS)
