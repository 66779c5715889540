"""One file for each network family, and the table that finds it.

A generator is called as `generator(z, label, condition, truncation)` and returns images (B, C, H, W), in [-1, 1] when
it is trained; a discriminator as `discriminator(image, label, condition)` and returns logits (B,). Unconditional
networks ignore `label`, and those that only generate `condition` (the input image of image-to-image tasks).
`truncation` in (0, 1] pulls images towards typical ones, each family in its own way; 1 leaves them as they are.
All that a generator does at random follows from z, so that an image is a function of its latent and label alone.

docs/adding-a-network.md says how to add one.
"""

from __future__ import annotations

from ..options import DCGAN, MLP, R3GAN, BigGAN, ImageFormat, NetworkOptions, StyleGAN2
from . import biggan, dcgan, mlp, r3gan, stylegan2
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
        case BigGAN():
            return biggan.build(options, image)
        case StyleGAN2():
            return stylegan2.build(options, image)
        case R3GAN():
            return r3gan.build(options, image)
