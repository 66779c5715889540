"""What the networks of image tasks share: a generator that corrects a baseline, and a discriminator of patches.

Neither normalises over an image or a batch, so that a pixel depends on those near it alone: a picture may be made in
windows, and have any size that is a multiple of what the generator says.
"""

from __future__ import annotations

from abc import abstractmethod
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UserError
from ..inputs import Inputs
from ..network_options import PatchOptions
from ..options import ImageFormat
from ..tasks.image_tasks import ImageTask
from . import layers
from .layers import SpectralConv2d


class ImageGenerator(layers.Generator):
    """Conditions (B, K, h, w) -> images (B, C, scale * h, scale * w) in [-1, 1].

    Attributes:
        multiple: what both sides of a condition are multiples of.
        receptive_field: pixels of the condition to each side of its own that a pixel of the image may depend on.
        scale: how many times larger the image is than its condition.
    """

    def __init__(self, task: ImageTask, image: ImageFormat, multiple: int, receptive_field: int) -> None:
        super().__init__()
        self.task, self.scale, self.multiple = task, task.scale, multiple
        self.receptive_field = max(receptive_field, task.reach)
        self.classes = task.classes(image)
        # Channels of what the first layer sees.
        self.seen = task.given(image.channels) + self.classes + task.latent

    @abstractmethod
    def correction(self, seen: Tensor) -> Tensor:
        """Return what is added to the baseline, 0 before any training; of the condition, class and latent as planes."""

    def forward(self, inputs: Inputs, truncation: float = 1.0) -> Tensor:
        assert inputs.condition is not None
        seen = _with_planes(self.task.presented(inputs.condition), inputs, self.classes)
        if self.task.latent:
            seen = torch.cat((seen, _planes(truncation * inputs.z, seen)), 1)
        return self.task.compose(self.correction(seen).float(), inputs.condition)

    def check(self, name: str, image: ImageFormat) -> None:
        """Check that the network, called `name`, can make such images.

        Raises:
            UserError: it cannot.
        """
        self.task.check(image)
        side = self.multiple * self.scale
        if image.height % side or image.width % side:
            raise UserError(
                f"{name} cannot make images of {image.width}x{image.height} here: "
                f"set preprocess.resolution to a multiple of {side}"
            )


class PatchDiscriminator(nn.Module):
    """Images (B, C, H, W) -> logits (B, patches), one for a square of 2^halvings pixels, by what lies around it.

    Convolutions, by default with spectral norm (Miyato et al. 2018) but for the first and the last, and a quarter of
    the resolution at the end (Isola et al. 2017, section 3.2.2). What the image was made from is looked at where the
    task says so, with the class beside it; else it has a logit for each class, of which that of the image counts (Choi
    et al. 2020).

    Raises:
        UserError: the images cannot be halved so often.
    """

    def __init__(self, options: PatchOptions, image: ImageFormat, task: ImageTask) -> None:
        super().__init__()
        width, halvings = options.discriminator_width, options.discriminator_halvings
        if min(image.height, image.width) < 2**halvings:
            raise UserError(
                f"images of {image.width}x{image.height} cannot be halved {halvings} times: "
                "set train.network.discriminator_halvings to less"
            )
        self.sees_input, classes = task.judged_with_input, task.classes(image)
        self.told, self.logits_of_classes = (classes, 0) if self.sees_input else (0, classes)
        channels = image.channels + self.told + (task.given(image.channels) if self.sees_input else 0)
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        widths = [width * min(2**halving, 8) for halving in range(halvings + 1)]
        shapes = [(fine, coarse, 4, 2) for fine, coarse in pairwise(widths)] + [(widths[-1], widths[-1], 3, 1)]
        self.hidden = nn.ModuleList(
            SpectralConv2d(fan_in, fan_out, size, padding=1, stride=stride)
            if options.discriminator_norm == "spectral"
            else nn.Conv2d(fan_in, fan_out, size, padding=1, stride=stride)
            for fan_in, fan_out, size, stride in shapes
        )
        self.last = nn.Conv2d(widths[-1], max(1, self.logits_of_classes), 3, padding=1)
        for conv in (self.first, *(self.hidden if options.discriminator_norm == "none" else ())):
            assert isinstance(conv, nn.Conv2d)
            start(conv)
        nn.init.normal_(self.last.weight, 0.0, (9 * widths[-1]) ** -0.5)
        nn.init.zeros_(cast(Tensor, self.last.bias))

    def forward(self, image: Tensor, inputs: Inputs) -> Tensor:
        return self.logits(self.features(image, inputs), inputs)

    def features(self, image: Tensor, inputs: Inputs) -> list[Tensor]:
        """Return what each layer but the last sees in the images."""
        if self.sees_input:
            assert inputs.condition is not None
            image = _with_planes(torch.cat((image, inputs.condition), 1), inputs, self.told)
        seen = [F.leaky_relu(self.first(image), 0.2)]
        for layer in self.hidden:
            seen.append(F.leaky_relu(layer(seen[-1]), 0.2))
        return seen

    def logits(self, features: list[Tensor], inputs: Inputs) -> Tensor:
        """Return the logits of images of which these are the features."""
        # In fp32: a loss sees differences that bf16 rounds away.
        with torch.autocast(features[-1].device.type, enabled=False):
            logits: Tensor = self.last(features[-1].float())
        if self.logits_of_classes:
            logits = logits[torch.arange(len(logits), device=logits.device), inputs.label]
        return logits.flatten(1)


class Residual(nn.Module):
    """x + conv(relu(conv(x))), of x (B, width, H, W) (Lim et al. 2017, figure 2c)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        start(self.first)
        # Small, so that many of them in a row leave the signal as large as it is (Wang et al. 2018, section 3.1).
        start(self.second, 0.1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(x)))


class Tail(nn.Module):
    """x (B, width, h, w) -> corrections (B, channels, scale * h, scale * w), of which all start at 0.

    Each pixel of x has `scale`^2 of them side by side (Shi et al. 2016, "Real-time single image ... sub-pixel").
    """

    def __init__(self, width: int, channels: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.conv = nn.Conv2d(width, channels * scale**2, 3, padding=1)
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(cast(Tensor, self.conv.bias))

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x), self.scale)


def _with_planes(x: Tensor, inputs: Inputs, classes: int) -> Tensor:
    """Return x (B, K, H, W) with a plane for each class, 1 in that of the image."""
    if not classes:
        return x
    return torch.cat((x, _planes(F.one_hot(inputs.label, classes), x)), 1)


def _planes(values: Tensor, like: Tensor) -> Tensor:
    """Return planes (B, N, H, W) that are each one of the `values` (B, N) all over."""
    return values.to(like.dtype)[:, :, None, None].expand(-1, -1, *like.shape[2:])


def start(conv: nn.Conv2d, gain: float = 1.0) -> None:
    """Let `conv` keep the deviation of what goes through it and a ReLU (He et al. 2015), times `gain`."""
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    with torch.no_grad():
        conv.weight.mul_(gain)
    nn.init.zeros_(cast(Tensor, conv.bias))
