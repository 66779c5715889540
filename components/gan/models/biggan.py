"""BigGAN (Brock et al. 2019, arXiv 1809.11096), class-conditional or unconditional.

As in the paper (section 3, figure 15): residual blocks, spectral norm in both networks (Miyato et al. 2018), a class
embedding shared by all blocks and a part of z for each (hierarchical latents), which set the gains and biases of batch
norm, self-attention (Zhang et al. 2019), a projection discriminator (Miyato & Koyama 2018) over a sum of features,
orthogonal initialisation. Different:

- Channels double from `width` at full resolution to at most 16 times as many in all resolutions, where the paper has a
  table for each.
- Truncation is the deviation that is left of z: 0.88, 0.54 and 0.28 are the paper's thresholds of 2, 1 and 0.5. So
  nothing jumps towards 1, and all networks mean the same by it.
- The statistics of batch norm are those without truncation; the paper takes them again for each.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..inputs import Inputs
from ..network_options import BigGAN
from ..options import ImageFormat
from . import layers
from .layers import BatchNorm, NetworkPair, Pyramid, SpectralConv2d, SpectralNorm, pyramid

LARGEST_ATTENTION = 64
WIDEST = 16


def build(options: BigGAN, image: ImageFormat) -> NetworkPair:
    """Build generator and discriminator for `image`.

    Raises:
        UserError: the image's size is not one that doubling leads to.
    """
    scales = pyramid("biggan", image)
    classes = len(image.classes) if options.conditional and image.labelled else 0
    attention = max((side for side in scales.sides[:-1] if side <= LARGEST_ATTENTION), default=0)
    place = attention if options.attention else 0
    generator = Generator(options, scales, image.channels, classes, place)
    discriminator = Discriminator(scales, image.channels, options.width, classes, place)
    for network in (generator, discriminator):
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear | nn.Embedding):
                nn.init.orthogonal_(layer.weight)
                if getattr(layer, "bias", None) is not None:
                    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return NetworkPair(generator, discriminator)


class Generator(layers.Generator):
    """z (B, latent), label (B,) -> images (B, C, H, W) in [-1, 1]."""

    def __init__(self, options: BigGAN, scales: Pyramid, channels: int, classes: int, attention: int) -> None:
        super().__init__()
        start, doublings = scales
        latent, width, embedding = options.latent, options.width, options.embedding
        self.threshold = THRESHOLDS[options.truncation]
        self.start = start
        # The start and every block get a part of z of their own, as even as it divides.
        self.parts = [len(part) for part in torch.arange(latent).tensor_split(doublings + 1)]
        self.embedding = nn.Embedding(classes, embedding) if classes else None
        widths = [width * min(WIDEST, 2 ** (doublings - 1 - i)) for i in (0, *range(doublings))]
        self.project = SpectralLinear(self.parts[0], start[0] * start[1] * widths[0])
        condition = embedding if classes else 0
        self.blocks = nn.ModuleList(
            GeneratorBlock(a, b, condition + part)
            for (a, b), part in zip(pairwise(widths), self.parts[1:], strict=True)
        )
        self.attentions = nn.ModuleList(
            Attention(b) if side == attention else nn.Identity()
            for b, side in zip(widths[1:], scales.sides[1:], strict=True)
        )
        self.norm = BatchNorm(width)
        self.to_image = SpectralConv2d(width, channels, 3, padding=1)

    def forward(self, inputs: Inputs, truncation: float = 1.0) -> Tensor:
        z = truncated(inputs.z, self.threshold(truncation)) if truncation < 1 else inputs.z
        first, *parts = z.split(self.parts, dim=1)
        if self.embedding is not None:
            shared = self.embedding(inputs.label)
            parts = [torch.cat((shared, part), dim=1) for part in parts]
        x = self.project(first).view(len(first), *self.start, -1).permute(0, 3, 1, 2)
        for block, attention, part in zip(self.blocks, self.attentions, parts, strict=True):
            x = attention(block(x, part))
        return torch.tanh(self.to_image(F.relu(self.norm(x))))

    @torch.no_grad()
    def latent_weights(self) -> Tensor:
        """All that the parts of z are multiplied with, block by block, in the columns of their part."""
        columns = torch.arange(sum(self.parts)).split(self.parts)
        readers: list[tuple[SpectralLinear, Tensor]] = [(self.project, columns[0])]
        for block, part in zip(self.blocks, columns[1:], strict=True):
            norms = (norm for norm in block.modules() if isinstance(norm, ConditionalBatchNorm))
            readers += [(layer, part) for norm in norms for layer in (norm.gain, norm.bias)]
        rows = []
        for layer, part in readers:
            weight = layer.norm(layer.weight)
            row = weight.new_zeros(len(weight), sum(self.parts))
            # The embedding of the class comes before the part of z.
            row[:, part] = weight[:, weight.shape[1] - len(part) :]
            rows.append(row)
        return torch.cat(rows)


class Discriminator(nn.Module):
    """Images (B, C, H, W), label (B,) -> logits (B,)."""

    def __init__(self, scales: Pyramid, channels: int, width: int, classes: int, attention: int) -> None:
        super().__init__()
        widths = [channels, *(width * min(WIDEST, 2**i) for i in range(scales.doublings))]
        downs = [DiscriminatorBlock(a, b, first=i == 0) for i, (a, b) in enumerate(pairwise(widths))]
        self.blocks = nn.ModuleList([*downs, DiscriminatorBlock(widths[-1], widths[-1], down=False)])
        sides = [*scales.sides[-2::-1], scales.sides[0]]
        self.attentions = nn.ModuleList(
            Attention(w) if side == attention and i < scales.doublings else nn.Identity()
            for i, (w, side) in enumerate(zip([*widths[1:], widths[-1]], sides, strict=True))
        )
        self.head = SpectralLinear(widths[-1], 1)
        self.embedding = SpectralEmbedding(classes, widths[-1]) if classes else None

    def forward(self, image: Tensor, inputs: Inputs) -> Tensor:
        x = image
        for block, attention in zip(self.blocks, self.attentions, strict=True):
            x = attention(block(x))
        # Logits in fp32: a loss sees differences that bf16 rounds away.
        with torch.autocast(x.device.type, enabled=False):
            features = F.relu(x.float()).sum((2, 3))
            logits: Tensor = self.head(features).squeeze(1)
            if self.embedding is not None:
                logits = logits + (self.embedding(inputs.label) * features).sum(1)
        return logits


class GeneratorBlock(nn.Module):
    """(B, fan_in, H, W), condition (B, size) -> (B, fan_out, 2H, 2W) (figure 15 b)."""

    def __init__(self, fan_in: int, fan_out: int, condition: int) -> None:
        super().__init__()
        self.norm1 = ConditionalBatchNorm(fan_in, condition)
        self.norm2 = ConditionalBatchNorm(fan_out, condition)
        # Without biases, which the next batch norm would take away.
        self.conv1 = SpectralConv2d(fan_in, fan_out, 3, padding=1, bias=False)
        self.conv2 = SpectralConv2d(fan_out, fan_out, 3, padding=1, bias=False)
        self.skip = SpectralConv2d(fan_in, fan_out, 1, bias=False)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = self.conv1(_nearest(F.relu(self.norm1(x, condition))))
        h = self.conv2(F.relu(self.norm2(h, condition)))
        # A 1x1 convolution and repeating pixels can change places, and it is cheaper on the smaller image.
        return h + _nearest(self.skip(x))


class DiscriminatorBlock(nn.Module):
    """(B, fan_in, H, W) -> (B, fan_out, H / 2, W / 2), or the same size (figure 15 c)."""

    def __init__(self, fan_in: int, fan_out: int, *, first: bool = False, down: bool = True) -> None:
        super().__init__()
        self.first, self.down = first, down
        self.conv1 = SpectralConv2d(fan_in, fan_out, 3, padding=1)
        self.conv2 = SpectralConv2d(fan_out, fan_out, 3, padding=1)
        self.skip = SpectralConv2d(fan_in, fan_out, 1) if fan_in != fan_out or down else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        # The first block sees pixels, which have no sign to rectify.
        h = self.conv2(F.relu(self.conv1(x if self.first else F.relu(x))))
        if not self.down:
            return h + self.skip(x)
        return F.avg_pool2d(h, 2) + self.skip(F.avg_pool2d(x, 2))


class ConditionalBatchNorm(nn.Module):
    """Batch norm whose gain (1 + W_g c) and bias (W_b c) each image's condition c sets (de Vries et al. 2017)."""

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.norm = BatchNorm(channels, affine=False)
        self.gain = SpectralLinear(condition, channels, bias=False)
        self.bias = SpectralLinear(condition, channels, bias=False)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        gain, bias = (layer(condition)[:, :, None, None] for layer in (self.gain, self.bias))
        return torch.addcmul(bias, self.norm(x), 1 + gain)


