"""The random numbers of a training, named rather than drawn in turn.

Each is a function of (seed, attempt, step, purpose) and of the image's place in the global batch, so that a state needs
no random number generator, and neither a resume nor another number of ranks repeats or loses one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .dataset import on_device
from .sampling import generator_for


@dataclass(frozen=True)
class Draws:
    """Random numbers of one step, for this rank's share of the global batch.

    Attributes:
        batch: images of the global batch.
        share: the rows of it that belong to this rank.
        attempt: another one draws other numbers.
        d_step: the discriminator's step within the step; None in the generator's.
    """

    seed: int
    batch: int
    share: slice
    device: torch.device
    attempt: int = 0
    step: int = 0
    d_step: int | None = None

    def at(self, step: int, d_step: int | None = None) -> Draws:
        """Return the draws of another step."""
        return replace(self, step=step, d_step=d_step)

    def uniform(self, purpose: str, size: int) -> Tensor:
        """Uniform numbers in [0, 1), (rows of this rank, size); the same ones whenever they are asked for."""
        return self._rows(torch.rand, purpose, size)

    def normal(self, purpose: str, size: int) -> Tensor:
        """N(0, 1) instead, see `uniform`."""
        return self._rows(torch.randn, purpose, size)

    def _rows(self, kind: Callable[..., Tensor], purpose: str, size: int) -> Tensor:
        name = purpose if self.d_step is None else f"{purpose} {self.d_step}"
        tried = (self.attempt,) if self.attempt else ()
        rows = kind(self.batch, size, generator=generator_for(self.seed, self.step, name, *tried))
        return on_device(rows[self.share], self.device)
