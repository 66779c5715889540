"""What the training curves show: averages over the images and the ranks since the last point, and diversity."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .ranks import sum_over_ranks


class Averages:
    """Sums of values for each image, kept on the device so that the loop does not wait, averaged over all ranks."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Count `values`, by name: (B,) for B images each, or of no image a scalar."""
        for name, value in values.items():
            total = value.detach().float().sum()
            self._sums[name] = self._sums[name] + total if name in self._sums else total
            self._counts[name] = self._counts.get(name, 0) + value.numel()

    def take(self) -> dict[str, float]:
        """Return the averages since the last time, by name; every rank must have the same names and ask at once."""
        names = sorted(self._sums)
        sums = torch.stack([self._sums[name] for name in names]).double()
        counts = torch.tensor([self._counts[name] for name in names], device=sums.device).double()
        pairs = sum_over_ranks(torch.stack((sums, counts)))
        self._sums.clear()
        self._counts.clear()
        return dict(zip(names, (pairs[0] / pairs[1]).tolist(), strict=True))


def diversity(fake: Tensor, real: Tensor, label: Tensor) -> Tensor:
    """How much generated images of a class differ within a batch, over how much real ones do: 0 where all are alike.

    By the mean absolute difference of neighbours in the order of labels; of all neighbours where no two share a class.

    Shapes: fake and real (B, C, H, W), label (B,) -> (1,).
    """
    order = label.argsort(stable=True)
    same = label[order[1:]] == label[order[:-1]]
    weight = torch.where(same.any(), same, torch.ones_like(same)).float()
    differences = [
        (weight * (ordered[1:] - ordered[:-1]).abs().flatten(1).mean(1)).sum()
        for ordered in (images.detach().float()[order] for images in (fake, real))
    ]
    return ((differences[0] + 1e-6) / (differences[1] + 1e-6)).expand(1)
