"""What pictures suffer: blur, noise and JPEG, as functions of levels in [0, 255] and of numbers for each image.

Computed in float64 and rounded a little upwards, so that every processor, and any number of ranks, comes to the same
whole levels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

# Less than any difference of levels that is not rounding.
_TIE = 1e-6
# Quantisation of brightness and colour at quality 50 (ITU-T T.81, tables K.1 and K.2).
_BRIGHTNESS = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29),
    *(51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121),
    *(120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
_COLOUR = (
    *(17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99),
    *(99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99),
    *(99, 99, 99, 99, 99, 99, 99, 99),
)
# RGB -> brightness and the two differences of colour (JFIF 1.02, after ITU-R BT.601), and back.
YCC = (
    (0.299, 0.587, 0.114),
    (-0.168735892, -0.331264108, 0.5),
    (0.5, -0.418687589, -0.081312411),
)
RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136286, -0.714136286), (1.0, 1.772, 0.0))


def to_levels(image: Tensor) -> Tensor:
    """[-1, 1] -> [0, 255], float64."""
    return (image.double() + 1) * 127.5


def from_levels(levels: Tensor, like: Tensor) -> Tensor:
    """Levels, rounded to whole ones -> [-1, 1], of the kind of `like` and as a data set's pixels come to be."""
    return rounded(levels).to(like.dtype).div(127.5).sub(1.0)


def rounded(x: Tensor) -> Tensor:
    """Whole levels in [0, 255]."""
    return _nearest(x).clamp(0, 255)


def _nearest(x: Tensor) -> Tensor:
    return (x + (0.5 + _TIE)).floor()


def mixed(image: Tensor, matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    """Mix the channels of `image` (B, K, H, W) by `matrix` (C, K) -> (B, C, H, W)."""
    channels = image.unbind(1)
    rows = (sum((weight * channel for weight, channel in zip(row, channels, strict=True) if weight)) for row in matrix)
    return torch.stack([row for row in rows if isinstance(row, Tensor)], 1)


def blurred(levels: Tensor, deviation: Tensor) -> Tensor:
    """Blur by Gaussians of these deviations (B,), in pixels, cut off at 4 of them; edges count what is there."""
    for axis in (2, 3):
        place = torch.arange(levels.shape[axis], device=levels.device, dtype=levels.dtype)
        apart = (place[:, None] - place[None, :]).abs()
        width = deviation.to(levels.dtype).clamp(min=1e-3).view(-1, 1, 1)
        weights = torch.exp(-0.5 * (apart / width).square()) * (apart <= (4 * width + 0.5).floor())
        weights = weights / weights.sum(2, keepdim=True)
        levels = torch.einsum("bij,bcjk->bcik" if axis == 2 else "bij,bckj->bcki", weights, levels)
    return levels


def noisy(levels: Tensor, deviation: Tensor, u: Tensor) -> Tensor:
    """Add N(0, deviation (B,)) by uniform numbers u (B, C * H * W)."""
    # Not at 0, which would be infinitely far.
    normal = math.sqrt(2) * torch.erfinv((2 * u.to(levels.dtype) - 1).clamp(min=2**-23 - 1))
    return levels + deviation.to(levels.dtype).view(-1, 1, 1, 1) * normal.view_as(levels)


def jpeg(levels: Tensor, quality: Tensor) -> Tensor:
    """Store levels (B, 1 or 3, H, W) as a baseline JPEG of these qualities (B,), whole in 1 to 100, and read it again.

    Of RGB the colours at half the resolution. Decoders differ in how they bring these back; here each is repeated.
    """
    height, width = levels.shape[2:]
    block = 16 if levels.shape[1] == 3 else 8
    padded = F.pad(rounded(levels), (0, -width % block, 0, -height % block), mode="replicate") - 128
    if levels.shape[1] == 1:
        made = _quantised(padded, _BRIGHTNESS, quality)
    else:
        ycc = mixed(padded, YCC)
        # Grey is 0 in both colours, whatever 128 was taken off.
        bright = _quantised(ycc[:, :1], _BRIGHTNESS, quality)
        colours = _quantised(F.avg_pool2d(ycc[:, 1:], 2), _COLOUR, quality)
        colours = colours.repeat_interleave(2, 2).repeat_interleave(2, 3)
        made = mixed(torch.cat((bright, colours), 1), RGB)
    return rounded(made[..., :height, :width] + 128)


def _quantised(x: Tensor, table: tuple[int, ...], quality: Tensor) -> Tensor:
    """Round the cosine transform of each 8x8 block to the steps of `table` at these qualities, and transform back."""
    batch, channels, height, width = x.shape
    q = quality.to(x.dtype).view(-1, 1)
    scale = torch.where(q < 50, (5000 / q).floor(), 200 - 2 * q)
    base = torch.tensor(table, device=x.device, dtype=x.dtype)
    steps = ((base * scale + 50) / 100).floor().clamp(1, 255).view(-1, 1, 1, 8, 1, 8)
    cosine = _cosines().to(x)
    blocks = x.view(batch, channels, height // 8, 8, width // 8, 8)
    turned = torch.einsum("ui,bcyixj,vj->bcyuxv", cosine, blocks, cosine)
    kept = _nearest(turned / steps) * steps
    return torch.einsum("ui,bcyuxv,vj->bcyixj", cosine, kept, cosine).reshape(x.shape)


def _cosines() -> Tensor:
    """Return the matrix (8, 8) of the orthonormal cosine transform."""
    place = torch.arange(8, dtype=torch.float64)
    matrix = torch.cos(math.pi / 8 * place[:, None] * (place[None, :] + 0.5)) / 2
    matrix[0] /= math.sqrt(2)
    return matrix
