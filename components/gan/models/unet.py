"""U-Net (Ronneberger et al. 2015, arXiv 1505.04597) as pix2pix has it (Isola et al. 2017), for any image task.

As in pix2pix: 4x4 strided convolutions down, each resolution joined to its own on the way up. Different: leaky ReLU on
both ways, neither batch norm nor dropout, nearest neighbours and a 3x3 convolution up instead of a transposed one
(Odena et al. 2016), residual blocks at the lowest resolution instead of halving down to one pixel, and it corrects the
task's baseline.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..network_options import UNet
from ..options import ImageFormat
from ..tasks.image_tasks import ImageTask
from .image_to_image import ImageGenerator, PatchDiscriminator, Residual, Tail, start
from .layers import NetworkPair


def build(options: UNet, image: ImageFormat, task: ImageTask) -> NetworkPair:
    """Build generator and discriminator for `image`.

    Raises:
        UserError: the task cannot be done with such images, or they cannot be halved so often.
    """
    generator = Generator(options, image, task)
    generator.check("unet", image)
    return NetworkPair(generator, PatchDiscriminator(options, image, task))


class Generator(ImageGenerator):
    """Conditions (B, K, h, w), sides multiples of 2^halvings -> images (B, C, scale * h, scale * w)."""

    def __init__(self, options: UNet, image: ImageFormat, task: ImageTask) -> None:
        super().__init__(task, image, 2**options.halvings, receptive_field(options.halvings, options.blocks))
        widths = [min(options.width * 2**i, options.max_width) for i in range(options.halvings + 1)]
        self.first = nn.Conv2d(self.seen, widths[0], 3, padding=1)
        self.downs = nn.ModuleList(nn.Conv2d(fine, coarse, 4, 2, 1) for fine, coarse in pairwise(widths))
        self.middle = nn.Sequential(*(Residual(widths[-1]) for _ in range(options.blocks)))
        self.ups = nn.ModuleList(
            nn.Conv2d(coarse + fine, fine, 3, padding=1) for coarse, fine in pairwise(reversed(widths))
        )
        self.tail = Tail(widths[0], task.corrected(image.channels), task.scale)
        for conv in (self.first, *self.downs, *self.ups):
            assert isinstance(conv, nn.Conv2d)
            start(conv)

    def correction(self, seen: Tensor) -> Tensor:
        skips = [F.leaky_relu(self.first(seen), 0.2)]
        for down in self.downs:
            skips.append(F.leaky_relu(down(skips[-1]), 0.2))
        x = self.middle(skips.pop())
        for up in self.ups:
            # Leaky here too: with the last layer at 0 the first steps are so rough that every ReLU before it died.
            x = F.leaky_relu(up(torch.cat((F.interpolate(x, scale_factor=2, mode="nearest"), skips.pop()), 1)), 0.2)
        corrected: Tensor = self.tail(x)
        return corrected


def receptive_field(halvings: int, blocks: int) -> int:
    """Return how far the pixels may be that one depends on: the farthest of those of all its places in a multiple.

    Followed back along the longest way, through the lowest resolution.
    """
    farthest = 0
    for place in range(2**halvings):
        # The last convolution.
        low, high = place - 1, place + 1
        for _ in range(halvings):
            low, high = (low - 1) // 2, (high + 1) // 2
        low, high = low - 2 * blocks, high + 2 * blocks
        for _ in range(halvings):
            low, high = 2 * low - 1, 2 * high + 2
        # And the first one.
        farthest = max(farthest, place - low + 1, high + 1 - place)
    return farthest
