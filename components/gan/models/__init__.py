"""One file for each network family, and the table that finds it.

A generator is called as `generator(z, label, condition)` and returns images in [-1, 1], a discriminator as
`discriminator(image, label, condition)` and returns logits. `label` is ignored by unconditional networks and
`condition` (the input image of image-to-image tasks) by those that only generate.
"""

from __future__ import annotations

from ..options import DCGAN, MLP, ImageFormat, NetworkOptions
from . import dcgan, mlp
from .layers import Networks


def build(options: NetworkOptions, image: ImageFormat) -> Networks:
    """Generator and discriminator for `image`.

    Raises:
        UserError: the networks cannot make such images.
    """
    match options:
        case MLP():
            return mlp.build(options, image)
        case DCGAN():
            return dcgan.build(options, image)
