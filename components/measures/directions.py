"""How near pictures that were carried into other classes are to these: KID to their images, class by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ..gan.dataset import Split
from ..gan.errors import UserError
from .distances import Features, kernel_distance
from .features import FeatureNet

Labels = npt.NDArray[np.int64]
# Of each class so many real images are looked at.
MAX_REAL = 1_000


def classes_wanted(labels: Labels, present: Labels) -> Labels:
    """Return for each of N pictures of these classes another class of those `present`, in turns: (N,)."""
    wanted = np.empty_like(labels)
    for place, label in enumerate(present):
        rows = np.flatnonzero(labels == label)
        wanted[rows] = np.roll(present, -place)[1 + np.arange(len(rows)) % (len(present) - 1)]
    return wanted


def require_directions(labels: Labels, present: Labels, classes: Sequence[str]) -> None:
    """Check that of N held-out pictures of these classes two are, and two would become, of each class `present`.

    Raises:
        UserError: they are not; one alone has no distance to others.
    """
    for what, found in (("are", labels), ("would become", classes_wanted(labels, present))):
        counts = np.bincount(found, minlength=len(classes))
        for label in present:
            if counts[label] < 2:
                raise UserError(
                    f"{counts[label]} held-out pictures {what} {classes[label]}, and two are needed: add "
                    "pictures, or raise preprocess.holdout"
                )


def distances_to_classes(features: Features, wanted: Labels, real: Mapping[int, Features]) -> dict[int, float]:
    """Return KID of pictures, of these features (N, F), to the class wanted of each (N,), for each class."""
    return {int(label): kernel_distance(features[wanted == label], real[int(label)]) for label in np.unique(wanted)}


def real_of_classes(net: FeatureNet, data: Split) -> dict[int, Features]:
    """Return what the net sees in training images of each class that has any, (n, F)."""
    found = {}
    for label in np.flatnonzero(np.bincount(data.labels)):
        own = np.flatnonzero(data.labels == label)
        chosen = own[np.linspace(0, len(own) - 1, min(len(own), MAX_REAL)).round().astype(np.int64)]
        found[int(label)] = net.read(data.pixels(chosen)).features
    return found
