"""Adaptive discriminator augmentation (ADA, Karras et al. 2020, arXiv 2006.06676), from the equations of appendix B.

All randomness comes in as uniform numbers, so that it is a function of the step and not of the process. Nothing waits
for the device and all shapes are static, so that a CUDA graph can hold it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .losses import LOSSES
from .options import TRANSFORMS, TrainingOptions, Transform
from .ranks import sum_over_ranks
from .schedules import at

# Whether it happens and its numbers; a rotation has two pairs of them.
_UNIFORMS_EACH = 4
UNIFORMS = _UNIFORMS_EACH * len(get_args(Transform))
UPDATE_EVERY = 4
GEOMETRY: tuple[Transform, ...] = ("flip", "rotate90", "shift", "scale", "rotate", "stretch", "fractional_shift")
MOVING: tuple[Transform, ...] = (*GEOMETRY, "cutout")

# Scaling filter of the least asymmetric orthogonal wavelet with 6 vanishing moments (Daubechies 1992), of norm 1; its
# mean position is where it puts a pixel.
SYM6 = (
    *(0.015404109327044783, 0.003490712084222088, -0.11799011114851972, -0.04831174258569751),
    *(0.491055941927974, 0.7876411410286505, 0.33792942172816537, -0.07263752278637645),
    *(-0.021060292512370772, 0.044724901770781346, 0.0017677118642539763, -0.00780070832503238),
)
_DELAY = sum(i * tap for i, tap in enumerate(SYM6)) / sum(SYM6)
# Pixels beyond each edge that the filter needs, and the position of the first pixel in the filtered image.
_MARGIN, _FIRST = 3, 5


def numbers_for(transforms: Sequence[Transform]) -> int:
    """Return how many uniform numbers of an image `adapt` needs; of the first transforms always as many."""
    return _UNIFORMS_EACH * max(
        len(TRANSFORMS), *(get_args(Transform).index(transform) + 1 for transform in transforms), 0
    )


def adapt(
    image: Tensor,
    u: Tensor,
    probability: Tensor | float,
    transforms: Sequence[Transform],
    color_share: float = 1.0,
) -> Tensor:
    """`image` (B, C, H, W) in [-1, 1] under `transforms`, each with `probability`, by the numbers `u` (B, numbers_for).

    Those of colour have `color_share` of that probability. `u` is uniform in [0, 1); a flip that happens is one in half
    of the cases (appendix B). An image to which nothing happens comes out bit for bit. RGB, and the RGB of RGBA, get
    the paper's colours, grey those of an RGB image of three equal channels, any other number of channels brightness and
    contrast alone. Values may leave [-1, 1].
    """
    channels_last = image.is_contiguous(memory_format=torch.channels_last)
    if image.shape[1] not in (1, 3, 4):
        transforms = [transform for transform in transforms if transform not in ("luma_flip", "hue", "saturation")]
    draw = _Draw(u.to(image.dtype), probability, transforms)
    with torch.autocast(image.device.type, enabled=False):
        if set(transforms) & set(GEOMETRY):
            image = _moved(image, _geometry(draw, *image.shape[2:]))
        if set(transforms) - set(MOVING):
            image = _recolored(image, replace(draw, probability=probability * color_share))
        if "cutout" in transforms:
            image = _cut(image, draw)
    return image.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def moving(transforms: Sequence[Transform]) -> list[Transform]:
    """Those of `transforms` that move or cut images, and so also what is seen beside them."""
    return [transform for transform in transforms if transform in MOVING]


class AugmentationProbability(nn.Module):
    """The probability of `adapt`, which holds overfitting at its target or follows a schedule.

    Overfitting is r_t = E[sign D(real)] (section 3.1), by the loss's boundary between real and generated; one without a
    boundary has no such measure, and `Train` refuses it. The state is in buffers: device tensors of a fixed address,
    for checkpoints by name.
    """

    probability: Tensor
    signs: Tensor
    count: Tensor

    def __init__(self, options: TrainingOptions) -> None:
        super().__init__()
        assert options.ada is not None
        self.ada = options.ada
        self.options = options
        # Models of 0.1 were trained by a relativistic loss with a boundary of 0, and finish so.
        self.boundary = LOSSES[options.loss].boundary or 0.0
        for name in ("probability", "signs", "count"):
            self.register_buffer(name, torch.zeros(()))

    @torch.no_grad()
    def observe(self, logits_real: Tensor) -> None:
        """Count the logits (B,) of this rank's real images, on all ranks at once: every rank's state is the same."""
        signs = (logits_real - self.boundary).sign().sum()
        seen = sum_over_ranks(torch.stack((signs, torch.full_like(signs, len(logits_real)))))
        self.signs += seen[0]
        self.count += seen[1]

    @torch.no_grad()
    def update(self, images: int) -> None:
        """Set the probability for the steps after `images` images, on all ranks; due before every UPDATE_EVERY-th.

        Adaptive, it goes by the images counted since the last update / `images_to_one` towards the target.
        """
        if self.ada.probability != "adaptive":
            self.probability.fill_(at(self.ada.probability, images, self.options))
            return
        direction = (self.signs - self.ada.target * self.count).sign()
        self.probability.add_(direction * self.count / self.ada.images_to_one).clamp_(0, 1)
        self.signs.zero_()
        self.count.zero_()


@dataclass(frozen=True)
class _Draw:
    """Parameters (B,) of the transforms of each image."""

    u: Tensor
    probability: Tensor | float
    transforms: Sequence[Transform]

    def __call__(
        self, transform: Transform, neutral: float, value: Callable[[Tensor], Tensor], fires: int = 0, number: int = 1
    ) -> Tensor:
        """`value` of the transform's uniform number `number` where its number `fires` is small enough, or `neutral`."""
        if transform not in self.transforms:
            return self.u.new_full((len(self.u),), neutral)
        first = _UNIFORMS_EACH * get_args(Transform).index(transform)
        # 1 - sqrt(1 - p) for each of two rotations, that one happens with p (appendix B).
        probability = 1 - (1 - self.probability) ** 0.5 if transform == "rotate" else self.probability
        return torch.where(self.u[:, first + fires] < probability, value(self.u[:, first + number]), neutral)


