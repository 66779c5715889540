"""Deep convolutional GAN (Radford et al. 2016, arXiv 1511.06434), unconditional or class-conditional.

As in the paper: 4x4 strided convolutions, batch norm and ReLU in the generator, leaky ReLU 0.2 in the
discriminator, N(0, 0.02) initialisation. Different: no batch norm in the discriminator, because it mixes the
images of a batch and R1 is a gradient for each image. Class-conditional networks use batch norm with a gain and a
bias for each class in the generator and a projection discriminator (Miyato & Koyama 2018).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..options import DCGAN, ImageFormat, UserError
from . import Networks
from .layers import BatchNorm


def build(options: DCGAN, image: ImageFormat) -> Networks:
    """Generator and discriminator for `image`.

    Raises:
        UserError: the resolution is not 4, 5, 6 or 7 times a power of two, at least 8.
    """
    start, doublings = image.resolution, 0
    while start % 2 == 0 and start > 7:
        start, doublings = start // 2, doublings + 1
    if not 4 <= start <= 7 or not doublings:
        raise UserError(
            f"dcgan cannot make images of {image.resolution}x{image.resolution}: set preprocess.resolution to 4, 5, 6 "
            "or 7 times a power of two, such as 28, 32, 48, 64, 96 or 128"
        )
    classes = len(image.classes) if options.conditional else 0
    return Networks(
        Generator(start, doublings, image.channels, options.latent, options.generator_width, classes),
        Discriminator(start, doublings, image.channels, options.discriminator_width, classes),
    )


class Generator(nn.Module):
    """z (B, latent), label (B,) -> images (B, C, H, W) in [-1, 1], H = W = start * 2 ** doublings."""

    def __init__(self, start: int, doublings: int, channels: int, latent: int, width: int, classes: int = 0) -> None:
        super().__init__()
        self.latent, self.start = latent, start
        widths = [width * 2 ** (doublings - 1 - i) for i in range(doublings)]
        self.project = nn.Linear(latent, widths[0] * start * start, bias=False)
        self.norms = nn.ModuleList(BatchNorm(w, classes) for w in widths)
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(fan_in, fan_out, 4, 2, 1, bias=last)
            for fan_in, fan_out, last in zip(
                widths, [*widths[1:], channels], [i == doublings - 1 for i in range(doublings)], strict=True
            )
        )
        self.apply(_init)

    def forward(self, z: Tensor, label: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        x = self.project(z).view(len(z), -1, self.start, self.start)
        x = x.contiguous(memory_format=torch.channels_last)
        for norm, up in zip(self.norms, self.ups, strict=True):
            x = up(F.relu(norm(x, label)))
        return torch.tanh(x)


class Discriminator(nn.Module):
    """Images (B, C, H, W), label (B,) -> logits (B,), with H = W = start * 2 ** doublings."""

    def __init__(self, start: int, doublings: int, channels: int, width: int, classes: int = 0) -> None:
        super().__init__()
        widths = [channels] + [width * 2**i for i in range(doublings)]
        self.downs = nn.ModuleList(nn.Conv2d(widths[i], widths[i + 1], 4, 2, 1) for i in range(doublings))
        features = widths[-1] * start * start
        self.head = nn.Linear(features, 1)
        self.embedding = nn.Embedding(classes, features) if classes else None
        for down in self.downs:
            nn.init.kaiming_normal_(down.weight, 0.2)
            nn.init.zeros_(down.bias)
        for layer in (self.head, self.embedding):
            if layer is not None:
                nn.init.normal_(layer.weight, 0.0, features**-0.5)
        nn.init.zeros_(self.head.bias)

    def forward(self, image: Tensor, label: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        x = image
        for down in self.downs:
            x = F.leaky_relu(down(x), 0.2)
        features = x.flatten(1)
        # Logits in fp32: a loss sees differences that bf16 rounds away.
        with torch.autocast(x.device.type, enabled=False):
            features = features.float()
            logits: Tensor = self.head(features).squeeze(1)
            if self.embedding is not None and label is not None:
                logits = logits + (self.embedding(label) * features).sum(1)
        return logits


def _init(module: nn.Module) -> None:
    """Weights from N(0, 0.02), biases 0 (section 3 of the paper)."""
    if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.Embedding):
        nn.init.normal_(module.weight, 0.0, 0.02)
    if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:
        nn.init.zeros_(module.bias)
