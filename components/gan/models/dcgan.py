"""Deep convolutional GAN (Radford et al. 2016, arXiv 1511.06434), unconditional or class-conditional.

As in the paper: 4x4 strided convolutions, batch norm and ReLU in the generator, leaky ReLU 0.2 in the
discriminator, N(0, 0.02) initialisation of the generator. Different:

- No batch norm in the discriminator, because it mixes the images of a batch and R1 is a gradient for each image.
  It would also have kept the signal's scale, so the discriminator starts from He et al. 2015 (arXiv 1502.01852).
- The generator starts at 4x4 to 7x7 by a linear layer, which is the paper's first convolution on a 1x1 image.
- Classes: the generator gets an embedding of the class beside z, as in BigGAN (Brock et al. 2019, arXiv
  1809.11096), because gains and biases of batch norm for each class (Dumoulin et al. 2017, arXiv 1610.07629) start
  equal for all classes and tell them apart only late. The discriminator adds a projection of the class
  (Miyato & Koyama 2018, arXiv 1802.05637).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..options import DCGAN, ImageFormat, UserError
from . import Networks
from .layers import BatchNorm

CLASS_EMBEDDING = 32


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
        self.embedding = nn.Embedding(classes, CLASS_EMBEDDING) if classes else None
        fan_in = latent + (CLASS_EMBEDDING if classes else 0)
        self.project = nn.Linear(fan_in, start * start * widths[0], bias=False)
        self.norms = nn.ModuleList(BatchNorm(w, classes) for w in widths)
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(fan_in, fan_out, 4, 2, 1, bias=last)
            for fan_in, fan_out, last in zip(
                widths, [*widths[1:], channels], [i == doublings - 1 for i in range(doublings)], strict=True
            )
        )
        self.apply(_init)
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight)  # on the scale of z

    def forward(self, z: Tensor, label: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        if self.embedding is not None and label is not None:
            z = torch.cat((z, self.embedding(label)), dim=1)
        # Channels are the last axis of the product, so that x is in the channels-last format without a copy.
        x = self.project(z).view(len(z), self.start, self.start, -1).permute(0, 3, 1, 2)
        for norm, up in zip(self.norms, self.ups, strict=True):
            x = up(F.relu(norm(x, label)))
        return torch.tanh(x)


class Discriminator(nn.Module):
    """Images (B, C, H, W), label (B,) -> logits (B,), with H = W = start * 2 ** doublings."""

    def __init__(self, start: int, doublings: int, channels: int, width: int, classes: int = 0) -> None:
        super().__init__()
        widths = [channels] + [width * 2**i for i in range(doublings)]
        self.downs = nn.ModuleList(nn.Conv2d(widths[i], widths[i + 1], 4, 2, 1) for i in range(doublings))
        features = start * start * widths[-1]
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
        features = x.permute(0, 2, 3, 1).flatten(1)  # no copy of a channels-last x
        # Logits in fp32: a loss sees differences that bf16 rounds away.
        with torch.autocast(x.device.type, enabled=False):
            features = features.float()
            if self.embedding is None or label is None:
                return self.head(features).squeeze(1)
            # (head + embedding(label)) . features for all classes in one product: a few columns cost less than
            # a gathered embedding (B, features).
            logits = F.linear(features, self.head.weight + self.embedding.weight, self.head.bias.expand(len(self.embedding.weight)))
            return logits.gather(1, label[:, None]).squeeze(1)


def _init(module: nn.Module) -> None:
    """Weights from N(0, 0.02), biases 0 (section 3 of the paper)."""
    if isinstance(module, nn.Linear | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
