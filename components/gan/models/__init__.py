"""One file for each network family, and the table that finds it.

A generator is called as `generator(z, label, condition, truncation)` and returns images (B, C, H, W), in [-1, 1] when
it is trained; a discriminator as `discriminator(image, label, condition)` and returns logits (B,). Unconditional
networks ignore `label`, and those that only generate `condition` (the input image of image-to-image tasks).
`truncation` in (0, 1] pulls images towards typical ones, each family in its own way; 1 leaves them as they are.
All that a generator does at random follows from z, so that an image is a function of its latent and label alone.

docs/adding-a-network.md says how to add one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from ..errors import UserError
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


def restored(
    options: NetworkOptions,
    image: ImageFormat,
    weights: Mapping[str, Tensor],
    player: Literal["generator", "discriminator"] = "generator",
) -> nn.Module:
    """The network with the `weights` that it was published with.

    Raises:
        UserError: they are those of another network; told before memory is taken for the one that is described.
    """
    with torch.device("meta"):
        expected = getattr(build(options, image), player).state_dict()
    if {name: t.shape for name, t in expected.items()} != {name: t.shape for name, t in weights.items()}:
        raise UserError(
            f"the weights of the {player} are not those of the {options.name} that is described beside them"
        )
    network: nn.Module = getattr(build(options, image), player)
    network.load_state_dict(weights)
    return network
