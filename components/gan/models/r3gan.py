"""R3GAN (Huang et al. 2024, arXiv 2501.05441): grouped-convolution residual networks and nothing else.

As in the paper (section 4, figure 4): no normalisation, no mapping network, no noise, no minibatch statistics; the
generator and the discriminator mirror each other, stage by stage; fix-up-like initialisation keeps the sum of many
residual blocks in range (Zhang et al. 2019, arXiv 1901.09321). Made for the relativistic loss with R1 and R2 at every
step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..inputs import Inputs
from ..network_options import R3GAN
from ..options import ImageFormat
from . import layers
from .layers import Downsample, NetworkPair, Pyramid, pyramid, upsample
from .second_order import Conv2d, leaky_relu

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)

SLOPE = 0.2


def build(options: R3GAN, image: ImageFormat) -> NetworkPair:
    """Build generator and discriminator for `image`.

    Raises:
        UserError: the image's size is not one that doubling leads to, or channels do not divide into groups.
    """
    scales = pyramid("r3gan", image)
    classes = len(image.classes) if options.conditional and image.labelled else 0
    widths = stage_widths(options, scales.sides)
    if any(width * options.expansion % options.group or not width for width in widths):
        raise UserError(
            f"train.network.width = {options.width} gives stages of {', '.join(map(str, widths))} channels, which "
            f"times train.network.expansion do not all divide into groups of {options.group}"
        )
    return NetworkPair(
        Generator(options, scales, widths, image.channels, classes),
        Discriminator(options, scales, widths, image.channels, classes),
    )


def stage_widths(options: R3GAN, sides: Sequence[int]) -> list[int]:
    """Return the channels of each stage by its short side: halved at each side above `full_width_to`.

    Halves are rounded to what divides into groups, and are at least that much.
    """
    if options.halving == "by_side":
        return [options.width // max(1, side // options.full_width_to) for side in sides]
    unit = options.group // math.gcd(options.group, options.expansion)
    widths, width = [], float(options.width)
    for side in sides:
        if side > options.full_width_to:
            width /= 2
        whole = max(unit, math.floor(width / unit + 0.5) * unit)
        widths.append(whole if width < options.width else options.width)
    return widths


class Generator(layers.Generator):
    """z (B, latent), label (B,) -> images (B, C, H, W), trained towards [-1, 1]."""

    def __init__(self, options: R3GAN, scales: Pyramid, widths: list[int], channels: int, classes: int) -> None:
        super().__init__()
        self.latent = options.latent
        self.embedding = _embedding(options, classes, classes**-0.5) if classes else None
        self.basis = nn.Parameter(torch.randn(widths[0], *scales.start))
        inputs = options.latent + (options.embedding if classes else 0)
        self.coefficients = _initialised(nn.Linear(inputs, widths[0], bias=False))
        self.transitions = nn.ModuleList(_transition(a, b) for a, b in pairwise(widths))
        self.stages = nn.ModuleList(_stage(options, width, len(widths)) for width in widths)
        self.to_image = _initialised(Conv2d(widths[-1], channels, 1))

    def forward(self, inputs: Inputs, truncation: float = 1.0) -> Tensor:
        z = inputs.z * truncation
        if self.embedding is not None:
            z = torch.cat((z, self.embedding(inputs.label)), dim=1)
        x = self.coefficients(z)[:, :, None, None] * self.basis
        x = self.stages[0](x.to(memory_format=torch.channels_last))
        for transition, stage in zip(self.transitions, self.stages[1:], strict=True):
            x = stage(upsample(transition(x)))
        image: Tensor = self.to_image(x)
        return image

    def latent_weights(self) -> Tensor:
        return self.coefficients.weight[:, : self.latent]


class Discriminator(nn.Module):
    """Images (B, C, H, W), label (B,) -> logits (B,)."""

    def __init__(self, options: R3GAN, scales: Pyramid, widths: list[int], channels: int, classes: int) -> None:
        super().__init__()
        widths = widths[::-1]
        self.from_image = _initialised(Conv2d(channels, widths[0], 1))
        self.stages = nn.ModuleList(_stage(options, width, len(widths)) for width in widths)
        self.transitions = nn.ModuleList(_transition(a, b) for a, b in pairwise(widths))
        self.downsample = Downsample()
        self.basis = _initialised(Conv2d(widths[-1], widths[-1], scales.start, groups=widths[-1], bias=False))
        # Projection (Miyato & Koyama 2018), scaled like a product of two unit vectors: here or in the embedding itself.
        self.embedding = _embedding(options, classes, (classes * options.embedding) ** -0.5) if classes else None
        self.length = options.embedding**0.5 if options.embedding_start == "unit" else 1.0
        self.head = _initialised(nn.Linear(widths[-1], options.embedding if classes else 1, bias=False))

    def forward(self, image: Tensor, inputs: Inputs) -> Tensor:
        x = self.stages[0](self.from_image(image))
        for transition, stage in zip(self.transitions, self.stages[1:], strict=True):
            x = stage(transition(self.downsample(x)))
        # Logits in fp32: a loss sees differences that bf16 rounds away.
        with torch.autocast(x.device.type, enabled=False):
            features: Tensor = self.head(self.basis(x.float()).flatten(1))
            if self.embedding is not None:
                return (features * self.embedding(inputs.label)).sum(1) / self.length
        return features.squeeze(1)


class ResidualBlock(nn.Module):
    """x + 1x1(lrelu(grouped 3x3(lrelu(1x1(x))))), wider inside (figure 4). Shapes: (B, C, H, W) -> the same."""

    def __init__(self, options: R3GAN, width: int, blocks: int) -> None:
        super().__init__()
        wide = width * options.expansion
        # `blocks` of the whole network: exponent -1 / (2m - 2) for m = 3 layers; the last layer starts at zero.
        gain = (2 / (1 + SLOPE**2)) ** 0.5 * blocks**-0.25
        self.expand = _initialised(Conv2d(width, wide, 1), gain)
        self.grouped = _initialised(Conv2d(wide, wide, 3, padding=1, groups=wide // options.group), gain)
        self.contract = _initialised(Conv2d(wide, width, 1, bias=False), 0.0)

    def forward(self, x: Tensor) -> Tensor:
        h = leaky_relu(self.expand(x), SLOPE)
        h = leaky_relu(self.grouped(h), SLOPE)
        return x + self.contract(h)


def _embedding(options: R3GAN, classes: int, released: float) -> nn.Embedding:
    """Return class embeddings that are N(0, 1), or have the deviation of the `released` code."""
    embedding = nn.Embedding(classes, options.embedding)
    if options.embedding_start == "released":
        nn.init.normal_(embedding.weight, 0.0, released)
    return embedding


def _stage(options: R3GAN, width: int, stages: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(options, width, options.blocks * stages) for _ in range(options.blocks)))


def _transition(fan_in: int, fan_out: int) -> nn.Module:
    """1x1 where the width changes; between two stages of one width there is only resampling."""
    return nn.Identity() if fan_in == fan_out else _initialised(Conv2d(fan_in, fan_out, 1, bias=False))


def _initialised(layer: Layer, gain: float = 1.0) -> Layer:
    """Weights N(0, gain^2 / fan_in), biases 0."""
    nn.init.normal_(layer.weight, 0.0, gain / layer.weight[0].numel() ** 0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