def _normal(u: Tensor) -> Tensor:
    """Return standard normal from uniform numbers, of which 0 would be infinitely far."""
    return math.sqrt(2) * torch.erfinv((2 * u - 1).clamp(min=2**-23 - 1))


def _angle(u: Tensor) -> Tensor:
    """Uniform in [-pi, pi)."""
    return math.pi * (2 * u - 1)


def _sign(u: Tensor) -> Tensor:
    return 1 - 2 * (u >= 0.5).to(u.dtype)


def _geometry(draw: _Draw, height: int, width: int) -> Tensor:
    """Return the rows (B, 2, 3) of G^-1 that give the pixel (x, y) of the input for one of the output.

    Of G = fractional_shift rotate stretch rotate scale shift rotate90 flip, about the centre of the image (appendix B).
    """
    flip = draw("flip", 1.0, _sign)
    quarter = draw("rotate90", 0.0, lambda u: math.pi / 2 * (4 * u).floor())
    shift = torch.stack(
        (
            draw("shift", 0.0, lambda u: ((2 * u - 1) / 8 * width).round(), number=1),
            draw("shift", 0.0, lambda u: ((2 * u - 1) / 8 * height).round(), number=2),
        ),
        1,
    )
    scale = draw("scale", 1.0, lambda u: torch.exp2(0.2 * _normal(u)))
    stretch = draw("stretch", 1.0, lambda u: torch.exp2(0.2 * _normal(u)))
    before = draw("rotate", 0.0, _angle)
    after = draw("rotate", 0.0, _angle, fires=2, number=3)
    flipped = torch.stack((flip, torch.ones_like(flip)), 1)[:, :, None] * _rotation(-quarter)
    shrink = torch.stack((1 / (scale * stretch), stretch / scale), 1)[:, :, None]
    linear = _product(_product(flipped, _rotation(-before)), shrink * _rotation(-after))
    x, y = (width - 1) / 2, (height - 1) / 2
    centre = torch.stack((torch.full_like(flip, x), torch.full_like(flip, y)), 1)[:, :, None]
    before_last = centre
    if "fractional_shift" in draw.transforms:
        last = [
            draw("fractional_shift", 0.0, lambda u, size=size: _normal(u) / 8 * size, number=number)  # type: ignore[misc]
            for number, size in ((1, width), (2, height))
        ]
        before_last = centre + torch.stack(last, 1)[:, :, None]
    offset = centre - _product(flipped, shift[:, :, None]) - _product(linear, before_last)
    return torch.cat((linear, offset), 2)


def _rotation(angle: Tensor) -> Tensor:
    """(B, 2, 2), from x towards y."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack((cos, -sin, sin, cos), 1).view(-1, 2, 2)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Matrix product (B, n, k), (B, k, m) -> (B, n, m) in full precision also where the device multiplies in TF32."""
    return (a.unsqueeze(3) * b.unsqueeze(1)).sum(2)


