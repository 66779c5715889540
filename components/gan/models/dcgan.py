"""Deep convolutional GAN (Radford et al. 2016, arXiv 1511.06434), unconditional or class-conditional.

As in the paper: 4x4 strided convolutions, batch norm and ReLU in the generator, leaky ReLU 0.2 in the
discriminator, N(0, 0.02) initialisation of the generator. Different:

- No batch norm in the discriminator, because it mixes the images of a batch and R1 is a gradient for each image.
  Without it the signal would fade under N(0, 0.02), so weights start as in He et al. 2015 (arXiv 1502.01852).
- The generator starts at 4x4 to 7x7 with a linear layer, the paper's first convolution on a 1x1 image.
- The generator gets an embedding of the class beside z (Mirza & Osindero 2014, arXiv 1411.1784; as an embedding:
  Brock et al. 2019, arXiv 1809.11096). Batch norm with a gain for each class added nothing to it.
- The discriminator has one logit for each class and uses that of the image's label, which is the projection
  <w + v_y, features> of Miyato & Koyama 2018 (arXiv 1802.05637) with the sum learned as one vector.
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..inputs import Inputs
from ..network_options import DCGAN
from ..options import ImageFormat
from . import layers
from .layers import BatchNorm, NetworkPair, pyramid

CLASS_EMBEDDING = 32


def build(options: DCGAN, image: ImageFormat) -> NetworkPair:
    """Build generator and discriminator for `image`.

    Raises:
        UserError: the image's size is not one that doubling leads to.
    """
    start, doublings = pyramid("dcgan", image)
    classes = len(image.classes) if options.conditional and image.labelled else 0
    return NetworkPair(
        Generator(start, doublings, image.channels, options.latent, options.generator_width, classes),
        Discriminator(start, doublings, image.channels, options.discriminator_width, classes),
    )


class Generator(layers.Generator):
    """z (B, latent), label (B,) -> images (B, C, H, W) in [-1, 1], (H, W) = start * 2 ** doublings."""

    def __init__(
        self, start: tuple[int, int], doublings: int, channels: int, latent: int, width: int, classes: int = 0
    ) -> None:
        super().__init__()
        self.latent, self.start = latent, start
        widths = [width * 2 ** (doublings - 1 - i) for i in range(doublings)]
        self.embedding = nn.Embedding(classes, CLASS_EMBEDDING) if classes else None
        inputs = latent + (CLASS_EMBEDDING if classes else 0)
        self.project = nn.Linear(inputs, start[0] * start[1] * widths[0], bias=False)
        self.norms = nn.ModuleList(BatchNorm(w) for w in widths)
        hidden = [nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False) for a, b in pairwise(widths)]
        last = nn.ConvTranspose2d(width, channels, 4, 2, 1)
        self.ups = nn.ModuleList([*hidden, last])
        for weight in (self.project.weight, *(up.weight for up in hidden), last.weight):
            nn.init.normal_(weight, 0.0, 0.02)
        nn.init.zeros_(cast(Tensor, last.bias))

    def forward(self, inputs: Inputs, truncation: float = 1.0) -> Tensor:
        z = inputs.z * truncation
        if self.embedding is not None:
            z = torch.cat((z, self.embedding(inputs.label)), dim=1)
        # Channels are the last axis of the product, so that x is in the channels-last format without a copy.
        x = self.project(z).view(len(z), *self.start, -1).permute(0, 3, 1, 2)
        for norm, up in zip(self.norms, self.ups, strict=True):
            x = up(F.relu(norm(x)))
        return torch.tanh(x)

    def latent_weights(self) -> Tensor:
        return self.project.weight[:, : self.latent]


class Discriminator(nn.Module):
    """Images (B, C, H, W), label (B,) -> logits (B,), with (H, W) = start * 2 ** doublings.

    Strided convolutions double the channels down to half of `start`, one more than the generator has.
    """

    def __init__(self, start: tuple[int, int], doublings: int, channels: int, width: int, classes: int = 0) -> None:
        super().__init__()
        self.classes = classes
        widths = [channels, *(width * 2**i for i in range(doublings + 1))]
        downs = [nn.Conv2d(fan_in, fan_out, 4, 2, 1) for fan_in, fan_out in pairwise(widths)]
        self.downs = nn.ModuleList(downs)
        features = widths[-1] * (start[0] // 2) * (start[1] // 2)
        self.head = nn.Linear(features, max(classes, 1))
        for down in downs:
            nn.init.kaiming_normal_(down.weight, 0.2)
            nn.init.zeros_(cast(Tensor, down.bias))
        nn.init.normal_(self.head.weight, 0.0, features**-0.5)
        nn.init.zeros_(self.head.bias)

    def forward(self, image: Tensor, inputs: Inputs) -> Tensor:
        x = image
        for down in self.downs:
            x = F.leaky_relu(down(x), 0.2)
        features = x.permute(0, 2, 3, 1).flatten(1)  # not a copy: x is in the channels-last format
        # Logits in fp32: a loss sees differences that bf16 rounds away.
        with torch.autocast(x.device.type, enabled=False):
            logits: Tensor = self.head(features.float())
        if self.classes:
            return logits.gather(1, inputs.label[:, None]).squeeze(1)
        return logits.squeeze(1)
