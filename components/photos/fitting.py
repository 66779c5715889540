"""A photo as a model that carries pictures over is given it: fitted as its training pictures were, and brought back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from ..gan.errors import UserError
from ..gan.options import ImageFormat
from ..ingest.decoding import between_bars, cut_out, read_source, whole_of
from ..pictures.opening import reads_heic
from ..pictures.photo import Photo, Pixels
from ..workspace.params import Preprocess

Size = Literal["model", "input", "windows"]


@dataclass(frozen=True)
class Fitted:
    """What a network is given of a photo: `pixels` (H, W, C), where the photo lies within them, and what was done.

    `inside` are (width, height) at the centre, without added bars, and `size` those that they have in the photo.
    """

    pixels: Pixels
    inside: tuple[int, int]
    size: tuple[int, int]
    said: tuple[str, ...]

    @property
    def shown(self) -> Pixels:
        """The part of `pixels` that shows the photo."""
        return self._without_bars(self.pixels)

    def brought_back(self, made: Pixels) -> Pixels:
        """Return what was made of `pixels`, which is as large, at the scale of the photo and without bars."""
        part = self._without_bars(made)
        if self.inside == self.size:
            return part
        image = Image.fromarray(part[:, :, 0] if part.shape[2] == 1 else part)
        return np.atleast_3d(np.asarray(image.resize(self.size, Image.Resampling.LANCZOS)))

    def _without_bars(self, pixels: Pixels) -> Pixels:
        (height, width), (inner_width, inner_height) = pixels.shape[:2], self.inside
        top, left = (height - inner_height) // 2, (width - inner_width) // 2
        return np.ascontiguousarray(pixels[top : top + inner_height, left : left + inner_width])


def fitted(content: bytes, photo: Photo, image: ImageFormat, preprocess: Preprocess, size: Size) -> Fitted:
    """Fit a photo, whose file is `content`, to images of a model as preprocessing does it.

    Of `size` windows, and where training pictures are pieces of photos, it is not scaled.

    Raises:
        UserError: no photo has as many channels as the images.
    """
    if image.channels not in (1, 3, 4):
        raise UserError(f"the model's images have {image.channels} channels, which no photo has")
    # It was opened already, within the limits for photos.
    limits = preprocess.limits.model_copy(update={"pixels": max(preprocess.limits.pixels, photo.colours[..., 0].size)})
    changed = {"resolution": (image.height, image.width), "channels": image.channels, "frames": "first"}
    changed |= {"limits": limits, "heic": reads_heic()}
    if size == "windows":
        changed |= {"fit": "patches", "reduce": 1}
    options = preprocess.model_copy(update=changed)
    said = []
    if photo.alpha is None and options.bits in ("auto", 16):
        # As its colours were read, by a profile where they are inks.
        source = Image.fromarray(photo.colours[:, :, 0] if photo.colours.shape[2] == 1 else photo.colours)
    else:
        read = read_source(content, options)
        assert isinstance(read, Image.Image)
        source = read
        if photo.alpha is not None and image.channels != 4:
            said.append(f"its transparency was laid on {options.background}, as of the training pictures")
    if image.channels == 1 and photo.colours.shape[2] == 3:
        said.append("its colours became grey, as the training pictures are")
    pixels = whole_of(source, options).made(options).pixels
    inside, part, how = _placed(source.size, (pixels.shape[1], pixels.shape[0]), options)
    return Fitted(pixels, inside, part, (*said, how) if how else tuple(said))


def _placed(
    size: tuple[int, int], made: tuple[int, int], options: Preprocess
) -> tuple[tuple[int, int], tuple[int, int], str]:
    """Return what of the `made` size shows the photo, what of the photo's `size` that is, and how it came about."""
    inside, part, how = made, size, f"scaled to {_words(made)}"
    if options.fit == "crop" and (cut := cut_out(size, made)) != size:
        part, how = cut, f"its middle of {_words(cut)} scaled to {_words(made)}"
    elif options.fit == "pad" and (inner := between_bars(size, made)) != made:
        inside, how = inner, f"scaled to {_words(inner)}, with {options.background} bars around it"
    elif options.fit == "stretch" and size[0] * made[1] != size[1] * made[0]:
        how = f"distorted to {_words(made)}"
    return inside, part, "" if inside == part == made else how


def _words(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
