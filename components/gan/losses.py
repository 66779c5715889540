"""Adversarial losses and gradient penalties: plain functions of logits, each the value for every image (B,)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Loss(NamedTuple):
    """What each player minimises."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


def discriminator_non_saturating(real: Tensor, fake: Tensor) -> Tensor:
    """L_D = -E[log D(x) + log(1 - D(G(z)))] on logits: sp(-real) + sp(fake) (Goodfellow et al. 2014, algorithm 1).

    The article this project grew from prints L_D without the minus sign, which would make the discriminator worse
    at its task with every step.

    Shapes: logits (B,), (B,) -> (B,), in nats.
    """
    return F.softplus(-real) + F.softplus(fake)


def generator_non_saturating(fake: Tensor) -> Tensor:
    """L_G = -E[log D(G(z))] on logits: sp(-fake) (Goodfellow et al. 2014, section 3).

    The article sets this equal to E[log(1 - D(G(z)))], the saturating loss of the minimax game: the two share their
    fixed point, not their values nor their gradients, which vanish for the latter where D is confident.

    Shapes: logits (B,) -> (B,), in nats.
    """
    return F.softplus(-fake)


LOSSES = {"non_saturating": Loss(discriminator_non_saturating, generator_non_saturating)}


def r1_penalty(logits: Tensor, image: Tensor) -> Tensor:
    """Squared norm of the discriminator's gradient at real images (Mescheder et al. 2018, eq. 9, without gamma / 2).

    Shapes: logits (B,) computed from `image` (B, C, H, W), which requires a gradient -> (B,).
    """
    (gradient,) = torch.autograd.grad(logits.sum(), image, create_graph=True)
    return gradient.square().flatten(1).sum(1)