def _moved(image: Tensor, source: Tensor) -> Tensor:
    """`image` (B, C, H, W), reflected beyond its edges, at the positions that `source` (B, 2, 3) gives.

    Bilinear at twice the resolution (appendix B), but exact where pixels fall on pixels: the filter is not quite
    symmetric, so that it would blur a flip.
    """
    batch, channels, height, width = image.shape
    taps = torch.stack([image.new_full((), tap) for tap in SYM6])  # A copy from the host would wait for the device.
    column, row = taps.view(1, 1, -1, 1), taps.view(1, 1, 1, -1)
    crop = 2 * _MARGIN + _FIRST
    fine = F.pad(image, (_MARGIN,) * 4, mode="reflect").flatten(0, 1).unsqueeze(1)
    fine = F.conv_transpose2d(fine, column, stride=(2, 1), padding=(crop, 0))
    fine = F.conv_transpose2d(fine, row, stride=(1, 2), padding=(0, crop))
    # 2 size - 1 samples, so that both grids have their reflection at the outermost pixels.
    fine = fine[..., :-1, :-1].unflatten(0, (batch, channels)).squeeze(2)
    rows, columns = (
        (torch.arange(2 * size + len(SYM6) - 2, device=image.device, dtype=image.dtype) - _DELAY) / 2
        for size in (height, width)
    )
    grid = _grid(source, rows, columns, height, width, (_DELAY - _FIRST) / 2)
    fine = F.grid_sample(fine, grid, "bilinear", "reflection", align_corners=True).flatten(0, 1).unsqueeze(1)
    coarse = F.conv2d(F.conv2d(fine, column, stride=(2, 1)), row, stride=(1, 2))

    rows, columns = (torch.arange(size, device=image.device, dtype=image.dtype) for size in (height, width))
    grid = _grid(source, rows, columns, height, width, 0.0)
    pixels = F.grid_sample(image, grid, "nearest", "reflection", align_corners=True)
    exact = ((source - source.round()).abs() < 1e-4).all(2).all(1).view(-1, 1, 1, 1)
    return torch.where(exact, pixels, coarse.view(image.shape))


def _grid(source: Tensor, rows: Tensor, columns: Tensor, height: int, width: int, offset: float) -> Tensor:
    """Positions (B, rows, columns, 2) for `grid_sample`, where -1 and 1 are the outermost pixels, plus `offset`."""
    x, y = (
        a[:, None, None] * columns + b[:, None, None] * rows[:, None] + c[:, None, None]
        for a, b, c in (row.unbind(1) for row in source.unbind(1))
    )
    return torch.stack(((x + offset) * (2 / (width - 1)) - 1, (y + offset) * (2 / (height - 1)) - 1), 3)


def _recolored(image: Tensor, draw: _Draw) -> Tensor:
    """`image` (B, C, H, W) under the product of the paper's colour matrices, about the axis v = (1, 1, 1) / sqrt(3).

    All but the first (brightness) are a v v^T + b R (1 - v v^T) with a rotation R about v, and so commute: their
    product is a matrix of which each row is the one before, shifted by one.
    """
    brightness = draw("brightness", 0.0, lambda u: 0.2 * _normal(u))
    contrast = draw("contrast", 1.0, lambda u: torch.exp2(0.5 * _normal(u)))
    luma = contrast * draw("luma_flip", 1.0, _sign)
    if image.shape[1] not in (3, 4):
        return image * _each(luma) + _each(luma * brightness)
    chroma = contrast * draw("saturation", 1.0, lambda u: torch.exp2(_normal(u)))
    hue = draw("hue", 0.0, _angle)
    along, across = chroma * hue.cos(), chroma * hue.sin() / math.sqrt(3)
    mixed = (luma - along) / 3
    rgb = image[:, :3]
    new = rgb * _each(along + mixed) + rgb.roll(1, 1) * _each(mixed + across) + rgb.roll(-1, 1) * _each(mixed - across)
    return torch.cat((new + _each(luma * brightness), image[:, 3:]), 1)


def _cut(image: Tensor, draw: _Draw) -> Tensor:
    """`image` (B, C, H, W) with a rectangle of half its size, centred anywhere in it, set to 0 (mid-grey)."""
    inside = []
    for number, size in enumerate(image.shape[2:], 1):
        # From -1 where nothing is cut: no pixel is so near.
        middle = draw("cutout", -1.0, lambda u: u, number=number)[:, None]
        place = (torch.arange(size, device=image.device, dtype=image.dtype) + 0.5) / size
        inside.append((place - middle).abs() < 0.25)
    hole = (inside[0][:, :, None] & inside[1][:, None, :]).unsqueeze(1)
    return torch.where(hole, 0.0, image)


def _each(value: Tensor) -> Tensor:
    """(B,) for (B, C, H, W)."""
    return value.view(-1, 1, 1, 1)
