"""What truncation does to a model's samples, and which of its values is nearest to the training split."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..gan.published import Published
from ..measures import metrics
from ..measures.distances import Features
from ..measures.features import FeatureNet
from ..measures.intervals import Estimate
from ..measures.manifolds import manifolds
from .samples import sampled

# Every network has a truncation of its own (docs/evaluation.md); 1 leaves its images alone.
VALUES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
# Samples at each value, at most.
MAX_SAMPLES = 2_000


def truncation_curve(
    model: Published,
    feature_net: FeatureNet,
    seeds: range,
    labels: npt.NDArray[np.int64],
    features: Features,
    held: Features,
) -> pd.DataFrame:
    """Return the scores at each truncation, of the same seeds and labels (N,), and last those of real images.

    `features`: of the samples without truncation (N, F); `held`: of unseen real images (M, F). Each row is of as many
    images. The row of real images has no truncation.
    """
    n = min(len(features), len(held), len(feature_net.real), MAX_SAMPLES)
    rows = []
    for value in VALUES:
        of_value = features[:n]
        if value < 1:
            parts = sampled(model, (feature_net,), seeds[:n], labels[:n], truncation=value)
            of_value = np.concatenate([part.readings[0].features for part in parts])
        rows.append({"truncation": value, **_scores(of_value, feature_net.real)})
    return pd.DataFrame([*rows, {"truncation": None, **_scores(held[:n], feature_net.real)}])


def chosen_truncation(curve: pd.DataFrame) -> float:
    """Return the value with the least Frechet distance to the training split, of equal ones the highest."""
    values = curve.dropna(subset=["truncation"]).sort_values("truncation", ascending=False)
    return float(values["truncation"].to_numpy()[values["fd"].to_numpy().argmin()])


def _scores(features: Features, real: Features) -> dict[str, float]:
    found: dict[str, Estimate] = {
        "fd": metrics.frechet_estimate(features, real),
        "kid": metrics.kernel_estimate(features, real),
        **manifolds(real, features)._asdict(),
    }
    ends = {f"{name}_{end}": getattr(each, end) for name, each in found.items() for end in ("low", "high")}
    return {"images": len(features), **{name: each.value for name, each in found.items()}, **ends}
