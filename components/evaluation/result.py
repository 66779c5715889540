"""What every evaluation ends in: its scores, what the model has seen, and the JSON that describes both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..gan.dataset import Pixels
from ..measures.features import FeatureNet
from ..workspace.artifacts import Dataset, Evaluation, Key, Model
from ..workspace.scores import Score, Scores
from .seen import write_seen


class Judged(NamedTuple):
    """The images of an evaluation: how many samples, and the held-out `pixels` (M, ...) beside them.

    `labels` (M,) where these count too; `rows` (M,) are the places of the images in the holdout.
    """

    samples: int
    rows: npt.NDArray[np.int64]
    pixels: Pixels
    labels: npt.NDArray[np.int64] | None = None

    @property
    def hash(self) -> str:
        """Of the held-out images, by which it is known whether two evaluations looked at the same ones."""
        return hashlib.sha256(
            self.pixels.tobytes() + (b"" if self.labels is None else self.labels.tobytes())
        ).hexdigest()


def write_result(
    folder: Path,
    key: Key,
    scores: Iterable[Score],
    images: Judged,
    net: FeatureNet,
    model: Model,
    dataset: Dataset,
    truncation: float | None = None,
) -> None:
    """Write `metrics.json`, what the model has seen, and last the JSON of all files in `folder`."""
    np.save(folder / "holdout_rows.npy", images.rows)
    write_seen(dataset, folder)
    measured = Scores(scores)
    (folder / "metrics.json").write_text(json.dumps(measured.metrics, indent=2) + "\n")
    Evaluation.describe(
        folder,
        key,
        metrics=measured.metrics,
        intervals=measured.intervals,
        samples=images.samples,
        training_images=dataset.splits["training"],
        holdout_images=dataset.splits["holdout"],
        feature_net=net.sha256,
        holdout=images.hash,
        model=model.content,
        truncation=truncation,
    )
