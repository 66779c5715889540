"""How far images look from their originals: by what the layers of a feature net see in both.

The net is that which judges the data set, which no loss of a training has used.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..gan.dataset import Pixels, to_signed
from .features import AnyNet, Classifier, EfficientNetLite0
from .transparency import over_grey

# Pixels that the shorter side has at least: below them the net's kernels are larger than what they are laid on.
_LEAST = 64
# Blocks of EfficientNet-Lite0 after which the resolution is halved, and one before the last.
_BLOCKS = (0, 2, 4, 10, 14)


@torch.inference_mode()
def perceptual_distance(net: AnyNet, made: Pixels, originals: Pixels, batch: int = 100) -> npt.NDArray[np.float64]:
    """Return the distance of each image (N, H, W, C) to its original: (N,).

    For each layer the squared distance of its features at each place, as vectors of length 1 over the channels,
    averaged over the places; summed over the layers (as Zhang et al. 2018, eq. 1, without learned weights).
    """
    found = []
    for start in range(0, len(made), batch):
        pairs = (to_signed(torch.from_numpy(np.ascontiguousarray(p[start : start + batch]))) for p in (made, originals))
        layers = zip(*(layers_of(net, image) for image in pairs), strict=True)
        found.append(torch.stack([_unit(a).sub(_unit(b)).square().sum(1).mean((1, 2)) for a, b in layers]).sum(0))
    return np.asarray(torch.cat(found).double().numpy())


def layers_of(net: AnyNet, image: Tensor) -> list[Tensor]:
    """Features (B, C, h, w) that layers of `net` see in images (B, C, H, W) in [-1, 1], the finest first."""
    match net:
        case Classifier():
            first = F.relu(net.conv1((image + 1) / 2))
            return [first, F.relu(net.conv2(F.max_pool2d(first, 2)))]
        case EfficientNetLite0():
            factor = -(-_LEAST // min(image.shape[2:]))
            if factor > 1:
                image = F.interpolate(image, scale_factor=factor, mode="bicubic").clamp(-1, 1)
            return _efficientnet_layers(net.net, _rgb(image))
    raise TypeError(f"{type(net).__name__} shows no layers")


def _efficientnet_layers(net: Any, image: Tensor) -> list[Tensor]:
    seen: list[Tensor] = []

    def see(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        seen.append(output)

    hooks = [net._blocks[place].register_forward_hook(see) for place in _BLOCKS]
    try:
        # The net was trained on (value - 127) / 128.
        net.extract_features(((image + 1) * 127.5 - 127) / 128)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _rgb(image: Tensor) -> Tensor:
    """Three channels of an image of any number; transparency is laid on grey."""
    image = over_grey(image)
    return image[:, :3] if image.shape[1] >= 3 else image[:, :1].expand(-1, 3, -1, -1)


def _unit(features: Tensor) -> Tensor:
    """Each place's features (B, C, h, w) as a vector of length 1; of length 0 where there are none."""
    return features / features.square().sum(1, keepdim=True).add(1e-10).sqrt()
