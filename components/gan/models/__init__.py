"""One file for each network family, named as its options are.

A generator is called as `generator(inputs, truncation)` and returns images (B, C, H, W), in [-1, 1] when it is trained;
a discriminator as `discriminator(image, inputs)` and returns logits (B,), or (B, patches) where it looks at patches. Of
the inputs each takes what it needs: unconditional networks ignore the label, those that only generate the condition,
and a discriminator the latent. Networks for image tasks take the condition alone, see `image_to_image.py`.
`truncation` in (0, 1] pulls images towards typical ones, each family in its own way; 1 leaves them as they are.
All that a generator does at random follows from z, so that an image is a function of its inputs alone.

docs/adding-a-network.md says how to add one.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Literal, overload

import torch
from torch import Tensor, nn

from ..errors import DamagedError
from ..network_options import NetworkOptions
from ..options import GENERATE, ImageFormat, TaskOptions
from ..tasks.image_tasks import task_of
from .layers import Generator, NetworkPair


def build(options: NetworkOptions, image: ImageFormat, task: TaskOptions = GENERATE) -> NetworkPair:
    """Build generator and discriminator for `image`, which `task` makes.

    Raises:
        UserError: the networks cannot make such images.
    """
    family, made_from = import_module(f".{options.name}", __name__), task_of(task)
    pair: NetworkPair = family.build(options, image, *([] if made_from is None else [made_from]))
    return pair


@overload
def restored(
    options: NetworkOptions,
    image: ImageFormat,
    weights: Mapping[str, Tensor],
    player: Literal["generator"] = ...,
    task: TaskOptions = ...,
) -> Generator: ...


@overload
def restored(
    options: NetworkOptions,
    image: ImageFormat,
    weights: Mapping[str, Tensor],
    player: Literal["discriminator"],
    task: TaskOptions = ...,
) -> nn.Module: ...


def restored(
    options: NetworkOptions,
    image: ImageFormat,
    weights: Mapping[str, Tensor],
    player: Literal["generator", "discriminator"] = "generator",
    task: TaskOptions = GENERATE,
) -> nn.Module:
    """Return the network with the `weights` that it was published with.

    Raises:
        UserError: they are those of another network; told before memory is taken for the one that is described.
    """
    with torch.device("meta"):
        expected = getattr(build(options, image, task), player).state_dict()
    if {name: t.shape for name, t in expected.items()} != {name: t.shape for name, t in weights.items()}:
        raise DamagedError(
            f"the weights of the {player} are not those of the {options.name} that is described beside them"
        )
    network: nn.Module = getattr(build(options, image, task), player)
    network.load_state_dict(weights)
    return network
