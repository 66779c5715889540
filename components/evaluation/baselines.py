"""What a person would make of the same inputs without a network: what a model of an image task must be better than."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from ..gan.dataset import Pixels, Split, to_image, to_pixels, to_signed
from ..gan.tasks import wear
from ..gan.tasks.image_tasks import ImageTask
from ..gan.tasks.options import AnyTask, Colorize, Restore, Restyle, SuperResolve, Translate
from ..workspace.scores import Images
from .nearest import Nearest
from .recolouring import LEARNED_FROM, Recoloured

# Levels of brightness of which is learned what colour they have.
LEVELS = 64
# What people enhance edges by.
_SHARPER = ImageFilter.UnsharpMask(radius=2, percent=50, threshold=0)

Baseline = Callable[[Tensor], Pixels]


def baselines(options: AnyTask, task: ImageTask, training: Split) -> dict[Images, Baseline]:
    """Return the baselines of a task by name, functions of conditions (N, K, h, w), that of the networks first."""

    def own(given: Tensor) -> Pixels:
        return to_pixels(task.baseline(given))

    match options:
        case SuperResolve():
            if training.image.channels not in (1, 3, 4):
                # No picture, for which Pillow has no kind.
                return {"bicubic": own}
            return {"bicubic": own, "lanczos_sharpened": lambda given: _enlarged(given, options.factor)}
        case Colorize():
            table = colours_by_brightness(training)

            def coloured(given: Tensor) -> Pixels:
                return to_pixels(task.compose(_looked_up(table, given), given))

            return {"grey": own, "brightness_colours": coloured}
        case Restore():
            return {"input": own, "sharpened": lambda given: _each(to_pixels(given), _sharpened)}
        case Translate():
            return {"input": own, "reinhard": Recoloured.like(training).given, "nearest": Nearest(training).given}
        case Restyle():
            return {"input": own}
    return {"fill": own}


def colours_by_brightness(training: Split) -> npt.NDArray[np.float64]:
    """Return the mean two differences of colour (LEVELS, 2) of pixels of each brightness, in units of [-1, 1].

    Of brightness that no image has, none.
    """
    sums, counts = np.zeros((LEVELS, 2)), np.zeros(LEVELS)
    chosen = training.spread(LEARNED_FROM)
    for index in np.array_split(chosen, max(1, len(chosen) // 100)):
        ycc = wear.mixed(to_signed(torch.from_numpy(training.pixels(index))), wear.YCC).double().numpy()
        level = _level(ycc[:, 0]).ravel()
        counts += np.bincount(level, minlength=LEVELS)
        for channel in range(2):
            sums[:, channel] += np.bincount(level, ycc[:, 1 + channel].ravel(), LEVELS)
    return np.asarray(sums / np.maximum(counts, 1)[:, None])


def _looked_up(table: npt.NDArray[np.float64], given: Tensor) -> Tensor:
    return torch.from_numpy(table[_level(given[:, 0].double().numpy())]).permute(0, 3, 1, 2).to(given.dtype)


def _level(luma: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    return np.clip((luma + 1) / 2 * LEVELS, 0, LEVELS - 1).astype(np.int64)


def _enlarged(given: Tensor, factor: int) -> Pixels:
    def larger(image: Image.Image) -> Image.Image:
        size = image.width * factor, image.height * factor
        return _sharpened(image.resize(size, Image.Resampling.LANCZOS))

    return _each(to_pixels(given), larger)


def _sharpened(image: Image.Image) -> Image.Image:
    return image.filter(_SHARPER)


def _each(pixels: Pixels, change: Callable[[Image.Image], Image.Image]) -> Pixels:
    made = [np.asarray(change(to_image(image))) for image in pixels]
    return np.stack(made).reshape(len(pixels), *made[0].shape[:2], pixels.shape[3])
