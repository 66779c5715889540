"""Operations whose gradients are as fast to differentiate as to compute, for gradient penalties.

PyTorch differentiates the gradient of a grouped convolution by one convolution for each group, and that of a leaky ReLU
also by its input, where it is zero almost everywhere: zeros that are then stored and added. Here

- the three maps of a convolution (itself; gradient by its input; gradient by its weight) are bilinear, and the
  derivatives of each are the other two, for each of which there is one fast kernel;
- the gradient of a leaky ReLU is linear, with factors that depend on signs alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

# Along both axes, or (vertical, horizontal).
Sides = int | tuple[int, ...]
# stride, padding, dilation, transposed, output padding, groups: the words of aten::convolution.
_Geometry = tuple[list[int], list[int], list[int], bool, list[int], int]


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` with a number of zeros for padding: the same values and gradients.

    Raises:
        ValueError: padding is told by a word, or is not of zeros.
    """

    def __init__(self, *sizes: Any, **options: Any) -> None:
        super().__init__(*sizes, **options)
        if isinstance(self.padding, str) or self.padding_mode != "zeros":
            raise ValueError("padding must be a number of zeros")

    def forward(self, x: Tensor) -> Tensor:
        assert not isinstance(self.padding, str)
        geometry = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}
        return conv2d(x, self.weight, self.bias, groups=self.groups, **geometry)


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sides = 1,
    padding: Sides = 0,
    groups: int = 1,
    dilation: Sides = 1,
) -> Tensor:
    """`torch.nn.functional.conv2d`, x (B, C, H, W), weight (C', C / groups, h, w) -> (B, C', H', W')."""
    if torch.is_autocast_enabled(x.device.type):
        kind = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(kind), weight.to(kind)
        bias = None if bias is None else bias.to(kind)
    geometry = (_both(stride), _both(padding), _both(dilation), False, [0, 0], groups)
    y: Tensor = _Convolution.apply(x, weight, bias, geometry)
    return y


def leaky_relu(x: Tensor, slope: float) -> Tensor:
    """max(x, slope x) for 0 < slope < 1, written over `x`, which must be nobody else's."""
    y: Tensor = _LeakyReLU.apply(x, slope)
    return y


class _LeakyReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float) -> Tensor:
        y = torch.ops.aten.leaky_relu_(x, slope)
        ctx.mark_dirty(x)
        ctx.save_for_backward(y)
        ctx.slope = slope
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        # Only the signs of y are looked at, so that it needs no gradient of its own.
        return _LeakyReLUGradient.apply(gradient, y.detach(), ctx.slope), None


class _LeakyReLUGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradient: Tensor, y: Tensor, slope: float) -> Tensor:
        ctx.save_for_backward(y)
        ctx.slope = slope
        return torch.ops.aten.leaky_relu_backward(gradient, y, slope, True)

    @staticmethod
    def backward(ctx: Any, second: Tensor) -> tuple[Tensor, None, None]:
        (y,) = ctx.saved_tensors
        return _LeakyReLUGradient.apply(second, y, ctx.slope), None, None


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: _Geometry) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        return torch.ops.aten.convolution(x, weight, bias, *geometry)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        by_x, by_weight, by_bias, _ = ctx.needs_input_grad
        return (
            _GradientByInput.apply(gradient, weight, x.shape, ctx.geometry) if by_x else None,
            _GradientByWeight.apply(gradient, x, weight.shape, ctx.geometry) if by_weight else None,
            gradient.sum((0, 2, 3)) if by_bias else None,
            None,
        )


class _GradientByInput(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradient: Tensor, weight: Tensor, shape: torch.Size, geometry: _Geometry) -> Tensor:
        ctx.save_for_backward(gradient, weight)
        ctx.geometry = geometry
        return _kernel(gradient, _like(gradient, shape), weight, geometry, (True, False, False))[0]

    @staticmethod
    def backward(ctx: Any, second: Tensor) -> tuple[Tensor | None, ...]:
        gradient, weight = ctx.saved_tensors
        by_gradient, by_weight = ctx.needs_input_grad[:2]
        return (
            _Convolution.apply(second, weight, None, ctx.geometry) if by_gradient else None,
            _GradientByWeight.apply(gradient, second, weight.shape, ctx.geometry) if by_weight else None,
            None,
            None,
        )


class _GradientByWeight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradient: Tensor, x: Tensor, shape: torch.Size, geometry: _Geometry) -> Tensor:
        ctx.save_for_backward(gradient, x)
        ctx.geometry = geometry
        return _kernel(gradient, x, _like(gradient, shape), geometry, (False, True, False))[1]

    @staticmethod
    def backward(ctx: Any, second: Tensor) -> tuple[Tensor | None, ...]:
        gradient, x = ctx.saved_tensors
        by_gradient, by_x = ctx.needs_input_grad[:2]
        return (
            _Convolution.apply(x, second, None, ctx.geometry) if by_gradient else None,
            _GradientByInput.apply(gradient, second, x.shape, ctx.geometry) if by_x else None,
            None,
            None,
        )


def _kernel(
    gradient: Tensor, x: Tensor, weight: Tensor, geometry: _Geometry, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor, ...]:
    return torch.ops.aten.convolution_backward(gradient, x, weight, None, *geometry, wanted)


def _both(sides: Sides) -> list[int]:
    return [sides, sides] if isinstance(sides, int) else list(sides)


def _like(tensor: Tensor, shape: torch.Size) -> Tensor:
    """Return what only lends its shape and memory format to a kernel; its numbers are never read."""
    channels_last = tensor.is_contiguous(memory_format=torch.channels_last)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(shape, dtype=tensor.dtype, device=tensor.device, memory_format=memory_format)
