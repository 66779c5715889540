"""EDSR (Lim et al. 2017, arXiv 1707.02921): residual blocks at the resolution of the condition, for any image task.

As in the paper: no batch norm, a skip over all blocks, sub-pixels at the end. Different: it corrects the task's
baseline, its last convolution makes the sub-pixels themselves, and it is narrower and shallower by default.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..network_options import EDSR
from ..options import ImageFormat
from ..tasks.image_tasks import ImageTask
from .image_to_image import ImageGenerator, PatchDiscriminator, Residual, Tail, start
from .layers import NetworkPair


def build(options: EDSR, image: ImageFormat, task: ImageTask) -> NetworkPair:
    """Build generator and discriminator for `image`.

    Raises:
        UserError: the task cannot be done with such images.
    """
    generator = Generator(options, image, task)
    generator.check("edsr", image)
    return NetworkPair(generator, PatchDiscriminator(options, image, task))


class Generator(ImageGenerator):
    """Conditions (B, K, h, w) of any size -> images (B, C, scale * h, scale * w)."""

    def __init__(self, options: EDSR, image: ImageFormat, task: ImageTask) -> None:
        # Convolutions of 3x3: one before the blocks, two in each, one after them, and one at the end.
        super().__init__(task, image, multiple=1, receptive_field=3 + 2 * options.blocks)
        width = options.width
        self.first, self.last = (nn.Conv2d(n, width, 3, padding=1) for n in (self.seen, width))
        self.blocks = nn.Sequential(*(Residual(width) for _ in range(options.blocks)))
        self.tail = Tail(width, task.corrected(image.channels), task.scale)
        start(self.first)
        start(self.last, 0.1)

    def correction(self, seen: Tensor) -> Tensor:
        x = self.first(seen)
        corrected: Tensor = self.tail(x + self.last(self.blocks(x)))
        return corrected
