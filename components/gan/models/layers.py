"""Only what two networks must agree on."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F


class _SumOverRanks(torch.autograd.Function):
    """All-reduce whose gradient is the all-reduce of the gradients: each rank's loss is a share of one sum."""

    @staticmethod
    def forward(ctx: object, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:  # type: ignore[override]
        total = gradient.contiguous()
        dist.all_reduce(total)
        return total


class BatchNorm(nn.Module):
    """Batch normalisation over the global batch, with a gain and a bias for each class when `classes` > 0.

    Ioffe & Szegedy 2015; conditional: Dumoulin et al. 2017. Statistics are summed over ranks in the forward pass, so
    that any number of workers computes what one process would on the union batch (unequal shares included).

    Shapes: (B, channels, ...) and labels (B,) -> the same as the input.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, classes: int = 0, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps, self.classes = momentum, eps, classes
        self.gain = nn.Parameter(torch.ones(max(classes, 1), channels))
        self.bias = nn.Parameter(torch.zeros(max(classes, 1), channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        if not self.training:
            normal = F.batch_norm(x, self.running_mean, self.running_var, eps=self.eps)
        elif not (dist.is_initialized() and dist.get_world_size() > 1):
            normal = F.batch_norm(x, self.running_mean, self.running_var, None, None, True, self.momentum, self.eps)
        else:
            normal = self._normalise_over_ranks(x)
        shape = (-1, x.shape[1]) + (1,) * (x.dim() - 2)
        index = label if self.classes and label is not None else torch.zeros(1, dtype=torch.long, device=x.device)
        gain, bias = self.gain[index].view(shape).to(x.dtype), self.bias[index].view(shape).to(x.dtype)
        return torch.addcmul(bias, normal, gain)

    def _normalise_over_ranks(self, x: Tensor) -> Tensor:
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
        return (centred * torch.rsqrt(variance + self.eps).view(shape)).to(x.dtype)
