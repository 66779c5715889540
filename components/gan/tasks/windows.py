"""A whole picture by a model of an image task, made in windows so that memory stays bounded.

Each window is given what its network sees around it, so that the result is that of the whole picture at once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..dataset import Pixels, to_pixels, to_signed
from ..published import Published
from .image_tasks import Colorizing, ImageTask


@torch.inference_mode()
def in_windows(
    model: Published,
    picture: Pixels,
    mask: Pixels | None = None,
    *,
    side: int = 256,
    strength: float = 1.0,
    done: Callable[[int], object] = lambda pixels: None,
) -> Pixels:
    """Return the result (scale * H, scale * W, C') of a picture (H, W, 1 or 3); `mask` (H, W) is 1 where to repaint.

    `side` of a window in pixels of the picture; `strength` 0 is the baseline and 1 the network's; `done` is told how
    many pixels of the picture are made.

    Raises:
        UserError: the model makes images of noise, or a mask is lacking or one too many.
    """
    network = model.network
    multiple, scale = network.multiple, network.scale
    height, width = picture.shape[:2]
    given = _padded(_in_channels(picture, network.task, model.image.channels), multiple)
    holes = None if mask is None else _padded(mask[:, :, None], multiple)
    whole = None
    if holes is not None:
        # How holes are filled depends on all of the picture.
        whole = _condition(network.task, given, holes)
    elif height and width:
        # Says at once where a mask is lacking.
        network.task.condition(to_signed(torch.zeros((1, multiple, multiple, given.shape[3]), dtype=torch.uint8)))
    halo = -(-network.receptive_field // multiple) * multiple
    side = max(multiple, side // multiple * multiple)
    made = np.empty((given.shape[0], scale * given.shape[1], scale * given.shape[2], model.image.channels), np.uint8)
    for top in range(0, given.shape[1], side):
        for left in range(0, given.shape[2], side):
            inner = _Window(top, left, min(top + side, given.shape[1]), min(left + side, given.shape[2]))
            inside = made[:, scale * top : scale * inner.bottom, scale * left : scale * inner.right]
            if holes is not None and not holes[inner.of].any():
                inside[...] = given[(slice(None), *inner.of)]
            else:
                outer = inner.grown(halo, given.shape[1], given.shape[2])
                condition = (
                    _condition(network.task, given[(slice(None), *outer.of)])
                    if whole is None
                    else whole[(..., *outer.of)]
                )
                result = model.transform(condition, hidden=True)
                if strength != 1:
                    base = network.task.baseline(condition.to(result.device)).float()
                    result = base + strength * (result.float() - base)
                y, x = (scale * (inner.top - outer.top), scale * (inner.left - outer.left))
                inside[...] = to_pixels(result)[:, y : y + inside.shape[1], x : x + inside.shape[2]]
            done((min(inner.bottom, height) - min(top, height)) * (min(inner.right, width) - min(left, width)))
    grey = picture.shape[2] == 1 and not isinstance(network.task, Colorizing)
    return _back(made[:, : scale * height, : scale * width], grey)


class _Window:
    """A rectangle of a picture."""

    def __init__(self, top: int, left: int, bottom: int, right: int) -> None:
        self.top, self.left, self.bottom, self.right = top, left, bottom, right

    @property
    def of(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def grown(self, by: int, height: int, width: int) -> _Window:
        return _Window(
            max(0, self.top - by), max(0, self.left - by), min(height, self.bottom + by), min(width, self.right + by)
        )


def _in_channels(picture: Pixels, task: ImageTask, channels: int) -> Pixels:
    """Return the picture (N, H, W, C) as the model takes it: for a model of grey pictures, each channel as one."""
    if isinstance(task, Colorizing) or picture.shape[2] == channels:
        return picture[None]
    if channels == 1:
        return np.moveaxis(picture, 2, 0)[..., None]
    return picture.repeat(channels, 2)[None]


def _back(made: Pixels, grey: bool) -> Pixels:
    """Return results (N, H, W, C) as one picture, `grey` where the picture was."""
    if len(made) > 1:
        return np.ascontiguousarray(np.moveaxis(made[..., 0], 0, 2))
    if grey and made.shape[3] > 1:
        return made[0].mean(2, keepdims=True).round().astype(np.uint8)
    return made[0]


def _padded(picture: Pixels, multiple: int) -> Pixels:
    """Mirror the picture (..., H, W, C) at its end until its sides are multiples."""
    height, width = picture.shape[-3:-1]
    pads = [(0, 0)] * (picture.ndim - 3) + [(0, -height % multiple), (0, -width % multiple), (0, 0)]
    return np.pad(picture, pads, mode="symmetric") if any(end for _, end in pads) else picture


def _condition(task: ImageTask, pixels: Pixels, holes: Pixels | None = None) -> Tensor:
    picture = to_signed(torch.from_numpy(np.array(pixels)))
    if holes is None:
        return task.condition(picture)
    mask = torch.from_numpy(holes[None].astype(np.float32)).permute(0, 3, 1, 2).expand(len(picture), -1, -1, -1)
    return task.condition(picture, mask)
