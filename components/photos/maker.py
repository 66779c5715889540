"""What is made of one photo by a model of an image task, on this machine or a node of a cluster."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pydantic import Field
from tqdm import tqdm

from ..gan.errors import UserError
from ..gan.options import Options
from ..gan.published import Published
from ..gan.tasks.windows import in_windows
from ..pictures import metadata
from ..pictures.opening import hush, reads_heic
from ..pictures.photo import read_photo
from ..pictures.photo_file import Format, encoded, ending_of, format_of, mask_of, side_by_side
from ..services.tracking.named_model import ModelName
from ..workspace.params import Apply
from ..workspace.text import printable

_PREVIEW = "-compare.png"


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
    """Makes the result of a photo; travels to the nodes of a cluster. `version` is empty where none is registered."""

    model: Published
    key: str
    version: str
    request: ApplyRequest
    limits: Apply

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
        said = list(photo.said)
        holes = None if job.mask is None else mask_of(job.mask, photo.size, self.request.grow)
        if holes is not None and not holes.any():
            said.append("its mask shows nothing to repaint")
        form, why = format_of(photo, self.request.format, exact=holes is not None)
        if why:
            said.append(why)
        name = job.name.rpartition("/")[2]
        with tqdm(total=height * width, desc=name, unit="pix", unit_scale=True, disable=None, leave=False) as bar:
            made = in_windows(
                self.model,
                photo.colours,
                holes,
                side=self.limits.window,
                strength=self.request.strength,
                done=bar.update,
            )
        mark = metadata.ENHANCED if holes is None else metadata.COMPOSITE
        whole = encoded(photo, made, form, self._facts(job), mark, not self.request.strip_metadata)
        files = {f"{job.result}.{ending_of(form)}": whole}
        if self.request.compare:
            files[f"{job.result}{_PREVIEW}"] = side_by_side(photo.colours, made)
        return files, said

    def _facts(self, job: Job) -> dict[str, str]:
        return {
            "model": self.key,
            **({"version": self.version} if self.version else {}),
            "task": self.model.task.name,
            "input": hashlib.sha256(job.photo).hexdigest(),
            **({"strength": f"{self.request.strength:g}"} if self.request.strength < 1 else {}),
        }
