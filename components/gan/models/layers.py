"""Only what two networks must agree on."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from ..options import ImageFormat, UserError
from .second_order import conv2d


class Networks(NamedTuple):
    generator: nn.Module
    discriminator: nn.Module


class Pyramid(NamedTuple):
    """How a network gets from its smallest feature maps to the image: `start` (height, width), doubled so often."""

    start: tuple[int, int]
    doublings: int

    @property
    def sides(self) -> list[int]:
        """The short side of every resolution, from the start to the image."""
        return [min(self.start) * 2**i for i in range(self.doublings + 1)]


def pyramid(network: str, image: ImageFormat) -> Pyramid:
    """The way to `image` from feature maps whose short side is 4 to 7.

    Raises:
        UserError: doubling does not lead there.
    """
    short, doublings = min(image.height, image.width), 0
    while short % 2 == 0 and short > 7:
        short, doublings = short // 2, doublings + 1
    if not 4 <= short <= 7 or not doublings or max(image.height, image.width) % 2**doublings:
        raise UserError(
            f"{network} cannot make images of {image.width}x{image.height}: set preprocess.resolution to 4, 5, 6 or 7 "
            "times a power of two, such as 28, 32, 48, 64, 96 or 128, the longer side to a multiple of that power"
        )
    return Pyramid((image.height // 2**doublings, image.width // 2**doublings), doublings)


class Standing(nn.Module):
    """A module whose buffers are statistics of what passes through it.

    A finished generator gets them as averages over many batches of its own (`standing_statistics`): those that a
    moving average of the weights has inherited from training belong to other weights (Brock et al. 2019, section 3.1).
    """

    # How many batches have been taken, this one included, while standing statistics are taken.
    batches: int | None = None


@torch.no_grad()
def standing_statistics(generator: nn.Module, z: Tensor, label: Tensor, batch: int = 125) -> None:
    """Give `generator` standing statistics, over the latents z (N, latent) with labels (N,).

    Without a process group: each rank that calls it does so for itself.
    """
    standing = [module for module in generator.modules() if isinstance(module, Standing)]
    if not standing:
        return
    generator.eval()
    for batches, (some, labels) in enumerate(zip(z.split(batch), label.split(batch), strict=True), 1):
        for module in standing:
            module.batches = batches
        generator(some, labels, None)
    for module in standing:
        module.batches = None


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


class BatchNorm(Standing):
    """Batch normalisation over the global batch (Ioffe & Szegedy 2015, arXiv 1502.03167).

    Statistics are summed over ranks in the forward pass, so that any number of workers computes what one process
    would on the union batch (unequal shares included).

    Shapes: (B, channels, ...) -> the same.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.gain = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        statistics = self.running_mean, self.running_var
        if self.batches:
            # The mean over all batches so far.
            return F.batch_norm(x, *statistics, self.gain, self.bias, True, 1 / self.batches, self.eps)
        if self.training and dist.is_initialized() and dist.get_world_size() > 1:
            return self._over_ranks(x)
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
        normalised = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.gain is not None and self.bias is not None:
            normalised = normalised * self.gain.view(shape) + self.bias.view(shape)
        return normalised.to(x.dtype)


def upsample(x: Tensor) -> Tensor:
    """Twice the size by bilinear interpolation, which is the low-pass filter [1, 3, 3, 1] on zeros put between.

    Shapes: (B, C, H, W) -> (B, C, 2H, 2W).
    """
    return F.interpolate(x, scale_factor=2, mode="bilinear")


class Downsample(nn.Module):
    """Half the size behind the low-pass filter [1, 3, 3, 1] (Zhang 2019, arXiv 1904.11486), zeros beyond the border.

    As [1, 2, 1] and then the mean of two, which is the same filter: a depthwise convolution with a stride takes 20
    times as long to differentiate on a CPU in bfloat16.

    Shapes: (B, C, H, W) -> (B, C, H / 2, W / 2).
    """

    def __init__(self) -> None:
        super().__init__()
        self.blur = Blur()

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.blur(x), 2)


class Blur(nn.Module):
    """The low-pass filter [1, 2, 1] / 4 along both axes: (B, C, H, W) -> the same."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("kernel", torch.outer(taps, taps), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        return conv2d(x, self.kernel.to(x.dtype).expand(channels, 1, 3, 3), padding=1, groups=channels)
