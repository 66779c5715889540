"""Holes in images: where they are, by uniform numbers, and what a person would fill them with at first."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .options import HoleKind

# Shapes that a hole is made of, at most. Of each: whether it is there, its kind, two points, a width, and a side.
_SHAPES = 5
_NUMBERS_EACH = 8
NUMBERS = 1 + _SHAPES * _NUMBERS_EACH
# Steps in which a fill is evened out at every resolution.
_EVENING = 4


def holes(u: Tensor, height: int, width: int, share: tuple[float, float], kinds: Sequence[HoleKind]) -> Tensor:
    """Return where the holes of images are, (B, 1, height, width), 1 within, by uniform numbers u (B, NUMBERS).

    A hole is made of shapes of some `kinds`, which are grown or shrunk until it takes its part of the pixels: one drawn
    evenly from `share`, but for pixels that lie equally deep.
    """
    short = min(height, width)
    y = ((torch.arange(height, device=u.device, dtype=u.dtype) + 0.5) / short).view(1, -1, 1)
    x = ((torch.arange(width, device=u.device, dtype=u.dtype) + 0.5) / short).view(1, 1, -1)
    tall, wide = height / short, width / short
    depth: Tensor | None = None
    for number in range(_SHAPES):
        first = 1 + number * _NUMBERS_EACH
        there, kind, *rest = (n.view(-1, 1, 1) for n in u[:, first : first + _NUMBERS_EACH].unbind(1))
        outside = _distance(x, y, wide, tall, kind, rest, kinds)
        # The first is always there, each further one in half of the cases.
        depth = outside if depth is None else torch.where(there < 0.5, torch.minimum(depth, outside), depth)
    assert depth is not None
    count = (share[0] + u[:, 0] * (share[1] - share[0])) * (height * width)
    index = count.round().long().clamp(1, height * width - 1) - 1
    limit = depth.flatten(1).sort(1).values.gather(1, index.view(-1, 1))
    return (depth <= limit.view(-1, 1, 1)).to(u.dtype).unsqueeze(1)


def _distance(
    x: Tensor, y: Tensor, wide: float, tall: float, kind: Tensor, u: Sequence[Tensor], kinds: Sequence[HoleKind]
) -> Tensor:
    """How far each pixel is outside of a shape of each image, (B, H, W), in short sides; below 0 within it."""
    x1, y1, x2, y2, size, side = u
    names = sorted(set(kinds))
    found: Tensor | None = None
    for place, name in enumerate(names):
        if name == "strokes":
            shape = _from_line(x - x1 * wide, y - y1 * tall, (x2 - x1) * wide, (y2 - y1) * tall) - (0.02 + 0.08 * size)
        elif name == "boxes":
            shape = torch.maximum((x - x1 * wide).abs() - 0.05 - 0.3 * x2, (y - y1 * tall).abs() - 0.05 - 0.3 * y2)
        else:
            from_side = (x + 0 * y, wide - x + 0 * y, y + 0 * x, tall - y + 0 * x)
            shape = torch.zeros_like(found) if found is not None else torch.zeros_like(side * x * y)
            for which, distance in enumerate(from_side):
                shape = torch.where((4 * side).floor() == which, distance - 0.05 - 0.2 * size, shape)
        found = shape if found is None else torch.where((kind * len(names)).floor() == place, shape, found)
    assert found is not None
    return found


def _from_line(x: Tensor, y: Tensor, dx: Tensor, dy: Tensor) -> Tensor:
    """Distance of the points (x, y) from the line between the origin and (dx, dy)."""
    along = ((x * dx + y * dy) / (dx * dx + dy * dy).clamp(min=1e-12)).clamp(0, 1)
    return ((x - along * dx).square() + (y - along * dy).square()).sqrt()


def filled(image: Tensor, hole: Tensor) -> Tensor:
    """Return `image` (B, C, H, W) with what is smoothest where `hole` (B, 1, H, W) is 1; of nothing known mid-grey.

    By pulling means of what is known up to ever lower resolutions, and pushing them down again to where nothing is
    (Gortler et al. 1996, "The lumigraph", section 3.4), where they are evened out. What was within the hole is not
    looked at.
    """
    return _filled(torch.where(hole > 0, 0.0, image), (hole <= 0).to(image.dtype))


def _filled(image: Tensor, known: Tensor) -> Tensor:
    height, width = image.shape[2:]
    if max(height, width) == 1:
        return image
    weight = _halved(known)
    mean = _halved(image) / weight.clamp(min=1e-6)
    coarse = _filled(mean * (weight > 0), (weight > 0).to(image.dtype))
    pushed = F.interpolate(coarse, scale_factor=2, mode="bilinear")[..., :height, :width]
    there = known > 0
    made = torch.where(there, image, pushed)
    for _ in range(_EVENING):
        made = torch.where(there, image, F.avg_pool2d(made, 3, 1, 1, count_include_pad=False))
    return made


def _halved(x: Tensor) -> Tensor:
    """Mean of each 2x2 pixels, fewer at an edge: (B, C, H, W) -> (B, C, ceil(H / 2), ceil(W / 2))."""
    return F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
