"""What is added to a player's loss: penalties as rows of a table, their weights by the images seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .options import TrainingOptions
from .ranks import sum_over_ranks
from .schedules import at


class Penalty(NamedTuple):
    """A term of a player's loss beside the adversarial one.

    Attributes:
        name: of its curve.
        weight: of its value; 0 where the penalty is off or not due.
        every: steps from one to the next, by which its value is multiplied (lazy regularisation, Karras et al. 2020,
            section 3.1).
        value: computes it, (B,).
        images: over how many images of all ranks the generator takes the mean of it; 1 for a scalar.
    """

    name: str
    weight: float
    every: int
    value: Callable[[], Tensor]
    images: int = 1


class Weights(NamedTuple):
    """Weights of the discriminator's penalties in one of its steps, each 0 where it is off or not due.

    `resting`: nobody asks for its opinion, so that it learns nothing either.
    """

    r1: float
    r2: float
    wgan_gp: float
    resting: bool = False

    @classmethod
    def of(cls, options: TrainingOptions, images: int, d_steps: int) -> Weights:
        """Return the weights after `images` images and `d_steps` steps of the discriminator."""
        if not at(options.adversarial_weight, images, options):
            return cls(0.0, 0.0, 0.0, resting=True)
        if d_steps % options.penalty_every:
            return cls(0.0, 0.0, 0.0)
        # Gamma / 2 (Mescheder et al. 2018, eq. 9 and 10).
        return cls(
            at(options.r1_gamma, images, options) / 2, at(options.r2_gamma, images, options) / 2, options.wgan_gp_weight
        )


class GeneratorWeights(NamedTuple):
    """Weights of what the generator minimises in one of its steps."""

    pixel: float
    feature: float
    adversarial: float

    @classmethod
    def of(cls, options: TrainingOptions, images: int) -> GeneratorWeights:
        """Return the weights after `images` images."""
        weights = options.pixel_weight, options.feature_weight, options.adversarial_weight
        return cls(*(at(weight, images, options) for weight in weights))


class PathLength(nn.Module):
    """(length - a)^2 with a the running mean of all lengths, over all ranks (Karras et al. 2020, eq. 4)."""

    mean: Tensor

    def __init__(self, rate: float = 0.01) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, lengths: Tensor) -> Tensor:
        """Lengths (B,) -> (B,); all ranks at once."""
        with torch.no_grad():
            total = sum_over_ranks(torch.stack((lengths.sum(), lengths.new_tensor(len(lengths)))))
            self.mean.lerp_(total[0] / total[1], self.rate)
        return (lengths - self.mean.clone()).square()
