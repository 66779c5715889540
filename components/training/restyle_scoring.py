"""What a training without pairs is scored by: how near carried pictures are to the class wanted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ..gan.dataset import Pixels, Split, to_signed
from ..gan.inputs import Inputs
from ..gan.models.layers import Generator
from ..gan.options import Execution, TrainingOptions
from ..gan.sampling import sample
from ..gan.training_loop import Progress
from ..measures.directions import classes_wanted, distances_to_classes, real_of_classes
from ..workspace.artifacts import Dataset
from ..workspace.feature_nets import load_feature_net
from .points import contact_grid, row_of

SCORE_IMAGES = 500
# Pictures of each class that are shown, and classes.
SHOWN, CLASSES = 4, 8


class RestyleScorer:
    """Scores of the moving averages by pictures of each class that are carried into the others, and a picture.

    Pictures of the development split where each class has two there, else of the training split.
    """

    def __init__(
        self, dataset: Dataset, data: Split, state: Path, options: TrainingOptions, execution: Execution
    ) -> None:
        self._precision = execution.precision
        # A net that was trained to tell the classes apart sees little else: one that knows all kinds of things.
        self._net = load_feature_net(data, dataset.content, state / "features", "efficientnet_lite0")
        development = Split(dataset.folder, "development", dataset.image)
        present = np.flatnonzero(np.bincount(data.labels))
        enough = np.bincount(development.labels, minlength=len(dataset.image.classes))[present] >= len(present)
        split = development if enough.all() else data
        index = split.spread(SCORE_IMAGES)
        self._sources, self._labels = split.pixels(index), split.labels[index]
        self._wanted = classes_wanted(self._labels, present)
        self._real = real_of_classes(self._net, data)
        self._baseline = self._distance(self._sources)
        self._shown = present[:CLASSES]

    def __call__(self, progress: Progress) -> tuple[dict[str, float], Pixels]:
        """Return what a point of the curves says of the averages, and a grid of pictures by the best of them.

        `score` is KID to the class wanted, a mean over classes, and `baseline_score` that of the pictures as they are.
        """
        scores = {
            name: self._distance(self._carried(average, self._sources, self._wanted))
            for name, average in progress.averages.items()
        }
        best = min(scores, key=lambda name: scores[name])
        return row_of(scores) | {"baseline_score": self._baseline}, self._grid(progress.averages[best])

    def _distance(self, pixels: Pixels) -> float:
        found = distances_to_classes(self._net.read(pixels).features, self._wanted, self._real)
        return float(np.mean(list(found.values())))

    def _carried(self, generator: Generator, pixels: Pixels, labels: npt.NDArray[np.int64]) -> Pixels:
        given = to_signed(torch.from_numpy(pixels))
        return sample(generator, Inputs.without_latent(torch.from_numpy(labels), given), precision=self._precision)

    def _grid(self, generator: Generator) -> Pixels:
        """Rows of a picture, and what it becomes in each class."""
        rows = np.concatenate([np.flatnonzero(self._labels == label)[:SHOWN] for label in self._shown])
        sources = self._sources[rows]
        made = [self._carried(generator, sources, np.full(len(rows), label)) for label in self._shown]
        columns = 1 + len(self._shown)
        return contact_grid(np.stack([sources, *made], 1).reshape(-1, *sources.shape[1:]), columns)
