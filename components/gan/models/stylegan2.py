"""StyleGAN2 (Karras et al. 2020, arXiv 1912.04958), class-conditional or unconditional.

As in the paper (figures 2 and 7): mapping network, modulated and demodulated convolutions, noise for each pixel,
a generator that sums images of all resolutions, a residual discriminator with minibatch standard deviation, style
mixing, equalised learning rates, and the filter [1, 3, 3, 1] wherever resolution changes. How it is computed differs:

- Modulation scales the activations before and after one convolution with weights that all images share (section 2.2
  of the paper has weights for each image): the same function, without a convolution of B groups.
- [1, 3, 3, 1] is [1, 1] and [1, 2, 1]: the first is folded into the strided convolutions, whose 3x3 kernels become 4x4.
- Factors such as the activation's sqrt(2) are folded into small tensors: sqrt(2) lrelu(t) = lrelu(sqrt(2) t).
- Noise and mixing are pseudo-random functions of z, so that an image does not depend on batch, rank or resume. In
  evaluation the noise is the same for all images and nothing is mixed.
- Truncation pulls w towards the mean of its class, which is taken of at least `CENTRED` latents of every class.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..inputs import Inputs
from ..network_options import StyleGAN2
from ..options import ImageFormat
from . import layers
from .layers import Blur, Downsample, NetworkPair, Pyramid, pyramid, upsample

# Latents of a class of which the mean of w is taken, more for few classes: the error is 7 % of w's deviation.
CENTRED, CENTRED_IN_ALL = 200, 10_000
SLOPE = 0.2
MAPPING_RATE = 0.01
GAIN = math.sqrt(2)
MASK = 0x7FFFFFFF
# key (B, n), count, stream -> (B, count)
Uniform = Callable[[Tensor, int, int], Tensor]
Word = TypeVar("Word", int, Tensor)


def build(options: StyleGAN2, image: ImageFormat) -> NetworkPair:
    """Build generator and discriminator for `image`.

    Raises:
        UserError: the image's size is not one that doubling leads to.
    """
    scales = pyramid("stylegan2", image)
    classes = len(image.classes) if options.conditional and image.labelled else 0
    widths = [min(options.max_width, options.width * 2**i) for i in reversed(range(scales.doublings + 1))]
    mapping = Mapping(options.latent, options.style, options.mapping_layers, classes)
    return NetworkPair(
        Generator(scales, image.channels, widths, mapping, options.style_mixing, NOISES[options.noise]),
        Discriminator(scales, image.channels, widths[::-1], options.minibatch_std_group, classes),
    )


class Generator(layers.Generator):
    """z (B, latent), label (B,) -> images (B, C, H, W), trained towards [-1, 1] (figure 7 a with skips)."""

    def __init__(
        self, scales: Pyramid, channels: int, widths: list[int], mapping: Mapping, mixing: float, uniform: Uniform
    ) -> None:
        super().__init__()
        self.mapping, self.mixing, self.uniform = mapping, mixing, uniform
        self.constant = nn.Parameter(torch.randn(widths[0], *scales.start))
        # One layer at the start, two at each higher resolution, of which the first doubles the size.
        plan = [(widths[0], widths[0], False)]
        for wide, narrow in pairwise(widths):
            plan += [(wide, narrow, True), (narrow, narrow, False)]
        self.layers = nn.ModuleList(StyledLayer(a, b, mapping.size, uniform, up=up) for a, b, up in plan)
        self.to_images = nn.ModuleList(ToImage(width, channels, mapping.size) for width in widths)

    def forward(self, inputs: Inputs, truncation: float = 1.0) -> Tensor:
        return self.synthesis(self.styles(inputs.z, inputs.label, truncation), inputs.z)

    @property
    def style_count(self) -> int:
        """How many styles an image has: one for each layer, and one for the last image, whose layer would be next."""
        return len(self.layers) + 1

    def styles(self, z: Tensor, label: Tensor, truncation: float = 1.0) -> Tensor:
        """Return all w of an image, (B, style_count, style); in training some take the later ones from a second z."""
        w = self.mapping(z, label, truncation)
        if not self.training or not self.mixing:
            return w[:, None].expand(-1, self.style_count, -1)
        other = self.mapping(normal(self.uniform(z, z.shape[1], -1)), label, truncation)
        chosen, crossover = self.uniform(z, 2, -2).unbind(1)
        first = torch.where(chosen < self.mixing, 1 + (crossover * (self.style_count - 1)).long(), self.style_count)
        mixed = torch.arange(self.style_count, device=z.device) >= first[:, None]
        return torch.where(mixed[:, :, None], other[:, None], w[:, None])

    def synthesis(self, styles: Tensor, z: Tensor) -> Tensor:
        """Return the image of `styles` (B, style_count, style), with the noise that belongs to z (B, latent).

        What is added to the image at a resolution has the style of the layer after it.
        """
        # The same key for all images in evaluation: the same noise.
        key = z if self.training else torch.zeros_like(z)
        x = self.constant.expand(len(z), -1, -1, -1).to(memory_format=torch.channels_last)
        x = self.layers[0](x, styles[:, 0], key, 0)
        image: Tensor = self.to_images[0](x, styles[:, 1])
        for i, to_image in enumerate(self.to_images[1:]):
            for index in (2 * i + 1, 2 * i + 2):
                x = self.layers[index](x, styles[:, index], key, index)
            image = upsample(image) + to_image(x, styles[:, 2 * i + 3])
        return image

    def latent_weights(self) -> Tensor:
        """All that w is multiplied with."""
        styled = (*self.layers, *self.to_images)
        return torch.cat([layer.conv.style.weight for layer in styled])

    def style(self, inputs: Inputs) -> Tensor:
        return self.mapping(inputs.z, inputs.label)

    def styled(self, style: Tensor, inputs: Inputs) -> Tensor:
        return self.synthesis(style[:, None].expand(-1, self.style_count, -1), inputs.z)

    def take_centres(self, z: Tensor) -> None:
        self.mapping.take_centres(z)


class Mapping(nn.Module):
    """z (B, latent), label (B,) -> w (B, style): normalised inputs, then fully connected layers that learn slowly."""

    w_sum: Tensor
    w_count: Tensor

    def __init__(self, latent: int, size: int, layers: int, classes: int) -> None:
        super().__init__()
        self.size = size
        self.embedding = nn.Embedding(classes, latent) if classes else None
        sizes = [latent * (2 if classes else 1), *[size] * layers]
        self.layers = nn.ModuleList(
            EqualisedLinear(a, b, rate=MAPPING_RATE, activated=True) for a, b in pairwise(sizes)
        )
        self.register_buffer("w_sum", torch.zeros(max(classes, 1), size))
        self.register_buffer("w_count", torch.zeros(max(classes, 1)))

    def forward(self, z: Tensor, label: Tensor, truncation: float = 1.0) -> Tensor:
        w = _normalised(z)
        if self.embedding is not None:
            w = torch.cat((w, _normalised(self.embedding(label))), dim=1)
        else:
            label = torch.zeros(len(z), dtype=torch.long, device=z.device)
        for layer in self.layers:
            w = layer(w)
        w = w.float()
        return w if truncation == 1 else torch.lerp(self._centres()[label], w, truncation)

    @torch.no_grad()
    def take_centres(self, z: Tensor) -> None:
        """Take the mean of w in every class, each of the same latents: as many of z (N, latent) as are enough."""
        classes = len(self.w_count)
        z = z[: max(CENTRED, CENTRED_IN_ALL // classes)]
        self.w_count.fill_(len(z))
        for label in range(classes):
            self.w_sum[label] = self(z, torch.full((len(z),), label, device=z.device)).sum(0)

    def _centres(self) -> Tensor:
        """Return the mean of w in every class, (classes, style); that of all for a class of which none was taken."""
        every = self.w_sum.sum(0) / self.w_count.sum().clamp(min=1)
        return torch.where(self.w_count[:, None] > 0, self.w_sum / self.w_count.clamp(min=1)[:, None], every)


class StyledLayer(nn.Module):
    """Modulated 3x3 convolution, noise, bias, leaky ReLU (figure 2 d): (B, fan_in, H, W) -> (B, fan_out, H', W')."""

    def __init__(self, fan_in: int, fan_out: int, style: int, uniform: Uniform, *, up: bool) -> None:
        super().__init__()
        self.uniform = uniform
        self.conv = ModulatedConv2d(fan_in, fan_out, 3, style, up=up)
        self.bias = nn.Parameter(torch.zeros(fan_out))
        self.noise_strength = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, w: Tensor, key: Tensor, index: int) -> Tensor:
        x = self.conv(x, w, GAIN)
        height, width = x.shape[2:]
        noise = normal(self.uniform(key, height * width, index)).view(-1, 1, height, width)
        shift = torch.add(noise * (self.noise_strength * GAIN), self.bias[:, None, None] * GAIN)
        return F.leaky_relu(x + shift.to(x.dtype), SLOPE)


class ToImage(nn.Module):
    """Modulated 1x1 convolution without demodulation: (B, fan_in, H, W), w (B, style) -> (B, C, H, W), in fp32."""

    def __init__(self, fan_in: int, channels: int, style: int) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(fan_in, channels, 1, style, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return self.conv(x, w).float() + self.bias[:, None, None]


class ModulatedConv2d(nn.Module):
    """Convolution with the weights w'_oik = s_i w_oik, demodulated to w' / ||w'_o|| (section 2.2, eq. 1 and 3).

    As s before and 1 / ||w'_o|| after a convolution with the weights that all images share.
    Shapes: (B, fan_in, H, W), w (B, style) -> (B, fan_out, H, W), or twice the size with `up`.
    """

    def __init__(
        self, fan_in: int, fan_out: int, size: int, style: int, *, up: bool = False, demodulate: bool = True
    ) -> None:
        super().__init__()
        self.up, self.demodulate = up, demodulate
        self.weight = nn.Parameter(torch.randn(fan_out, fan_in, size, size))
        self.scale = (fan_in * size**2) ** -0.5
        self.style = EqualisedLinear(style, fan_in, bias=1.0)
        self.blur = Blur() if up else nn.Identity()

    def forward(self, x: Tensor, w: Tensor, gain: float = 1.0) -> Tensor:
        weight = self.weight * self.scale
        with torch.autocast(x.device.type, enabled=False):
            s = self.style(w.float())
            after = torch.rsqrt(s.square() @ weight.square().sum((2, 3)).T + 1e-8) * gain if self.demodulate else None
        x = x * s[:, :, None, None].to(x.dtype)
        if self.up:
            # The adjoint of the convolution that `_with_mean_of_two` makes, times 4 for the zeros between pixels.
            kernel = _with_mean_of_two(weight).transpose(0, 1) * 4
            x = self.blur(F.conv_transpose2d(x, kernel, stride=2, padding=1))
        else:
            x = F.conv2d(x, weight, padding=weight.shape[2] // 2)
        return x if after is None else x * after[:, :, None, None].to(x.dtype)


class Discriminator(nn.Module):
    """Images (B, C, H, W), label (B,) -> logits (B,) (figure 7 c: residual)."""

    def __init__(self, scales: Pyramid, channels: int, widths: list[int], group: int, classes: int) -> None:
        super().__init__()
        self.group = group
        self.from_image = EqualisedConv2d(channels, widths[0], 1)
        self.blocks = nn.ModuleList(DiscriminatorBlock(a, b) for a, b in pairwise(widths))
        last = widths[-1]
        self.conv = EqualisedConv2d(last + 1, last, 3)
        self.dense = EqualisedLinear(last * scales.start[0] * scales.start[1], last, activated=True)
        self.embedding = nn.Embedding(classes, last) if classes else None
        self.head = EqualisedLinear(last, last if classes else 1)

    def forward(self, image: Tensor, inputs: Inputs) -> Tensor:
        x = self.from_image(image)
        for block in self.blocks:
            x = block(x)
        # From here in fp32: a deviation and the logits are small differences, which bf16 rounds away.
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            x = self.conv(torch.cat((x, minibatch_std(x, self.group)), dim=1))
            features: Tensor = self.head(self.dense(x.permute(0, 2, 3, 1).flatten(1)))
            if self.embedding is not None:
                # Projection (Miyato & Koyama 2018), as in the conditional StyleGAN2 (Karras et al. 2020b).
                return (features * _normalised(self.embedding(inputs.label))).sum(1) / features.shape[1] ** 0.5
        return features.squeeze(1)


class DiscriminatorBlock(nn.Module):
    """(B, fan_in, H, W) -> (B, fan_out, H / 2, W / 2): two convolutions beside a skip, both divided by sqrt(2)."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.conv1 = EqualisedConv2d(fan_in, fan_in, 3)
        self.conv2 = EqualisedConv2d(fan_in, fan_out, 3, down=True, gain=1 / GAIN)
        self.skip = EqualisedConv2d(fan_in, fan_out, 1, activated=False, gain=1 / GAIN)
        self.downsample = Downsample()

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x)) + self.skip(self.downsample(x))


