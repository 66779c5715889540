"""A whole picture by a model of an image task, made in windows so that memory stays bounded.

Each window is given what its network sees around it, so that the result is that of the whole picture at once. Colours
are made of a small copy, as they were learned, and enlarged.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..dataset import Pixels, to_pixels, to_signed
from ..published import Published
from . import wear
from .image_tasks import Colorizing, ImageTask

# Rows of a picture that are coloured at a time.
_BAND = 256


@torch.inference_mode()
def in_windows(
    model: Published,
    picture: Pixels,
    mask: Pixels | None = None,
    *,
    side: int = 256,
    strength: float = 1.0,
    label: int = 0,
    seed: int = 0,
    done: Callable[[int], object] = lambda pixels: None,
) -> Pixels:
    """Return the result (scale * H, scale * W, C') of a picture (H, W, C); `mask` (H, W) is 1 where to repaint.

    C is that of the model's images, 1 or 3. `side` of a window in pixels of the picture; `strength` 0 is the baseline
    and 1 the network's; `label` is the class wanted and `seed` that of the latent, of models that are told one; `done`
    is told how many pixels of the picture are made.

    Raises:
        UserError: the model makes images of noise, or a mask is lacking or one too many.
    """
    network = model.network
    if isinstance(network.task, Colorizing) and (small := _small(model, picture, mask)) is not None:
        made = in_windows(model, small, side=side)
        return _coloured(network.task, picture, made, strength, done)
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
                labels, z = np.full(len(condition), label), model.latents([seed] * len(condition))
                result = model.transform(condition, hidden=True, labels=labels, z=z)
                if strength != 1:
                    base = network.task.baseline(condition.to(result.device)).float()
                    result = base + strength * (result.float() - base)
                y, x = (scale * (inner.top - outer.top), scale * (inner.left - outer.left))
                inside[...] = to_pixels(result)[:, y : y + inside.shape[1], x : x + inside.shape[2]]
            done((min(inner.bottom, height) - min(top, height)) * (min(inner.right, width) - min(left, width)))
    grey = picture.shape[2] == 1 and not isinstance(network.task, Colorizing)
    return _back(made[:, : scale * height, : scale * width], grey)


def _small(model: Published, picture: Pixels, mask: Pixels | None) -> Pixels | None:
    """Return the brightness (h, w, 1) of a picture at the scale that training pictures were cut out at; None: it is.

    A sky is told by its place above a horizon: a network that learned from small whole pictures sees none in a window
    of a large one.
    """
    height, width = picture.shape[:2]
    ratio = max(model.image.height / height, model.image.width / width) if picture.size else 1
    if ratio >= 1 or mask is not None:
        return None
    size = max(1, round(height * ratio)), max(1, round(width * ratio))
    luma = np.concatenate([to_pixels(_luma(band))[0] for band in _bands(picture)])
    levels = torch.from_numpy(luma).permute(2, 0, 1)[None].float()
    return np.asarray(
        wear.rounded(F.interpolate(levels, size, mode="bicubic", antialias=True))[0, 0, :, :, None].byte()
    )


def _coloured(
    task: Colorizing, picture: Pixels, small: Pixels, strength: float, done: Callable[[int], object]
) -> Pixels:
    """Return the picture (H, W, 3) with its own brightness and the colours of the `small` one (h, w, 3)."""
    height, width = picture.shape[:2]
    colours = wear.mixed(to_signed(torch.from_numpy(small[None].copy())), wear.YCC[1:]) * strength
    tall = F.interpolate(colours, (height, small.shape[1]), mode="bicubic")
    made = []
    for band, rows in zip(_bands(picture), tall.split(_BAND, 2), strict=True):
        wide = F.interpolate(rows, (rows.shape[2], width), mode="bicubic")
        made.append(to_pixels(task.compose(wide, _luma(band)))[0])
        done(band.shape[0] * width)
    return np.concatenate(made)


def _bands(picture: Pixels) -> list[Pixels]:
    return [picture[top : top + _BAND] for top in range(0, len(picture), _BAND)]


def _luma(band: Pixels) -> Tensor:
    """Return the brightness (1, 1, H, W) in whole levels, in [-1, 1], of rows (H, W, 1 or 3)."""
    image = to_signed(torch.from_numpy(np.array(band))[None])
    return wear.from_levels(wear.to_levels(Colorizing().condition(image)), image)


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
