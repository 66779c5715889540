"""A picture whose origin is asked for: what is written in it, and the training images that are nearest to it."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field

from ..gan.errors import NotThereError, UserError
from ..gan.options import ImageFormat
from ..pictures.opening import MAX_PIXELS, NotReadError, hush, opened
from ..workspace.artifacts import Dataset, Evaluation
from ..workspace.text import printable
from ..workspace.workspace import Workspace
from .entries import DatasetEntry, EvaluationEntry
from .ledger import pixels_of
from .queries import Answer

if TYPE_CHECKING:
    from PIL import Image

    from ..gan.dataset import Pixels

NEAREST = 5
# Of a larger picture not even the marks are read.
MARKED_PIXELS = 2**31
_MARK = "ganflow:"
# Where a TIFF has its XMP, how a mark is written in such, and how much of it is looked at.
_XMP_TAG, _LONGEST = 700, 65_536
_IN_XMP = re.compile(r"<ganflow:([a-z]{1,20})>([^<]{0,400})</ganflow:\1>")


class TracedPicture(NamedTuple):
    """What a file says: its picture, and by name what ganflow wrote into it (`seed`, `model`, `input`, ...).

    One that is too large to be decoded has no picture and no hash of its pixels.
    """

    width: int
    height: int
    image: Image.Image | None
    marks: Mapping[str, str]
    pixels: str | None


class NearestImage(Answer):
    """A training image near to a picture; `distance` in grey levels."""

    index: int
    label: str = Field(alias="class")
    distance: float
    compared: Literal["picture", "sample"]


def read_picture(file: Path) -> TracedPicture:
    """Read a picture, and what is written in it.

    Raises:
        NotThereError: there is no such file.
        UserError: it is no picture, or larger than ganflow makes.
    """
    if not file.is_file():
        raise NotThereError(f"there is no picture {file}: name a file")
    hush()
    try:
        # Its size and its marks stand before its pixels.
        with opened(file, MARKED_PIXELS) as image:
            width, height, marks = image.width, image.height, _marks_of(image)
        if width * height > MAX_PIXELS:
            return TracedPicture(width, height, None, marks, None)
        with opened(file) as image:
            image.load()
            return TracedPicture(width, height, image.copy(), _marks_of(image), pixels_of(image))
    # Whatever a decoder raises that met something odd.
    except Exception as error:
        reason = f" ({error})" if isinstance(error, NotReadError) else ""
        raise UserError(f"{file} is not a picture that can be read{reason}: name a PNG that ganflow made") from None


def _marks_of(image: Image.Image) -> dict[str, str]:
    """Return what ganflow wrote, in texts of a PNG, else in XMP.

    Whoever wrote them: nothing that a terminal takes for a command.
    """
    texts = {
        name.removeprefix(_MARK): value
        for name, value in image.info.items()
        if isinstance(name, str) and name.startswith(_MARK) and isinstance(value, str)
    }
    if not texts:
        xmp = image.info.get("xmp") or getattr(image, "tag_v2", {}).get(_XMP_TAG) or b""
        found = _IN_XMP.findall(xmp[:_LONGEST].decode(errors="replace") if isinstance(xmp, bytes) else "")
        texts = {name: html.unescape(value) for name, value in found}
    return {name: printable(value)[:200] for name, value in texts.items()}


def nearest_images(
    picture: TracedPicture,
    seed: int | None,
    dataset: DatasetEntry,
    evaluation: EvaluationEntry | None,
    workspace: Workspace,
) -> list[NearestImage] | None:
    """Return the training images nearest to a picture; None if `artifacts/dataset` is not that data set any more.

    By root mean square of the difference in grey levels. The model's own sample is compared where
    `artifacts/evaluation` still has it, else the picture, reduced.

    Raises:
        DamagedError: `artifacts/dataset` or `artifacts/evaluation` is damaged.
    """
    try:
        present = Dataset.load(workspace.dataset)
    except NotThereError:
        return None
    if present.content != dataset.content:
        return None
    import numpy as np

    from ..gan.dataset import Split

    own = _sample(seed, evaluation, workspace)
    compared = _reduced(picture, present.image) if own is None else own
    if compared is None:
        return None
    flat = compared.reshape(1, -1).astype(np.float32)
    split = Split(present.folder, "training", present.image)
    distances = np.concatenate(
        [np.square(pixels.reshape(len(pixels), -1) - flat).mean(1) for pixels, _ in split.batches(1024)]
    )
    return [
        NearestImage(
            index=int(index),
            label=present.image.classes[split.labels[index]],
            distance=float(np.sqrt(distances[index])),
            compared="picture" if own is None else "sample",
        )
        for index in np.argsort(distances, kind="stable")[:NEAREST]
    ]


def _sample(seed: int | None, evaluation: EvaluationEntry | None, workspace: Workspace) -> Pixels | None:
    """Return the model's sample (H, W, C) with this seed, before it was finished."""
    import numpy as np
    import pandas as pd

    try:
        present = Evaluation.load(workspace.evaluation)
    except NotThereError:
        return None
    if evaluation is None or present.content != evaluation.content:
        return None
    table = pd.read_csv(present.folder / "samples.csv")
    rows = np.flatnonzero(table["seed"] == seed)
    if not len(rows):
        return None
    sample: Pixels = np.load(present.folder / "samples.npy", mmap_mode="r", allow_pickle=False)[rows[0]]
    return sample


def _reduced(picture: TracedPicture, image: ImageFormat) -> Pixels | None:
    """Return the picture in the format of the training images (H, W, C), if a picture can show it."""
    import numpy as np
    from PIL import Image

    mode = {1: "L", 3: "RGB", 4: "RGBA"}.get(image.channels)
    if mode is None or picture.image is None:
        return None
    small = picture.image.convert(mode).resize((image.width, image.height), Image.Resampling.LANCZOS)
    pixels: Pixels = np.asarray(small).reshape(image.shape)
    return pixels
