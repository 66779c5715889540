"""One kind of picture into another: by pairs of both, or by pictures of each kind of which no two belong together."""

from __future__ import annotations

from ..errors import UserError
from ..options import ImageFormat
from .image_task import Carrying
from .options import Restyle, Translate


class Translating(Carrying):
    """The condition is the partner that the data have for each image (Isola et al. 2017)."""

    judged_with_input = True

    def __init__(self, options: Translate) -> None:
        self.latent = options.noise

    def check(self, image: ImageFormat) -> None:
        super().check(image)
        if not image.paired:
            raise UserError(
                "the task translate learns from pairs, and these images have no inputs: set preprocess.input to left "
                "or right, or to the folder or column that holds the inputs"
            )

    def classes(self, image: ImageFormat) -> int:
        return len(image.classes) if image.labelled else 0


class Restyling(Carrying):
    """The condition is an image of another class, and the class of the image is that which is wanted.

    There is no original: what is made is compared with images of the class wanted, and must lead back to the condition
    (Zhu et al. 2017; one generator for all classes as Choi et al. 2018).
    """

    def __init__(self, options: Restyle) -> None:
        self.options = options

    def check(self, image: ImageFormat) -> None:
        super().check(image)
        if not image.labelled:
            raise UserError(
                "the task restyle learns from images of two classes or more, and these have one: put the pictures of "
                "each kind into a folder of its own"
            )

    def classes(self, image: ImageFormat) -> int:
        return len(image.classes)
