"""Which of the held-out images neither challenger nor champion has seen, nor any that is nearly the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..gan.dataset import Split, fingerprints_in_order
from ..ingest.duplicates import near_any
from ..workspace.artifacts import Dataset
from .seen import MAX_SIGNATURES, Seen, knows_identities


@dataclass(frozen=True)
class Unseen:
    """For each held-out image (M,) whether it is new to both; and what could not be looked for, in half a sentence."""

    mask: npt.NDArray[np.bool_]
    unsure: str = ""

    def __len__(self) -> int:
        return int(self.mask.sum())

    @property
    def compared(self) -> npt.NDArray[np.bool_]:
        """Which images to compare on: of hardly any no distance can be told, and the veto says so."""
        return self.mask if len(self) > 1 else np.ones_like(self.mask)


def unseen(dataset: Dataset, rows: npt.NDArray[np.int64], contenders: Mapping[str, Seen]) -> Unseen:
    """Return which of the held-out images at `rows` (M,) are new to all `contenders`, by what each is called."""
    mask, unsure, by_pixels = np.ones(len(rows), bool), [], []
    for name, seen in contenders.items():
        if seen.identities is None or seen.signatures is None or not knows_identities(dataset):
            holdout = Split(dataset.folder, "holdout", dataset.image)
            mask &= ~np.isin(fingerprints_in_order(holdout)[rows], seen.fingerprints)
            by_pixels.append(name)
            continue
        identities, signatures = (
            np.load(dataset.folder / f"holdout-{what}.npy", allow_pickle=False)[rows]
            for what in ("identities", "signatures")
        )
        mask &= ~np.isin(identities[:, 0], seen.identities)
        mask[mask] = ~near_any(signatures[mask], seen.signatures)
        if len(seen.signatures) < len(seen.identities):
            unsure.append(f"near-duplicates were looked for in {MAX_SIGNATURES:,} of the images that the {name} saw")
    if by_pixels:
        unsure.append(
            f"what the {' and the '.join(by_pixels)} saw is known by its processed pixels alone: near-duplicates, and "
            "images that are processed in another way since, are not found"
        )
    return Unseen(mask, "; ".join(unsure))
