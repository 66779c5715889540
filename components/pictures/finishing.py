"""Finishing steps: what is done to samples before they are shown. Each is options and one library call.

The discriminated union `FinishingStep` *is* the list of steps. Only schemas stand at the top level, light to import;
the libraries are imported when a step runs. Steps are deterministic and keep uint8 and the number of channels.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from ..gan.errors import UserError
from ..gan.options import Options

if TYPE_CHECKING:
    from PIL import Image

    from ..gan.dataset import Pixels

MAX_SIZE = 2048


@dataclass(frozen=True)
class Draft:
    """A picture in work: pixels (H, W, C) uint8, what it was sampled from, and how it was scored."""

    pixels: Pixels
    seed: int
    label: int
    scores: Mapping[str, float]
    steps: tuple[str, ...] = ()


def one_of_each_class(drafts: Sequence[Draft], count: int) -> list[Draft]:
    """Return the first of each class, at most `count`; of a single class the first `count`."""
    firsts = list({draft.label: draft for draft in reversed(drafts)}.values())[::-1]
    return firsts[:count] if len(firsts) > 1 else list(drafts[:count])


class Step(Options, ABC):
    """One finishing step; subclasses are the members of `FinishingStep`."""

    name: str

    @abstractmethod
    def apply(self, drafts: Sequence[Draft]) -> list[Draft]:
        """Return the drafts after this step, in the same order; some may be left out."""


class ImageStep(Step):
    """A step that treats each picture by itself."""

    @abstractmethod
    def finish(self, pixels: Pixels) -> Pixels:
        """Pixels (H, W, C) uint8 -> (H', W', C) uint8."""

    def apply(self, drafts: Sequence[Draft]) -> list[Draft]:
        return [replace(d, pixels=self._finish_bands(d.pixels), steps=(*d.steps, self.name)) for d in drafts]

    def _finish_bands(self, pixels: Pixels) -> Pixels:
        """`finish` for any number of channels: three as a colour picture, each further one as a grey picture."""
        import numpy as np

        channels = pixels.shape[2]
        if channels in (1, 3):
            return self.finish(pixels)
        colour = 3 if channels > 3 else 1
        cuts = [colour, *range(colour + 1, channels)]
        return np.concatenate([self.finish(band) for band in np.split(pixels, cuts, axis=2)], axis=2)


class Curate(Step):
    """Keeps the best share of each class, so that no class is lost."""

    name: Literal["curate"] = "curate"
    share: float = Field(0.9, gt=0, le=1, description="share of each class to keep, rounded up")
    by: Literal["confidence", "discriminator"] = Field(
        "confidence",
        description="confidence: the classifier's probability of the class asked for; discriminator: its logit, "
        "which also stands in where images have no labels",
    )

    def apply(self, drafts: Sequence[Draft]) -> list[Draft]:
        ranked: defaultdict[int, list[int]] = defaultdict(list)
        by = self.by if all(self.by in draft.scores for draft in drafts) else "discriminator"
        for index in sorted(range(len(drafts)), key=lambda i: -drafts[i].scores[by]):
            ranked[drafts[index].label].append(index)
        kept = sorted(index for best in ranked.values() for index in best[: math.ceil(self.share * len(best))])
        return [replace(drafts[index], steps=(*drafts[index].steps, self.name)) for index in kept]


class Repair(ImageStep):
    """Finds specks and pinholes and inpaints them from their surroundings (biharmonic equation)."""

    name: Literal["repair"] = "repair"
    threshold: float = Field(
        0.4, gt=0, le=1, description="contrast to the surroundings from which a speck is a defect, 1 is black to white"
    )
    area: int = Field(2, ge=1, le=16, description="largest defect, in pixels; anything larger is part of the picture")

    def finish(self, pixels: Pixels) -> Pixels:
        import numpy as np
        from skimage.morphology import area_closing, area_opening
        from skimage.restoration import inpaint_biharmonic

        # Area openings take away what is smaller than an area at every grey level, and leave the ends and corners of
        # strokes alone, which a median filter takes for outliers.
        defect = np.zeros(pixels.shape[:2], bool)
        # A copy, because they refuse read-only arrays, such as Pillow's.
        for channel in np.moveaxis(pixels.copy(), 2, 0):
            bright = channel - area_opening(channel, self.area + 1, connectivity=2)
            dark = area_closing(channel, self.area + 1, connectivity=2) - channel
            defect |= np.maximum(bright, dark) > self.threshold * 255
        # A picture that is mostly defects has no surroundings to go by.
        if not 0 < defect.mean() < 0.5:
            return pixels
        return _from_unit(inpaint_biharmonic(pixels / 255, defect, channel_axis=2))


class Denoise(ImageStep):
    """Removes noise and keeps edges: total variation (Chambolle 2004) or non-local means (Buades et al. 2005)."""

    name: Literal["denoise"] = "denoise"
    method: Literal["tv", "nlm"] = Field("tv", description="tv: total variation; nlm: non-local means, slower")
    strength: float = Field(0.05, ge=0, le=1, description="tv: weight; nlm: cut-off h, about the noise's deviation")

    def finish(self, pixels: Pixels) -> Pixels:
        import numpy as np
        from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

        if not self.strength:
            return pixels
        # Non-local means takes no axis of one channel.
        values, axis = (pixels[:, :, 0] / 255, None) if pixels.shape[2] == 1 else (pixels / 255, 2)
        if self.method == "tv":
            clean = denoise_tv_chambolle(values, weight=self.strength, channel_axis=axis)
        else:
            clean = denoise_nl_means(values, patch_size=5, patch_distance=6, h=self.strength, channel_axis=axis)
        return _from_unit(np.atleast_3d(clean))


class Tone(ImageStep):
    """Brightness, contrast and gamma, in this order."""

    name: Literal["tone"] = "tone"
    brightness: float = Field(1.0, ge=0, le=4, description="factor of all values; 1 changes nothing")
    contrast: float = Field(1.0, ge=0, le=4, description="factor of the distance to the mean grey; 1 changes nothing")
    gamma: float = Field(1.0, gt=0, le=4, description="exponent of values in [0, 1]; below 1 is brighter")

    def finish(self, pixels: Pixels) -> Pixels:
        from PIL import ImageEnhance
        from skimage.exposure import adjust_gamma

        image = ImageEnhance.Brightness(_image(pixels)).enhance(self.brightness)
        image = ImageEnhance.Contrast(image).enhance(self.contrast)
        return _from_unit(adjust_gamma(_pixels(image) / 255, self.gamma))


class Color(ImageStep):
    """Colour balance and saturation; grey images stay as they are."""

    name: Literal["color"] = "color"
    warmth: float = Field(0.0, ge=-1, le=1, description="above 0 towards orange, below towards blue")
    tint: float = Field(0.0, ge=-1, le=1, description="above 0 towards magenta, below towards green")
    saturation: float = Field(1.0, ge=0, le=4, description="0 is grey, 1 changes nothing")

    def finish(self, pixels: Pixels) -> Pixels:
        from PIL import ImageEnhance

        if pixels.shape[2] == 1:
            return pixels
        red, green, blue = 1 + 0.25 * self.warmth, 1 - 0.25 * self.tint, 1 - 0.25 * self.warmth
        # Gains are divided by what they do to the luma of white (ITU-R 601), so that colour is not brightness.
        luma = 0.299 * red + 0.587 * green + 0.114 * blue
        gains = (red / luma, 0, 0, 0, 0, green / luma, 0, 0, 0, 0, blue / luma, 0)
        return _pixels(ImageEnhance.Color(_image(pixels).convert("RGB", gains)).enhance(self.saturation))


class Upscale(ImageStep):
    """Enlarges by a whole factor (Lanczos)."""

    name: Literal["upscale"] = "upscale"
    factor: int = Field(4, ge=2, le=8, description="of height and width")

    def finish(self, pixels: Pixels) -> Pixels:
        from PIL import Image

        height, width = (self.factor * size for size in pixels.shape[:2])
        if max(height, width) > MAX_SIZE:
            raise UserError(
                f"upscale by {self.factor} would make images of {width}x{height} pixels: at most {MAX_SIZE} are made, "
                "take a smaller factor in postprocess.steps"
            )
        return _pixels(_image(pixels).resize((width, height), Image.Resampling.LANCZOS))


class Sharpen(ImageStep):
    """Unsharp mask."""

    name: Literal["sharpen"] = "sharpen"
    radius: float = Field(1.0, gt=0, le=10, description="of the Gaussian blur, in pixels")
    amount: float = Field(0.5, ge=0, le=5, description="factor of the difference to the blurred image; 0: none")
    threshold: int = Field(0, ge=0, le=255, description="differences below it are left alone, in grey levels")

    def finish(self, pixels: Pixels) -> Pixels:
        from PIL import ImageFilter

        mask = ImageFilter.UnsharpMask(self.radius, round(100 * self.amount), self.threshold)
        return _pixels(_image(pixels).filter(mask))


# A new step that finishes each picture by itself goes into the first line, one that chooses among them into the second.
PictureStep = Repair | Denoise | Tone | Color | Upscale | Sharpen
FinishingStep = Annotated[Curate | PictureStep, Field(discriminator="name")]


def _image(pixels: Pixels) -> Image.Image:
    """Pixels (H, W, C) uint8 as Pillow's `L` or `RGB`."""
    from PIL import Image

    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _pixels(image: Image.Image) -> Pixels:
    """Pillow's `L` or `RGB` as pixels (H, W, C) uint8."""
    import numpy as np

    return np.atleast_3d(np.asarray(image))


def _from_unit(values: Any) -> Pixels:
    """Floats in [0, 1] -> uint8, rounded; what lies outside is clipped."""
    import numpy as np

    pixels: Pixels = np.rint(values.clip(0, 1) * 255).astype(np.uint8)
    return pixels
