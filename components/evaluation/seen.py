"""What a model has seen: registered with it, so that a later gate compares on images that are new to both."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..gan.dataset import Pixels, Split, SplitName, fingerprints
from ..gan.errors import DamagedError
from ..workspace.artifacts import Dataset, Evaluation

FILES = FINGERPRINTS, IDENTITIES, SIGNATURES = Evaluation.seen
# Of so many images at most signatures are kept, evenly over them: 26 MB, or 51 MB where not all are square.
MAX_SIGNATURES = 100_000
# What the weights or the choice of them depend on.
_SPLITS: tuple[SplitName, ...] = ("training", "development")


class Seen(NamedTuple):
    """Hashes of the pixels that a model was trained on (N,), sorted; identities (N,) and signatures (n, views, values).

    A model that was registered before images had identities has none of these.
    """

    fingerprints: npt.NDArray[np.uint64]
    identities: npt.NDArray[np.uint64] | None
    signatures: Pixels | None

    @classmethod
    def load(cls, folder: Path, name: str) -> Seen:
        """Return what lies in the folder of the model called `name`.

        Raises:
            DamagedError: it is missing or damaged.
        """
        try:
            known = (folder / IDENTITIES).exists()
            loaded = [np.load(folder / file, allow_pickle=False) for file in (FILES if known else FILES[:1])]
        except (OSError, ValueError, EOFError):
            raise DamagedError(f"{name} is damaged: `ganflow verify` says what mends it") from None
        return cls(*loaded) if known else cls(loaded[0], None, None)


def write_seen(dataset: Dataset, folder: Path) -> None:
    """Write to `folder` what a model of this data set has seen."""
    names = [name for name in _SPLITS if name in dataset.splits]
    hashes = [fingerprints(Split(dataset.folder, name, dataset.image)) for name in names]
    np.save(folder / FINGERPRINTS, np.sort(np.concatenate(hashes)))
    if not knows_identities(dataset):
        return
    identities, signatures = (
        np.concatenate([np.load(dataset.folder / f"{name}-{what}.npy", mmap_mode="r") for name in names])
        for what in ("identities", "signatures")
    )
    np.save(folder / IDENTITIES, np.sort(identities[:, 0]))
    chosen = np.linspace(0, len(signatures) - 1, min(len(signatures), MAX_SIGNATURES)).astype(np.int64)
    np.save(folder / SIGNATURES, signatures[chosen])


def knows_identities(dataset: Dataset) -> bool:
    """Whether the images of a data set have identities, which earlier ones had not."""
    return "training-identities.npy" in dataset.files