class EqualisedConv2d(nn.Module):
    """Convolution whose weights are N(0, 1) and scaled by gain / sqrt(fan_in) when used (Karras et al. 2018).

    With `activated`, bias and leaky ReLU follow. Shapes: (B, fan_in, H, W) -> (B, fan_out, H, W), or half the size.
    """

    def __init__(
        self, fan_in: int, fan_out: int, size: int, *, down: bool = False, activated: bool = True, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.gain = gain * (GAIN if activated else 1)
        self.weight = nn.Parameter(torch.randn(fan_out, fan_in, size, size))
        self.bias = nn.Parameter(torch.zeros(fan_out)) if activated else None
        self.blur = Blur() if down else None

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * (self.gain / self.weight[0].numel() ** 0.5)
        bias = None if self.bias is None else self.bias * self.gain
        if self.blur is not None:
            x = F.conv2d(self.blur(x), _with_mean_of_two(weight), bias, stride=2, padding=1)
        else:
            x = F.conv2d(x, weight, bias, padding=weight.shape[2] // 2)
        return x if bias is None else F.leaky_relu(x, SLOPE)


class EqualisedLinear(nn.Module):
    """Fully connected layer with weights N(0, 1 / rate^2) scaled by rate / sqrt(fan_in), biases by `rate`.

    Under Adam a layer with a small `rate` learns that much more slowly. Shapes: (B, fan_in) -> (B, fan_out).
    """

    def __init__(
        self, fan_in: int, fan_out: int, *, rate: float = 1.0, bias: float = 0.0, activated: bool = False
    ) -> None:
        super().__init__()
        self.rate, self.activated = rate, activated
        self.weight = nn.Parameter(torch.randn(fan_out, fan_in) / rate)
        self.bias = nn.Parameter(torch.full((fan_out,), bias / rate))

    def forward(self, x: Tensor) -> Tensor:
        gain = self.rate * (GAIN if self.activated else 1)
        x = F.linear(x, self.weight * (gain / self.weight.shape[1] ** 0.5), self.bias * gain)
        return F.leaky_relu(x, SLOPE) if self.activated else x


def minibatch_std(x: Tensor, group: int) -> Tensor:
    """Mean deviation of the features within each group of successive images (Karras et al. 2018, section 3).

    Shapes: (B, C, H, W) -> (B, 1, H, W). A batch that does not divide is taken in smaller groups.
    """
    group = math.gcd(group, len(x))
    deviation = x.unflatten(0, (-1, group)).var(1, unbiased=False).add(1e-8).sqrt().mean((1, 2, 3))
    return deviation.repeat_interleave(group)[:, None, None, None].expand(-1, 1, *x.shape[2:])


def hashed_uniform(key: Tensor, count: int, stream: int) -> Tensor:
    """Uniform numbers in (0, 1) that are a function of each row of `key`, their place and `stream`.

    A hash of integers rather than a generator: the same on every device, in any batch, and nothing to keep.

    Shapes: key (B, n), of which all bits in fp32 count -> (B, count).
    """
    column = torch.arange(1, key.shape[1] + 1, device=key.device) * 0x9E3779B1 & MASK
    bits = key.to(torch.float32).contiguous().view(torch.int32).long()
    # A word is 31 bits; the sign of a number comes after them.
    row = _finalised(_finalised(bits & MASK ^ column) + (bits < 0)).sum(1, keepdim=True)
    start = _finalised(row & MASK ^ _finalised((stream & 0xFFFF) * 0x10000019 & MASK))
    place = torch.arange(count, device=key.device)[None] * 0x2545F491
    return _unit(_finalised(start ^ place & MASK))


def shifted_uniform(key: Tensor, count: int, stream: int) -> Tensor:
    """As `hashed_uniform`, for models made before it.

    Of the key the first number alone counts, without its sign, and stream s + 8 is stream s shifted by 200 places.
    """
    seed = key[:, :1].to(torch.float32).contiguous().view(torch.int32).long() & MASK
    place = torch.arange(count, device=key.device)[None] + (stream & 0xFFFF) * 0x10000019
    x = ((seed * 0x5BD1E995) ^ (seed >> 15)) & MASK
    return _unit(_finalised((x ^ (place * 0x2545F491)) & MASK))


def hashed_normal(key: Tensor, count: int, stream: int) -> Tensor:
    """N(0, 1) instead of uniform, see `hashed_uniform`."""
    return normal(hashed_uniform(key, count, stream))


def normal(u: Tensor) -> Tensor:
    """Return the quantile of the normal distribution at u in (0, 1)."""
    return torch.erfinv(u * 2 - 1) * GAIN


def _finalised(x: Word) -> Word:
    """Mix 31 bits by rounds of multiply and shift, as in MurmurHash3's finaliser; no product overflows 64 bits."""
    for factor, shift in ((0x45D9F3B, 16), (0x2C1B3C6D, 15), (0x297A2D39, 16)):
        x = ((x ^ (x >> shift)) * factor) & MASK
    return x ^ (x >> 15)


def _unit(x: Tensor) -> Tensor:
    """Return 31 bits as a number in (0, 1): 23 bits and a half are a float's, one more would round the largest to 1."""
    return ((x >> 8).float() + 0.5) / 2**23


NOISES: dict[str, Uniform] = {"mixed": hashed_uniform, "shifted": shifted_uniform}


def _normalised(x: Tensor) -> Tensor:
    """x / sqrt(mean(x^2)) for every row."""
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


def _with_mean_of_two(weight: Tensor) -> Tensor:
    """Return the kernel of `weight` (o, i, 3, 3) behind the filter [1, 1] / 2 along both axes: (o, i, 4, 4)."""
    return (
        F.pad(weight, (0, 1, 0, 1))
        + F.pad(weight, (1, 0, 0, 1))
        + F.pad(weight, (0, 1, 1, 0))
        + F.pad(weight, (1, 0, 1, 0))
    ) / 4
