"""Options of image tasks: what images are made from. `image_tasks.py` computes what they describe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ..schema import Options


class _Task(Options):
    """Options of a task. `recipe`: what it asks of a training beside the recipe of the network."""

    recipe: ClassVar[Mapping[str, Any]] = {}


class Generate(_Task):
    """Images from noise: the task that needs no input image."""

    name: Literal["generate"] = "generate"


class SuperResolve(_Task):
    """Enlarge: the network is given an image shrunk by `factor`, and adds to its bicubic enlargement."""

    name: Literal["super_resolve"] = "super_resolve"
    factor: Literal[2, 3, 4] = Field(4, description="how many times larger both sides become")


HoleKind = Literal["strokes", "boxes", "border"]


class Inpaint(_Task):
    """Repair: the network is given an image with holes, and adds to a smooth fill of them alone."""

    name: Literal["inpaint"] = "inpaint"
    share: tuple[float, float] = Field((0.05, 0.4), description="of the pixels that a hole takes, least and most")
    kinds: tuple[HoleKind, ...] = Field(("strokes", "boxes"), min_length=1, description="what holes are made of")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        _check_range("share", self.share, 0, 1)
        if not 0 < self.share[1] < 1:
            raise ValueError("share must leave something to repair, and something to repair it by: above 0 and below 1")
        return self


class Colorize(_Task):
    """Colour: the network is given the brightness of an image, and adds colours that leave it as it is."""

    name: Literal["colorize"] = "colorize"


class Restore(_Task):
    """Restore: the network is given a worn image, and adds what it lost. Each kind of wear has a range, [least, most].

    An image has each kind of wear by as much as chance says within its range. It is darkened, blurred and made noisy,
    and then stored as a JPEG.
    """

    name: Literal["restore"] = "restore"
    blur: tuple[float, float] = Field((0.0, 1.5), description="deviation of a Gaussian blur, pixels")
    noise: tuple[float, float] = Field((0.0, 12.0), description="deviation of Gaussian noise, grey levels of 255")
    jpeg: tuple[int, int] | None = Field((30, 95), description="quality of a JPEG, 1 to 100; null: none")
    darkness: tuple[float, float] = Field((0.0, 0.0), description="share of the brightness that is lost")
    contrast: tuple[float, float] = Field((1.0, 1.0), description="share of the contrast that is left")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        _check_range("blur", self.blur, 0, 16)
        _check_range("noise", self.noise, 0, 255)
        _check_range("jpeg", self.jpeg or (1, 100), 1, 100)
        _check_range("darkness", self.darkness, 0, 0.99)
        _check_range("contrast", self.contrast, 0.01, 1)
        return self


class Translate(_Task):
    """Translate: the network is given the partner that each image has in the data, and makes the image of it."""

    name: Literal["translate"] = "translate"
    noise: int = Field(0, ge=0, le=512, description="numbers of chance that it is given beside, for several results")


class Restyle(_Task):
    """Restyle: the network is given an image of one class, and makes one of another class of it, without pairs."""

    # There is no original that pixels or features could be compared with.
    recipe: ClassVar[Mapping[str, Any]] = {"pixel_weight": 0.0, "feature_weight": 0.0, "adversarial_weight": 1.0}

    name: Literal["restyle"] = "restyle"
    cycle: float = Field(10.0, gt=0, description="weight of the mean absolute error of an image that was carried back")
    identity: float = Field(5.0, ge=0, description="weight of that of an image that has the class wanted already")


def _check_range(name: str, ends: tuple[float, float], least: float, most: float) -> None:
    if not least <= ends[0] <= ends[1] <= most:
        raise ValueError(f"{name} is [least, most], between {least:g} and {most:g}")


AnyTask = Generate | SuperResolve | Inpaint | Colorize | Restore | Translate | Restyle
TaskOptions = Annotated[AnyTask, Field(discriminator="name")]
TASKS: Mapping[str, type[AnyTask]] = {
    "generate": Generate,
    "super_resolve": SuperResolve,
    "inpaint": Inpaint,
    "colorize": Colorize,
    "restore": Restore,
    "translate": Translate,
    "restyle": Restyle,
}
GENERATE = Generate()
