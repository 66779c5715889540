"""How transparent images are looked at: over grey, on which neither a white nor a black figure is lost."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ..gan.dataset import Pixels


def over_grey(image: Tensor) -> Tensor:
    """RGBA images (B, 4, H, W) in [-1, 1], whose middle is grey, as RGB (B, 3, H, W); others as they are."""
    if image.shape[1] != 4:
        return image
    return image[:, :3] * ((image[:, 3:] + 1) / 2)


def pixels_over_grey(pixels: Pixels) -> Pixels:
    """RGBA pixels (N, H, W, 4) as RGB (N, H, W, 3), rounded; others as they are."""
    if pixels.shape[3] != 4:
        return pixels
    colours, alpha = pixels[..., :3].astype(np.float32), pixels[..., 3:].astype(np.float32) / 255
    return np.asarray(np.rint(colours * alpha + 127.5 * (1 - alpha)).astype(np.uint8))
