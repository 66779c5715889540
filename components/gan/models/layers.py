"""Only what two networks must agree on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ..errors import UserError
from ..inputs import Inputs
from ..options import ImageFormat
from ..ranks import several
from .second_order import conv2d


class Generator(nn.Module, ABC):
    """A network that makes images of inputs, and says what in it listens to the latent."""

    @abstractmethod
    def forward(self, inputs: Inputs, truncation: float = 1.0) -> Tensor:
        """Make images (B, C, H, W); `truncation` in (0, 1] pulls them towards typical ones, 1 leaves them alone."""

    def take_centres(self, z: Tensor) -> None:
        """Take what truncation pulls towards, over latents z (N, latent) in every class; nothing where it is fixed."""

    def latent_weights(self) -> Tensor | None:
        """Weights (outputs, size) of the first layers that read the style (see `style`); None where none is linear."""
        return None

    def style(self, inputs: Inputs) -> Tensor:
        """Return the latent that images are walked through, (B, size): z, or what the network maps it to first."""
        return inputs.z

    def styled(self, style: Tensor, inputs: Inputs) -> Tensor:
        """Return the images of `inputs` that have `style` (B, size) instead of their own."""
        images: Tensor = self(replace(inputs, z=style))
        return images


class NetworkPair(NamedTuple):
    """A generator and the discriminator that it is trained against."""

    generator: Generator
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
    """Return the way to `image` from feature maps whose short side is 4 to 7.

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
def standing_statistics(generator: Generator, inputs: Inputs, batch: int = 125) -> None:
    """Give `generator` standing statistics over all `inputs`, and the centres of truncation over their latents.

    Without a process group: each rank that calls it does so for itself.
    """
    standing = [module for module in generator.modules() if isinstance(module, Standing)]
    generator.eval()
    if standing:
        for batches, some in enumerate(inputs.split(batch), 1):
            for module in standing:
                module.batches = batches
            generator(some)
        for module in standing:
            module.batches = None
    generator.take_centres(inputs.z)


class _BatchNormOverRanks(torch.autograd.Function):
    """Batch norm of which every rank has a part of the batch, by one collective in each direction.

    Its gradient is that of the sum of all ranks' losses. The kernels are those of batch norm with fixed statistics;
    what the statistics' own dependence on x adds to the gradient is again an affine map of each channel.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x (B, C, ...), gain and bias (C,) -> y as x, mean and biased variance (C,), images times pixels (1,)."""
        own = torch.stack(torch.ops.aten.batch_norm_update_stats(x, None, None, 0.0)).float().flatten()
        own = torch.cat((own, own.new_full((1,), x.numel() / x.shape[1])))
        every = own.new_empty(dist.get_world_size() * len(own))
        dist.all_gather_single(every, own)
        every = every.view(-1, len(own))
        (means, variances), counts = every[:, :-1].unflatten(1, (2, -1)).unbind(1), every[:, -1:]
        count = counts.sum(0)
        # Not as E[x^2] - E[x]^2, which loses the variance of channels with a large mean.
        mean = (counts * means).sum(0) / count
        variance = (counts * (variances + (means - mean).square())).sum(0) / count
        ctx.save_for_backward(x, gain, mean, variance, count)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance, count)
        return F.batch_norm(x, mean, variance, gain, bias, eps=eps), mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, gain, mean, variance, count = ctx.saved_tensors
        statistics = mean, variance, None, None, False, ctx.eps, [True, True, True]
        by_x, by_gain, by_bias = torch.ops.aten.native_batch_norm_backward(gradient, x, gain, *statistics)
        total = torch.stack((by_gain, by_bias))
        dist.all_reduce(total)
        total = total * (gain * torch.rsqrt(variance + ctx.eps) / count)
        by_x = by_x - F.batch_norm(x, mean, variance, total[0], total[1], eps=ctx.eps)
        return by_x, by_gain, by_bias, None


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
        if self.training and several():
            return self._over_ranks(x)
        return F.batch_norm(x, *statistics, self.gain, self.bias, self.training, self.momentum, self.eps)

    def _over_ranks(self, x: Tensor) -> Tensor:
        gain = torch.ones_like(self.running_mean) if self.gain is None else self.gain
        bias = torch.zeros_like(self.running_mean) if self.bias is None else self.bias
        normalised: Tensor
        normalised, mean, variance, count = _BatchNormOverRanks.apply(x, gain, bias, self.eps)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        return normalised


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


class SpectralNorm(nn.Module):
    """W / sigma, the largest singular value of W by one power iteration a step (Miyato et al. 2018, algorithm 1).

    The iterate u is kept in training and only used in evaluation, where it may come from a moving average: it is
    normalised after one more iteration.
    """

    u: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("u", F.normalize(torch.randn(len(weight)), dim=0))

    def forward(self, weight: Tensor) -> Tensor:
        matrix = weight.flatten(1)
        # In fp32 also under autocast.
        with torch.autocast(weight.device.type, enabled=False):
            with torch.no_grad():
                v = F.normalize(matrix.mT.mv(self.u), dim=0)
                u = F.normalize(matrix.mv(v), dim=0)
                if self.training:
                    self.u.copy_(u)
            sigma = u @ matrix.mv(v)
            return weight / sigma


class SpectralConv2d(nn.Conv2d):
    """A convolution whose weight has a spectral norm of 1."""

    def __init__(
        self, fan_in: int, fan_out: int, size: int, padding: int = 0, bias: bool = True, stride: int = 1
    ) -> None:
        super().__init__(fan_in, fan_out, size, stride=stride, padding=padding, bias=bias)
        self.norm = SpectralNorm(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.norm(self.weight), self.bias, stride=self.stride, padding=self.padding)
