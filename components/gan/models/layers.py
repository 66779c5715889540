"""Only what two networks must agree on."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F


class Networks(NamedTuple):
    generator: nn.Module
    discriminator: nn.Module


class _SumOverRanks(torch.autograd.Function):
    """All-reduce whose gradient is the all-reduce of the gradients: each rank's loss is a share of one sum."""

    @staticmethod
    def forward(ctx: object, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        total = gradient.contiguous()
        dist.all_reduce(total)
        return total


class BatchNorm(nn.Module):
    """Batch normalisation over the global batch (Ioffe & Szegedy 2015, arXiv 1502.03167).

    Statistics are summed over ranks in the forward pass, so that any number of workers computes what one process
    would on the union batch (unequal shares included).

    Shapes: (B, channels, ...) -> the same.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.gain = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        if self.training and dist.is_initialized() and dist.get_world_size() > 1:
            return self._over_ranks(x)
        statistics = self.running_mean, self.running_var
        return F.batch_norm(x, *statistics, self.gain, self.bias, self.training, self.momentum, self.eps)

    def _over_ranks(self, x: Tensor) -> Tensor:
        axes, wide = [i for i in range(x.dim()) if i != 1], x.float()
        count = x.new_full((1,), x.numel() / x.shape[1], dtype=torch.float32)
        total: Tensor = _SumOverRanks.apply(torch.cat((wide.sum(axes), count)))
        mean = total[:-1] / total[-1]
        shape = (1, -1) + (1,) * (x.dim() - 2)
        centred = wide - mean.view(shape)
        # Two passes: E[x^2] - E[x]^2 loses the variance of channels with a large mean.
        variance = _SumOverRanks.apply(centred.square().sum(axes)) / total[-1]
        with torch.no_grad():
            unbiased = variance * total[-1] / (total[-1] - 1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(unbiased, self.momentum)
        scale = self.gain * torch.rsqrt(variance + self.eps)
        return (centred * scale.view(shape) + self.bias.view(shape)).to(x.dtype)
