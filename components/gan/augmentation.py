"""Differentiable augmentation of real and generated images (DiffAugment, Zhao et al. 2020, arXiv 2006.10738).

All randomness comes in as uniform numbers, so that it is a function of the step and not of the process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .options import Policy


def color(image: Tensor, u: Tensor) -> Tensor:
    """Brightness +-0.5, saturation x[0, 2], contrast x[0.5, 1.5], in units of the range [-1, 1]; of RGBA the RGB."""
    if image.shape[1] == 4:
        return torch.cat((color(image[:, :3], u), image[:, 3:]), 1)
    brightness, saturation, contrast = (u[:, i].view(-1, 1, 1, 1) for i in range(3))
    image = image + (brightness - 0.5)
    grey = image.mean(1, keepdim=True)
    image = (image - grey) * (saturation * 2) + grey
    mean = image.mean((1, 2, 3), keepdim=True)
    return (image - mean) * (contrast + 0.5) + mean


def translation(image: Tensor, u: Tensor) -> Tensor:
    """Shift by up to 1/8 of the size along each axis; what comes in is 0 (mid-grey)."""
    height, width = image.shape[2:]
    rows = _shifted(u[:, 0], height)[:, :, None]
    columns = _shifted(u[:, 1], width)[:, None, :]
    inside = ((rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)).unsqueeze(1)
    index = (rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)).flatten(1)
    moved = image.flatten(2).gather(2, index.unsqueeze(1).expand(-1, image.shape[1], -1)).view_as(image)
    return moved * inside.to(image.dtype)


def cutout(image: Tensor, u: Tensor) -> Tensor:
    """Set a square of half the size, centred anywhere, to 0 (mid-grey)."""
    rows, columns = (_cut(u[:, axis], size) for axis, size in enumerate(image.shape[2:]))
    hole = (rows[:, :, None] & columns[:, None, :]).unsqueeze(1)
    return image * (~hole).to(image.dtype)


def _cut(u: Tensor, size: int) -> Tensor:
    """Which pixels (B, size) lie in a stretch of half of them, rounded up, whose middle is one of them or an end."""
    half = (size + 1) // 2
    # An even stretch has its middle between two pixels, of which there is one place more.
    first = (u * (size + 1 - half % 2)).long() - half // 2
    place = torch.arange(size, device=u.device)[None, :] - first[:, None]
    return (place >= 0) & (place < half)


def _shifted(u: Tensor, size: int) -> Tensor:
    """Source coordinates (B, size) for a shift by up to an eighth of them, rounded, either way."""
    reach = (size + 4) // 8
    shift = (u * (2 * reach + 1)).long() - reach
    return torch.arange(size, device=u.device)[None, :] + shift[:, None]


POLICIES: dict[Policy, Callable[[Tensor, Tensor], Tensor]] = {
    "color": color,
    "translation": translation,
    "cutout": cutout,
}
UNIFORMS = 3 * len(POLICIES)
MOVING: tuple[Policy, ...] = ("translation", "cutout")


def augment(image: Tensor, u: Tensor, policies: Sequence[Policy]) -> Tensor:
    """`image` (B, C, H, W) in [-1, 1] under `policies`, in their order, by uniform numbers `u` (B, UNIFORMS)."""
    for policy in policies:
        first = 3 * list(POLICIES).index(policy)
        image = POLICIES[policy](image, u[:, first : first + 3])
    return image


def moving(policies: Sequence[Policy]) -> list[Policy]:
    """Those of `policies` that move or cut images, and so also what is seen beside them."""
    return [policy for policy in policies if policy in MOVING]
