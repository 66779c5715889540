"""Adversarial losses, gradient penalties and regularisers: plain functions, each the value for every image (B,)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Loss(NamedTuple):
    """What each player minimises, as functions of the logits of real and generated images.

    Attributes:
        boundary: the logit above which the discriminator calls an image real; None where logits mean something only
            in comparison, so that the generator's loss looks at real images too or the scale is free.
        logistic: whether the sigmoid of a logit is the discriminator's probability of real.
        relativistic: whether the generator's loss depends on the logits of real images.
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]
    boundary: float | None = 0.0
    logistic: bool = False
    relativistic: bool = False

    def accuracy(self, real: Tensor, fake: Tensor) -> Tensor:
        """Share of right answers for every pair of a real and a generated image: (B,), (B,) -> (B,) in [0, 1]."""
        if self.boundary is None:
            return (real > fake).float()
        return ((real > self.boundary).float() + (fake < self.boundary).float()) / 2


def discriminator_logistic(real: Tensor, fake: Tensor) -> Tensor:
    """L_D = -E[log D(x) + log(1 - D(G(z)))] on logits: sp(-real) + sp(fake) (Goodfellow et al. 2014, algorithm 1).

    The article this project grew from prints L_D without the minus sign, which would make the discriminator worse
    at its task with every step.

    Shapes: logits (B,), (B,) -> (B,), in nats.
    """
    return F.softplus(-real) + F.softplus(fake)


def generator_non_saturating(real: Tensor, fake: Tensor) -> Tensor:
    """L_G = -E[log D(G(z))] on logits: sp(-fake) (Goodfellow et al. 2014, section 3).

    The article sets this equal to E[log(1 - D(G(z)))], the saturating loss of the minimax game: the two share their
    fixed point, not their values nor their gradients, which vanish for the latter where D is confident.

    Shapes: logits (B,), (B,) -> (B,), in nats.
    """
    return F.softplus(-fake)


def generator_saturating(real: Tensor, fake: Tensor) -> Tensor:
    """L_G = E[log(1 - D(G(z)))] on logits: -sp(fake), the minimax game itself (Goodfellow et al. 2014, eq. 1)."""
    return -F.softplus(fake)


def discriminator_hinge(real: Tensor, fake: Tensor) -> Tensor:
    """max(0, 1 - real) + max(0, 1 + fake) (Lim & Ye 2017; Miyato et al. 2018, eq. 16)."""
    return F.relu(1 - real) + F.relu(1 + fake)


def discriminator_least_squares(real: Tensor, fake: Tensor) -> Tensor:
    """((real - 1)^2 + fake^2) / 2 (Mao et al. 2017, eq. 9 with a = 0, b = c = 1)."""
    return ((real - 1).square() + fake.square()) / 2


def generator_least_squares(real: Tensor, fake: Tensor) -> Tensor:
    """(fake - 1)^2 / 2 (Mao et al. 2017, eq. 9)."""
    return (fake - 1).square() / 2


def discriminator_wasserstein(real: Tensor, fake: Tensor) -> Tensor:
    """fake - real: minus the estimate of the Wasserstein distance (Arjovsky et al. 2017, algorithm 1)."""
    return fake - real


def generator_linear(real: Tensor, fake: Tensor) -> Tensor:
    """-fake, the generator's side of the hinge and of the Wasserstein loss."""
    return -fake


def discriminator_relativistic(real: Tensor, fake: Tensor) -> Tensor:
    """sp(-(real - fake)): each real image is paired with one generated image (Huang et al. 2024, eq. 2)."""
    return F.softplus(fake - real)


def generator_relativistic(real: Tensor, fake: Tensor) -> Tensor:
    """sp(-(fake - real)), the same pairs seen from the other side (Huang et al. 2024, eq. 2)."""
    return F.softplus(real - fake)


LOSSES = {
    "non_saturating": Loss(discriminator_logistic, generator_non_saturating, logistic=True),
    "saturating": Loss(discriminator_logistic, generator_saturating, logistic=True),
    "hinge": Loss(discriminator_hinge, generator_linear),
    "least_squares": Loss(discriminator_least_squares, generator_least_squares, boundary=0.5),
    "wasserstein": Loss(discriminator_wasserstein, generator_linear, boundary=None),
    "relativistic": Loss(discriminator_relativistic, generator_relativistic, boundary=None, relativistic=True),
}


def gradient_penalty(logits: Tensor, image: Tensor) -> Tensor:
    """Squared norm of the discriminator's gradient at `image`: R1 at real images, R2 at generated ones.

    Mescheder et al. 2018, eq. 9 and 10, without gamma / 2.

    Shapes: logits (B,) computed from `image` (B, C, H, W), which requires a gradient -> (B,), in fp32.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), image, create_graph=True)
    return gradient.float().square().flatten(1).sum(1)


def wgan_gp(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, u: Tensor) -> Tensor:
    """(||gradient|| - 1)^2 between real and generated images (Gulrajani et al. 2017, eq. 3, without lambda).

    Shapes: real and fake (B, C, H, W), u (B, 1) in [0, 1) places each point between its pair -> (B,).
    """
    between = torch.lerp(real.detach(), fake.detach(), u.view(-1, 1, 1, 1)).requires_grad_(True)
    return (gradient_penalty(critic(between), between).add(1e-12).sqrt() - 1).square()


def feature_matching(made: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Mean absolute difference of what layers of the discriminator see in pairs (Wang et al. 2018, eq. 4): (B,).

    Shapes: for each layer (B, C, H, W) twice; the layers count alike.
    """
    pairs = zip(made, real, strict=True)
    return torch.stack([(a.float() - b.float()).abs().flatten(1).mean(1) for a, b in pairs]).mean(0)


def of_images(value: Tensor) -> Tensor:
    """Mean over the patches of each image: (B, patches) -> (B,); what is of whole images already stays as it is."""
    return value if value.ndim == 1 else value.mean(1)


def path_lengths(image: Tensor, styles: Tensor, y: Tensor) -> Tensor:
    """||J^T y||, J the Jacobian of `image` by `styles` (Karras et al. 2020, eq. 4; norms over w, mean over layers).

    Shapes: image (B, C, H, W) computed from styles (B, layers, S), y ~ N(0, 1) of the image's shape -> (B,).
    """
    height, width = image.shape[2:]
    weighted = (image.float() * y).sum() / (height * width) ** 0.5
    (gradient,) = torch.autograd.grad(weighted, styles, create_graph=True)
    return gradient.float().square().sum(2).mean(1).add(1e-12).sqrt()


def orthogonal_penalty(module: nn.Module) -> Tensor:
    """Sum over convolutions and linear layers of ||W^T W * (1 - I)||_F^2 (Brock et al. 2019, eq. 3, without beta).

    A scalar. Filters are driven to be orthogonal to each other and keep their norms, unlike in the first orthogonal
    penalties. As in BigGAN-PyTorch linear layers count and embeddings of classes do not; the gradient is twice as large
    as there, where it is that of half this sum.
    """
    total = torch.zeros((), device=next(module.parameters()).device)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            transposed = isinstance(layer, nn.ConvTranspose2d)
            filters = (layer.weight.transpose(0, 1) if transposed else layer.weight).flatten(1)
            # ||W W^T|| = ||W^T W||, and the smaller is taken: a layer after z may have 16,000 filters of 20 numbers.
            products = filters @ filters.T if len(filters) <= filters.shape[1] else filters.T @ filters
            total = total + products.square().sum() - filters.square().sum(1).square().sum()
    return total
