"""What is made of one photo by a model of an image task, on this machine or a node of a cluster."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field
from tqdm import tqdm

from ..gan.errors import UserError
from ..gan.options import Options
from ..gan.published import Published
from ..gan.sampling import labels_by_name
from ..gan.tasks.image_task import Carrying
from ..gan.tasks.windows import in_windows
from ..pictures import metadata
from ..pictures.opening import hush, reads_heic
from ..pictures.photo import Photo, Pixels, read_photo
from ..pictures.photo_file import Format, encoded, ending_of, format_of, mask_of, on_white, side_by_side
from ..services.tracking.named_model import ModelName
from ..workspace.params import Apply, Preprocess
from ..workspace.text import printable
from .fitting import Size, fitted

_PREVIEW = "-compare.png"
# Classes that are named where one is lacking.
_NAMED = 20


class ApplyRequest(Options):
    """What is to be done to the photos, and by which model."""

    model: ModelName = Field("champion", description="a version's number, champion, challenger or workspace")
    strength: float = Field(
        1.0, ge=0, le=1, description="0 is what is made without a network, 1 what the network makes"
    )
    grow: int = Field(4, ge=0, le=100, description="pixels around a mask that are repainted too")
    frames: Literal["only", "first"] = Field("only", description="first: of an animation the first frame")
    format: Format = Field("same", description="of the results: that of each photo, png, jpeg or webp")
    compare: bool = Field(False, description="write before and after side by side, too")
    strip_metadata: bool = Field(False, description="keep nothing of a photo but its pixels and its profile")
    to: str = Field("", max_length=200, description="the class wanted, of a model that is told one")
    size: Size = Field(
        "model",
        description="of what is translated or restyled: model, fitted as the training pictures were; input, the same "
        "enlarged to the scale of the photo; windows, made without any scaling",
    )
    seed: int = Field(0, ge=0, lt=2**63, description="of the numbers of chance, of a model that is given some")


class Job(NamedTuple):
    """A photo to make a result of: its name for people, that of its result without an ending, and its bytes."""

    name: str
    result: str
    source: str
    photo: bytes
    mask: bytes | None


class Made(NamedTuple):
    """What was made of a job: files by their names and what is to be said of them, or why nothing was."""

    name: str
    result: str
    source: str
    files: Mapping[str, bytes]
    said: Sequence[str]
    refused: str


@dataclass(frozen=True)
class Maker:
    """Makes the result of a photo; travels to the nodes of a cluster. `version` is empty where none is registered.

    `preprocess` says how photos are fitted for a model that carries pictures over.
    """

    model: Published
    key: str
    version: str
    request: ApplyRequest
    limits: Apply
    preprocess: Preprocess

    def __call__(self, job: Job, contents: Iterable[None]) -> Made:
        """Make a result, as a part of a work that a cluster shares."""
        hush()
        return self.made(job)

    def made(self, job: Job) -> Made:
        """Make a result, or say why there is none."""
        try:
            files, said = self._files(job)
        except MemoryError:
            return Made(job.name, job.result, job.source, {}, (), "there is not enough memory for it")
        except UserError as error:
            return Made(job.name, job.result, job.source, {}, (), str(error))
        # Whatever a decoder raises that met something odd.
        except Exception as error:
            why = printable(" ".join(str(error).split())) or type(error).__name__
            return Made(job.name, job.result, job.source, {}, (), why)
        return Made(job.name, job.result, job.source, files, said, "")

    def _files(self, job: Job) -> tuple[dict[str, bytes], list[str]]:
        photo = read_photo(job.photo, self.limits.max_input_pixels, self.request.frames, reads_heic())
        scale = self.model.network.scale
        height, width = photo.size
        if height * width * scale**2 > self.limits.max_output_pixels:
            raise UserError(
                f"{width}x{height} enlarged {scale} times has more than apply.max_output_pixels = "
                f"{self.limits.max_output_pixels:,} pixels"
            )
        holes = None if job.mask is None else mask_of(job.mask, photo.size, self.request.grow)
        if holes is not None and not holes.any():
            photo.said.append("its mask shows nothing to repaint")
        if carries_over(self.model):
            before, made = self._carried_over(job, photo)
        else:
            before, made = photo.colours, self._made(job, photo.colours, holes)
        form, why = format_of(photo, self.request.format, exact=holes is not None)
        if why:
            photo.said.append(why)
        mark = metadata.mark_of(self.model.task)
        whole = encoded(photo, made, form, self._facts(job), mark, not self.request.strip_metadata)
        files = {f"{job.result}.{ending_of(form)}": whole}
        if self.request.compare:
            files[f"{job.result}{_PREVIEW}"] = side_by_side(before, made)
        return files, photo.said

    def _carried_over(self, job: Job, photo: Photo) -> tuple[Pixels, Pixels]:
        """Return a photo as the network was given it, and what was made of it, both (H, W, 1 or 3).

        `photo` gets the transparency of the result.
        """
        given = fitted(job.photo, photo, self.model.image, self.preprocess, self.request.size)
        photo.said.extend(given.said)
        made, before = self._made(job, given.pixels, None), given.pixels
        if self.request.size == "input":
            before, made = given.shown, given.brought_back(made)
            if given.inside != given.size:
                photo.said.append(f"the result scaled to {made.shape[1]}x{made.shape[0]} by Lanczos")
        photo.alpha = None
        if made.shape[2] == 4:
            photo.alpha = None if (made[:, :, 3] == 255).all() else made[:, :, 3]
            before, made = on_white(before), np.ascontiguousarray(made[:, :, :3])
        return before, made

    def _made(self, job: Job, given: Pixels, holes: Pixels | None) -> Pixels:
        pixels, name = given.shape[0] * given.shape[1], job.name.rpartition("/")[2]
        with tqdm(total=pixels, desc=name, unit="pix", unit_scale=True, disable=None, leave=False) as bar:
            return in_windows(
                self.model,
                given,
                holes,
                side=self.limits.window,
                strength=self.request.strength,
                label=label_of(self.model, self.request.to),
                seed=self.request.seed,
                done=bar.update,
            )

    def _facts(self, job: Job) -> dict[str, str]:
        return {
            "model": self.key,
            **({"version": self.version} if self.version else {}),
            "task": self.model.task.name,
            "input": hashlib.sha256(job.photo).hexdigest(),
            **({"class": self.request.to} if self.request.to else {}),
            **({"noise": str(self.request.seed)} if self.model.network.task.latent else {}),
            **({"strength": f"{self.request.strength:g}"} if self.request.strength < 1 else {}),
        }


def carries_over(model: Published) -> bool:
    """Whether a model makes one kind of picture of another, which is no better copy of the same one."""
    return isinstance(model.network.task, Carrying)


def label_of(model: Published, wanted: str) -> int:
    """Return the label of the class that is wanted by `--to`; 0 of a model that is told none.

    Raises:
        UserError: it does not know this class, is told none, or one is lacking.
    """
    if not model.network.classes:
        if wanted:
            raise UserError(f"this model makes one kind of picture, and knows no {wanted}: leave out --to")
        return 0
    if not wanted:
        classes = model.image.classes
        more = f" and {len(classes) - _NAMED:,} more" if len(classes) > _NAMED else ""
        raise UserError(
            f"say by --to what the pictures are to become: this model knows {', '.join(classes[:_NAMED])}{more}"
        )
    try:
        return int(labels_by_name(model.image.classes, wanted, 1)[0])
    except ValueError as error:
        raise UserError(f"--to {wanted}: {error}") from None
