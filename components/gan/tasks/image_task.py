"""What every image task says: what it shows of images, what it is laid on, and how a network's output is laid on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import UserError
from ..options import ImageFormat

# Of [-1, 1]: two of 255 levels.
SPECK = 4 / 255


class ImageTask(ABC):
    """A way from real images to what a network is given of them, and from what it returns to images.

    Images are (B, C, H, W) in [-1, 1], and conditions (B, K, h, w) with H = scale * h and W = scale * w. A task that is
    `Degrading` makes conditions of the images themselves, and one that is `Carrying` has them from the data.

    Attributes:
        scale: how many times larger the image is than its condition.
        reach: pixels of the condition to each side that the baseline looks at.
        judged_with_input: whether the discriminator sees the condition beside the image.
        latent: size of the latent that a network is given beside the condition.
    """

    scale = 1
    reach = 0
    judged_with_input = False
    latent = 0

    def check(self, image: ImageFormat) -> None:
        """Check that the task can be done with such images.

        Raises:
            UserError: it cannot.
        """
        if image.height % self.scale or image.width % self.scale:
            raise UserError(
                f"images of {image.width}x{image.height} are no {self.scale} times larger ones: "
                f"set preprocess.resolution to a multiple of {self.scale}"
            )

    def given(self, channels: int) -> int:
        """Return how many channels the condition has of an image with so many."""
        return channels

    def corrected(self, channels: int) -> int:
        """Return how many channels a network's output has for an image with so many."""
        return channels

    def classes(self, image: ImageFormat) -> int:
        """Return how many classes the networks are told apart; 0 where they are told none."""
        return 0

    def condition(self, picture: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the condition of a picture (B, C, h, w) as a user has it; 1 in `mask` (B, 1, h, w) is to be repainted.

        Raises:
            UserError: there is a mask, which only repairs have.
        """
        if mask is not None:
            raise UserError("only a model that repairs pictures takes a mask")
        return picture

    def hidden(self, condition: Tensor) -> Tensor:
        """Return the condition without what the network must not see; what is hidden already stays as it is."""
        return condition

    def presented(self, condition: Tensor) -> Tensor:
        """Return the condition as networks look at it: without what nobody sees, where that may be anything."""
        return condition

    @abstractmethod
    def baseline(self, condition: Tensor) -> Tensor:
        """Return the image that is made without a network; of a condition of which is hidden what must be."""

    def shown(self, condition: Tensor) -> Tensor:
        """Return the condition as a person sees it, in the size and channels of the image."""
        return self.baseline(condition)

    def compose(self, output: Tensor, condition: Tensor) -> Tensor:
        """Return the image in [-1, 1]: the baseline of `condition`, corrected by a network's `output` (B, ..., H, W).

        Beyond the range the gradient is that within, so that what left it can come back.
        """
        made = self.baseline(condition) + output
        return straight_through(made, made.clamp(-1, 1))

    def difference(self, made: Tensor, real: Tensor, condition: Tensor) -> Tensor:
        """Return the mean absolute difference of each image to its original, where the task may change it: (B,)."""
        return (visible(made) - visible(real)).abs().mean((1, 2, 3))


def visible(images: Tensor) -> Tensor:
    """Return images in [-1, 1] (B, C, H, W) without what nobody sees: of RGBA the colours over grey, and the alpha.

    Files of icons have any colours beneath what is transparent, and losses are not to learn these.
    """
    if images.shape[1] != 4:
        return images
    alpha = images[:, 3:]
    return torch.cat((images[:, :3] * (alpha + 1) / 2, alpha), 1)


def without_hidden(images: Tensor) -> Tensor:
    """Return images that look the same (B, C, H, W), of RGBA grey beneath what is wholly transparent."""
    if images.shape[1] != 4:
        return images
    alpha = images[:, 3:]
    return torch.cat((images[:, :3].masked_fill(alpha <= -1, 0), alpha), 1)


class Degrading(ImageTask):
    """A task whose conditions are the images themselves, with something taken from them."""

    def numbers(self, image: ImageFormat) -> int:
        """Return how many uniform numbers `degrade` takes for each image."""
        return 0

    @abstractmethod
    def degrade(self, image: Tensor, u: Tensor) -> Tensor:
        """Return the condition that a real image is to be made from, by uniform numbers u (B, numbers) in [0, 1)."""


class Carrying(ImageTask):
    """A task whose conditions the data have: pictures of the format of the images, which are the baseline.

    The last channel of a network's output says how much of the baseline is taken away before the others are added. To a
    correction alone each edge that is to go would have to be said exactly, and leaves its ghost.
    """

    def corrected(self, channels: int) -> int:
        return channels + 1

    def presented(self, condition: Tensor) -> Tensor:
        return visible(condition)

    def baseline(self, condition: Tensor) -> Tensor:
        return without_hidden(condition)

    def compose(self, output: Tensor, condition: Tensor) -> Tensor:
        kept = (1 + held_back(1 - 2 * output[:, -1:])) / 2
        return held_back(kept * self.baseline(condition) + without_specks(output[:, :-1]))


def without_specks(output: Tensor) -> Tensor:
    """Return corrections that are all smaller by SPECK, and none where they were no larger; the gradient is theirs.

    A network never says exactly 0, and a level of noise on what is flat or transparent is what tells its drawings.
    """
    return straight_through(output, F.softshrink(output, SPECK))


def straight_through(made: Tensor, kept: Tensor) -> Tensor:
    """Return `kept`, with the gradient of `made`."""
    result: Tensor = _StraightThrough.apply(made, kept.detach())
    return result


def held_back(made: Tensor) -> Tensor:
    """Return `made` within [-1, 1]; beyond it, only a gradient that leads back is that of within.

    Where no error to an original draws it back, an opinion of the discriminator would drive it ever farther out.
    """
    result: Tensor = _HeldBack.apply(made)
    return result


class _HeldBack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, made: Tensor) -> Tensor:
        ctx.save_for_backward(made)
        return made.clamp(-1, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (made,) = ctx.saved_tensors
        outwards = ((made > 1) & (gradients[0] < 0)) | ((made < -1) & (gradients[0] > 0))
        return gradients[0].masked_fill(outwards, 0)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, made: Tensor, kept: Tensor) -> Tensor:
        return kept.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None
