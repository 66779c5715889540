"""What an image is made from: one value, so that no part of it is left behind where a batch is cut or joined."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Inputs:
    """The latent, class and input image of each image of a batch, a row an image.

    Attributes:
        z: latents (B, latent), N(0, 1); for the generator alone.
        label: classes (B,).
        condition: input images (B, K, H, W) of an image-to-image task; None where a task has none.
    """

    z: Tensor
    label: Tensor
    condition: Tensor | None = None

    @classmethod
    def without_latent(cls, label: Tensor, condition: Tensor | None = None) -> Inputs:
        """Return inputs of images that no generator made, for a discriminator: z is (B, 0)."""
        return cls(torch.empty(len(label), 0, device=label.device), label, condition)

    @staticmethod
    def cat(parts: Sequence[Inputs]) -> Inputs:
        """Return the rows of all `parts`, in their order."""
        conditions = [part.condition for part in parts if part.condition is not None]
        return Inputs(
            torch.cat([part.z for part in parts]),
            torch.cat([part.label for part in parts]),
            torch.cat(conditions) if conditions else None,
        )

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, rows: slice | Tensor) -> Inputs:
        """Return the rows in a slice, or at indices (N,), which may repeat."""
        return self._each(lambda tensor: tensor[rows])

    def split(self, size: int) -> Iterator[Inputs]:
        """All rows in their order, `size` at a time, the last time what is left."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def to(self, device: torch.device) -> Inputs:
        """Return the same inputs on `device`."""
        return self._each(lambda tensor: tensor.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        return Inputs(change(self.z), change(self.label), None if self.condition is None else change(self.condition))
