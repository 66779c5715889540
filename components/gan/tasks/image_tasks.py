"""Images from images: what a task shows of a real image, what it is laid on, and how a network's output is laid on it.

Everything random comes in as uniform numbers, so that what an image becomes is a function of its name and not of the
process. The output of a network is a correction of the baseline, what a person would do without one, which may also be
taken away where pictures are carried over: a network whose last layer is 0 makes the baseline itself.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import UserError
from ..options import ImageFormat
from . import holes, wear
from .image_task import Degrading, straight_through
from .image_task import ImageTask as ImageTask
from .options import AnyTask, Colorize, Generate, Inpaint, Restore, Restyle, SuperResolve, Translate
from .translation import Restyling, Translating


class SuperResolving(Degrading):
    """The condition is the image shrunk `factor` times in whole levels; the baseline its bicubic enlargement."""

    reach = 2

    def __init__(self, factor: int) -> None:
        self.scale = factor

    def degrade(self, image: Tensor, u: Tensor) -> Tensor:
        size = image.shape[2] // self.scale, image.shape[3] // self.scale
        # Whole levels: sums of them by these weights are exact where there may be a tie.
        levels = _bicubic(wear.rounded(wear.to_levels(image)), size)
        return wear.from_levels(levels, image)

    def baseline(self, condition: Tensor) -> Tensor:
        height, width = condition.shape[2:]
        return _bicubic(condition, (height * self.scale, width * self.scale)).clamp(-1, 1)

    def shown(self, condition: Tensor) -> Tensor:
        return condition.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)


class Inpainting(Degrading):
    """The condition is the image with its holes filled smoothly, and where they are: 1 within, in the last channel.

    Outside of the holes the image is the condition's, to the bit.
    """

    def __init__(self, options: Inpaint) -> None:
        self.options = options

    def given(self, channels: int) -> int:
        return channels + 1

    def numbers(self, image: ImageFormat) -> int:
        return holes.NUMBERS

    def degrade(self, image: Tensor, u: Tensor) -> Tensor:
        hole = holes.holes(u, image.shape[2], image.shape[3], self.options.share, self.options.kinds)
        return self.condition(image, hole)

    def condition(self, picture: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is None:
            raise UserError("a model that repairs pictures needs a mask: what is 1 in it is repainted")
        return self.hidden(torch.cat((picture, mask.to(picture.dtype)), 1))

    def hidden(self, condition: Tensor) -> Tensor:
        image, hole = condition[:, :-1], condition[:, -1:]
        return torch.cat((holes.filled(image, hole), (hole > 0).to(condition.dtype)), 1)

    def baseline(self, condition: Tensor) -> Tensor:
        return condition[:, :-1]

    def shown(self, condition: Tensor) -> Tensor:
        return torch.where(condition[:, -1:] > 0, 1.0, condition[:, :-1])

    def compose(self, output: Tensor, condition: Tensor) -> Tensor:
        return torch.where(condition[:, -1:] > 0, super().compose(output, condition), condition[:, :-1])

    def difference(self, made: Tensor, real: Tensor, condition: Tensor) -> Tensor:
        hole = condition[:, -1:] > 0
        total = torch.where(hole, (made - real).abs(), 0.0).sum((1, 2, 3))
        return total / (hole.sum((1, 2, 3)) * made.shape[1]).clamp(min=1)


class Colorizing(Degrading):
    """The condition is the brightness in whole levels (luma of ITU-R BT.601), which the image keeps.

    The output is two differences of colour, which are reduced together where the image could not show them.
    """

    def check(self, image: ImageFormat) -> None:
        super().check(image)
        if image.channels != 3:
            raise UserError(
                f"colours are learned from RGB images, and these have {image.channels} channels: "
                "set preprocess.channels to 3, or train.task to another"
            )

    def given(self, channels: int) -> int:
        return 1

    def corrected(self, channels: int) -> int:
        return 2

    def degrade(self, image: Tensor, u: Tensor) -> Tensor:
        return wear.from_levels(wear.mixed(wear.to_levels(image), wear.YCC[:1]), image)

    def condition(self, picture: Tensor, mask: Tensor | None = None) -> Tensor:
        super().condition(picture, mask)
        return picture if picture.shape[1] == 1 else wear.mixed(picture[:, :3], wear.YCC[:1])

    def baseline(self, condition: Tensor) -> Tensor:
        return condition.expand(-1, 3, -1, -1)

    def compose(self, output: Tensor, condition: Tensor) -> Tensor:
        colour = wear.mixed(output, tuple(row[1:] for row in wear.RGB))
        # How much of it fits between the brightness and the end of the range, in the channel where least does.
        room = torch.where(colour > 0, 1 - condition, 1 + condition) / colour.abs().clamp(min=1e-6)
        fits = room.amin(1, keepdim=True).clamp(0, 1)
        return straight_through(condition + colour, (condition + fits * colour).clamp(-1, 1))


class Restoring(Degrading):
    """The condition is the image worn: darkened, blurred, noisy and stored as a JPEG. It is its own baseline."""

    def __init__(self, options: Restore) -> None:
        self.options = options

    def check(self, image: ImageFormat) -> None:
        super().check(image)
        if image.channels not in (1, 3):
            raise UserError(
                f"worn pictures are grey or RGB, and these images have {image.channels} channels: "
                "set preprocess.channels to 1 or 3, or train.task to another"
            )

    def numbers(self, image: ImageFormat) -> int:
        return 5 + image.height * image.width * image.channels

    def degrade(self, image: Tensor, u: Tensor) -> Tensor:
        options = self.options
        contrast, darkness, blur, noise = (
            low + u[:, number].double() * (high - low)
            for number, (low, high) in enumerate((options.contrast, options.darkness, options.blur, options.noise))
        )
        levels = 127.5 + (wear.to_levels(image) - 127.5) * contrast.view(-1, 1, 1, 1)
        levels = levels * (1 - darkness).view(-1, 1, 1, 1)
        if options.blur[1]:
            levels = wear.blurred(levels, blur)
        if options.noise[1]:
            levels = wear.noisy(levels, noise, u[:, 5:])
        if options.jpeg:
            low, high = options.jpeg
            levels = wear.jpeg(levels, (low + u[:, 4].double() * (high - low + 1)).floor())
        return wear.from_levels(levels, image)

    def baseline(self, condition: Tensor) -> Tensor:
        return condition


def task_of(options: AnyTask) -> ImageTask | None:
    """Return the task that `options` describe; None where images are made from noise."""
    match options:
        case Generate():
            return None
        case SuperResolve():
            return SuperResolving(options.factor)
        case Inpaint():
            return Inpainting(options)
        case Colorize():
            return Colorizing()
        case Restore():
            return Restoring(options)
        case Translate():
            return Translating(options)
        case Restyle():
            return Restyling(options)


def _bicubic(image: Tensor, size: tuple[int, int]) -> Tensor:
    """`image` in another size by Keys' kernel with a = -1/2 (1981), widened where it shrinks, as Pillow's."""
    return F.interpolate(image, size, mode="bicubic", antialias=True)