class Attention(nn.Module):
    """Every position looks at all others: x + gain * o (Zhang et al. 2019, arXiv 1805.08318, eq. 1 to 3).

    Keys and values are taken from the image at half the size. Shapes: (B, C, H, W) -> the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // 8)
        self.query = SpectralConv2d(channels, inner, 1, bias=False)
        self.key = SpectralConv2d(channels, inner, 1, bias=False)
        self.value = SpectralConv2d(channels, 4 * inner, 1, bias=False)
        self.out = SpectralConv2d(4 * inner, channels, 1, bias=False)
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        query = self.query(x).flatten(2)
        key = F.max_pool2d(self.key(x), 2).flatten(2)
        value = F.max_pool2d(self.value(x), 2).flatten(2)
        weights = (query.transpose(1, 2) @ key).softmax(-1)
        o = (value @ weights.transpose(1, 2).to(value.dtype)).unflatten(2, x.shape[2:])
        return x + self.gain * self.out(o)


class SpectralLinear(nn.Linear):
    """A linear layer whose weight has a spectral norm of 1."""

    def __init__(self, fan_in: int, fan_out: int, bias: bool = True) -> None:
        super().__init__(fan_in, fan_out, bias)
        self.norm = SpectralNorm(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.norm(self.weight), self.bias)


class SpectralEmbedding(nn.Embedding):
    """An embedding whose table has a spectral norm of 1."""

    def __init__(self, classes: int, size: int) -> None:
        super().__init__(classes, size)
        self.norm = SpectralNorm(self.weight)

    def forward(self, label: Tensor) -> Tensor:
        return F.embedding(label, self.norm(self.weight))


def truncated(z: Tensor, threshold: float) -> Tensor:
    """z ~ N(0, 1) carried over to the normal distribution cut off at +-threshold, keeping its order.

    The paper draws again what lies beyond (section 3.1): the same distribution, but this is a function of z.
    """
    within = torch.erf(torch.tensor(threshold / 2**0.5, dtype=torch.float64))
    u = torch.erf(z.double() / 2**0.5) * within
    return (torch.erfinv(u) * 2**0.5).to(z.dtype)


def threshold_of(deviation: float) -> float:
    """Where a normal distribution is cut off that has this `deviation` in (0, 1) then; without limit towards 1."""
    low, high = 0.0, 40.0
    for _ in range(60):
        threshold = (low + high) / 2
        low, high = (threshold, high) if deviation_within(threshold) < deviation else (low, threshold)
    return high


def deviation_within(threshold: float) -> float:
    """Return the deviation of N(0, 1) cut off at +-threshold; threshold / sqrt(3) where that is small."""
    # Below, the difference of two numbers near 1 would be all rounding.
    if threshold < 1e-3:
        return threshold / 3**0.5
    density = math.exp(-(threshold**2) / 2) * (2 / math.pi) ** 0.5
    return (1 - threshold * density / math.erf(threshold / 2**0.5)) ** 0.5


# Of models made before, the paper's thresholds of 2 and less are truncations of 1 and less: above 2 there was none.
THRESHOLDS: dict[str, Callable[[float], float]] = {
    "deviation": threshold_of,
    "threshold": lambda truncation: 2 * truncation,
}


def _nearest(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")
