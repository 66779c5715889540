"""Multi-layer perceptrons, as in the first GAN (Goodfellow et al. 2014)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..inputs import Inputs
from ..network_options import MLP
from ..options import ImageFormat
from . import layers
from .layers import NetworkPair


def build(options: MLP, image: ImageFormat) -> NetworkPair:
    """Build generator and discriminator for `image`: by default the article's, 100-128-64-784 and 784-128-1."""
    classes = len(image.classes) if options.conditional and image.labelled else 0
    shape = (image.channels, image.height, image.width)
    return NetworkPair(
        Generator(shape, options.latent, options.generator_widths, classes),
        Discriminator(shape, options.discriminator_widths, classes),
    )


def _layers(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers of these widths with ReLU between them."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Generator(layers.Generator):
    """z (B, latent), label (B,) -> images (B, C, H, W) in [-1, 1]."""

    def __init__(self, shape: tuple[int, int, int], latent: int, widths: Sequence[int], classes: int = 0) -> None:
        super().__init__()
        self.shape, self.latent, self.classes = shape, latent, classes
        pixels = shape[0] * shape[1] * shape[2]
        self.layers = _layers([latent + classes, *widths, pixels])

    def forward(self, inputs: Inputs, truncation: float = 1.0) -> Tensor:
        z = _with_class(inputs.z * truncation, inputs.label, self.classes)
        return torch.tanh(self.layers(z)).view(-1, *self.shape)

    def latent_weights(self) -> Tensor:
        return next(self.layers.parameters())[:, : self.latent]


class Discriminator(nn.Module):
    """Images (B, C, H, W), label (B,) -> logits (B,). The sigmoid belongs to the loss."""

    def __init__(self, shape: tuple[int, int, int], widths: Sequence[int], classes: int = 0) -> None:
        super().__init__()
        self.classes = classes
        pixels = shape[0] * shape[1] * shape[2]
        self.layers = _layers([pixels + classes, *widths, 1])

    def forward(self, image: Tensor, inputs: Inputs) -> Tensor:
        logits: Tensor = self.layers(_with_class(image.flatten(1), inputs.label, self.classes))
        return logits.squeeze(1)


def _with_class(x: Tensor, label: Tensor, classes: int) -> Tensor:
    """`x` with the one-hot class appended (Mirza & Osindero 2014)."""
    if not classes:
        return x
    return torch.cat((x, F.one_hot(label, classes).to(x.dtype)), dim=1)
