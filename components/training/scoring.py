"""A training that is judged at every checkpoint: what the stage `train` and the trials of a sweep share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from ..gan.dataset import Pixels, Split
from ..gan.models.layers import Generator, standing_statistics
from ..gan.options import Execution, TrainingOptions
from ..gan.sampling import labels_like, sample, seeded
from ..gan.training_loop import START, Progress, State, bf16, training_loop
from ..measures.distances import Features
from ..workspace.artifacts import Dataset
from ..workspace.feature_nets import load_feature_net
from .points import contact_grid, row_of
from .restyle_scoring import RestyleScorer
from .task_scoring import TaskScorer

SCORE_SAMPLES = 1_000
# More say little more, and each is looked at before the first score.
MAX_DEVELOPMENT = 5_000
GRID_COLUMNS = 10


class Scored(NamedTuple):
    """A point of the training curves; with a score and a picture where a checkpoint is due."""

    progress: Progress
    row: dict[str, Any]
    grid: Pixels | None


def scored_training(
    options: TrainingOptions,
    dataset: Dataset,
    execution: Execution,
    state_folder: Path,
    state: State = START,
    judging: bool = True,
) -> Iterator[Scored]:
    """`training_loop` on `dataset`, from `state`; only where `judging` with scores and pictures.

    Raises:
        UserError: the networks cannot make such images.
        DivergedError: a loss or a weight is no longer finite.
    """
    torch.set_num_threads(execution.threads)
    data = Split(dataset.folder, "training", dataset.image)
    scorer: AnyScorer | None = None
    seen = state.images
    for progress in training_loop(options, data, execution, state):
        row: dict[str, Any] = {"images": progress.images, **progress.metrics}
        due = progress.images // options.checkpoint_every > seen // options.checkpoint_every
        seen = progress.images
        grid = None
        if judging and (due or seen >= options.images):
            scorer = scorer or _scorer_of(options)(dataset, data, state_folder, options, execution)
            scores, grid = scorer(progress)
            row |= scores
        yield Scored(progress, row, grid)


def _scorer_of(options: TrainingOptions) -> type[AnyScorer]:
    match options.task.name:
        case "generate":
            return Scorer
        case "restyle":
            return RestyleScorer
    return TaskScorer


def resolve_precision(options: TrainingOptions, gpu: bool) -> Literal["fp32", "bf16"]:
    """Return the precision that this machine computes such networks in, by a fixed table."""
    if not options.shortcuts:
        return "fp32"
    if options.precision != "auto":
        return options.precision
    # Fully connected networks of this size wait for memory, not for products.
    return "bf16" if bf16(gpu) and options.network.name != "mlp" else "fp32"


def cache_of_node() -> Path:
    """Where a node that shares nothing but the storage keeps what it fetched."""
    return Path(os.environ.get("GANFLOW_CACHE") or Path.home() / ".cache" / "ganflow")


class Scorer:
    """Scores of the moving averages at fixed latents, against real images they were not trained on, and a picture."""

    def __init__(
        self, dataset: Dataset, data: Split, state: Path, options: TrainingOptions, execution: Execution
    ) -> None:
        self._feature_net = load_feature_net(data, dataset.content, state / "features")
        self._unseen, self._learned = self._real(dataset)
        labels, latent = labels_like(data.class_shares, SCORE_SAMPLES), options.network.latent
        self._scored = seeded(range(SCORE_SAMPLES), labels, latent)
        self._standing = seeded(range(SCORE_SAMPLES, 2 * SCORE_SAMPLES), labels, latent)
        # A row for each class; without classes a square of images.
        rows = np.arange(min(len(dataset.image.classes), GRID_COLUMNS))
        shown = np.repeat(rows if dataset.image.labelled else np.zeros(GRID_COLUMNS, np.int64), GRID_COLUMNS)
        self._shown = seeded(range(len(shown)), shown, latent)
        self._precision = execution.precision

    def _real(self, dataset: Dataset) -> tuple[Features | None, Features]:
        """Return features of the development split, where there is one, and of as many training images."""
        learned = self._feature_net.real
        if dataset.splits.get("development", 0) < 2:
            return None, learned
        development = Split(dataset.folder, "development", dataset.image)
        unseen = self._feature_net.read(development.pixels(development.spread(MAX_DEVELOPMENT))).features
        # As many of both: what distances to few images have too much of is then in both.
        chosen = np.random.default_rng(0).permutation(len(learned))[: len(unseen)]
        return unseen, learned[np.sort(chosen)]

    def __call__(self, progress: Progress) -> tuple[dict[str, float], Pixels]:
        """Return what a point of the curves says of the averages, and a grid of images by the best of them.

        Made with standing statistics, which the moving averages keep. `score` is the distance to the development split,
        `generalisation_gap` by how much it is more than that to as many training images. Without a development split
        the score is the distance to training images.
        """
        measured = {name: self._score(average) for name, average in progress.averages.items()}
        scores = {name: score for name, (score, _) in measured.items()}
        best = min(scores, key=lambda name: scores[name])
        grid = contact_grid(sample(progress.averages[best], self._shown, precision=self._precision), GRID_COLUMNS)
        gap = measured[best][1]
        return row_of(scores) | ({} if gap is None else {"generalisation_gap": gap}), grid

    def _score(self, average: Generator) -> tuple[float, float | None]:
        """Return the score of one average, and its generalisation gap."""
        device = next(average.parameters()).device
        with torch.autocast(device.type, torch.bfloat16, enabled=self._precision == "bf16"):
            standing_statistics(average, self._standing.to(device))
        net = self._feature_net
        features = net.read(sample(average, self._scored, precision=self._precision)).features
        learned = net.distance(features, self._learned)
        if self._unseen is None:
            return learned, None
        score = net.distance(features, self._unseen)
        return score, score - learned


AnyScorer = Scorer | TaskScorer | RestyleScorer
