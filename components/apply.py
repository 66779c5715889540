"""Photos through a model of an image task, into a folder; what is there already is not made again.

Not a stage: its results lie wherever the user wants them.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, ValidationError
from tqdm import tqdm

from .gan.errors import NotThereError, StoppedError, UserError
from .gan.options import Options
from .gan.published import Published
from .gan.tasks.windows import in_windows
from .ingest.kinds import kind_of_file
from .pictures import metadata
from .pictures.opening import hush, reads_heic
from .pictures.photo import Photo, read_photo
from .pictures.photo_file import Format, encoded, ending_of, format_of, mask_of, side_by_side
from .services import signals, versioning
from .services.destination import Destination
from .services.tracking.named_model import ModelName, NamedModel, named_model
from .workspace.files import write_whole
from .workspace.params import Apply, Params
from .workspace.text import printable, shortened
from .workspace.workspace import Workspace

# Says of each result what it was made of: a line for each, so that what was stopped is found again.
JOURNAL = "apply.jsonl"
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


class Result(NamedTuple):
    """What was made of a photo, by its name below the folder of results."""

    name: str
    said: Sequence[str]


@dataclass
class Applied:
    """What came of all photos: those made now, those from before, and why others were refused or left."""

    place: str
    made: list[Result] = field(default_factory=list)
    before: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        earlier = f", {self.before:,} from before" if self.before else ""
        return f"{len(self.made):,} pictures in {self.place}{earlier}"


class _Job(NamedTuple):
    """A photo, its name for people, and the name of its result without its ending, below the folder of results."""

    photo: Path
    name: str
    result: str


def apply(
    photos: Sequence[Path], out: str, request: ApplyRequest, mask: Path | None, params: Params, workspace: Workspace
) -> Applied:
    """Make the results of all photos, and of those in folders, that are not there yet; each is whole or not there.

    Raises:
        UserError: there is no such model, photo or mask, the model makes images of noise, or `out` cannot be used; and
            before anything is made where two photos have one result.
        StoppedError: the user pressed Ctrl-C; what is made stays.
    """
    named = named_model(request.model, params.register.name, workspace)
    masked = named.published.network.task.given(3) == 4
    if masked != (mask is not None):
        raise UserError(
            "this model repairs what a mask shows: name it, or a folder of masks, by --mask"
            if masked
            else "only a model that repairs pictures takes a --mask"
        )
    others = (params.retrain.inbox, params.train.storage, *versioning.remotes(workspace))
    folder = Destination.of(out, workspace, filter(None, others)).folder
    if folder is None:
        raise UserError("apply writes into a folder of this machine: name one by --out, and copy its files from there")
    applied = Applied(out)
    jobs = _jobs(photos, folder, applied.left)
    hush()
    folder.mkdir(parents=True, exist_ok=True)
    work = _Work(named, request, mask, params.apply, folder)
    with tqdm(total=len(jobs), desc="apply", unit="photo", disable=None) as bar, _stopped():
        for job in jobs:
            bar.set_postfix_str(shortened(job.name, 40))
            try:
                result = work.of(job)
            except _RefusedError as error:
                applied.refused[job.name] = str(error)
            else:
                if result is None:
                    applied.before += 1
                else:
                    applied.made.append(result)
            bar.update()
    return applied


class _Row(Options):
    """A line of the journal: the results of a photo, by the hash of photo and mask, and of model and options."""

    result: str
    files: tuple[str, ...]
    input: str
    key: str


class _RefusedError(Exception):
    """A photo of which nothing is made; the message says why."""


@contextmanager
def _stopped() -> Iterator[None]:
    try:
        with signals.as_interrupt():
            yield
    except KeyboardInterrupt:
        raise StoppedError("with what is lacking") from None


def _jobs(photos: Sequence[Path], out: Path, left: dict[str, str]) -> list[_Job]:
    """List the photos, those in folders with the folders between; what is none goes to `left`.

    Raises:
        UserError: there is none, `out` lies in one of the folders, or two have one result.
    """
    jobs: list[_Job] = []
    for path in photos:
        if path.is_dir():
            if out.resolve().is_relative_to(path.resolve()):
                raise UserError(f"{out} lies in {path}, whose pictures are to be changed: name another folder by --out")
            for name in _files(path):
                kind, why = kind_of_file(path / name, name)
                if kind == "picture":
                    jobs.append(_Job(path / name, f"{path}/{name}", str(Path(name).with_suffix(""))))
                elif kind != "litter":
                    left[f"{path}/{name}"] = why or "not a picture"
        elif path.is_file():
            jobs.append(_Job(path, str(path), path.stem))
        else:
            raise NotThereError(f"there is no {path}: name photos, or folders of them")
    results: dict[str, str] = {}
    for job in jobs:
        if (other := results.setdefault(job.result.casefold(), job.name)) != job.name:
            raise UserError(
                f"{other} and {job.name} would have one result, {job.result}: rename one, or use two folders"
            )
    if not jobs:
        raise UserError("there is no picture in what was named: name photos, or folders of them")
    return jobs


def _files(folder: Path) -> Iterator[str]:
    """Yield the names of the files below a folder, in order; no link to a folder is followed."""
    for above, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            yield str((Path(above) / name).relative_to(folder))


class _Work:
    """Makes results in `folder`, and keeps its journal."""

    def __init__(
        self, named: NamedModel, request: ApplyRequest, mask: Path | None, limits: Apply, folder: Path
    ) -> None:
        self._named, self._request, self._mask, self._limits, self._folder = named, request, mask, limits, folder
        self._model: Published = named.published
        options = request.model_dump(mode="json", exclude={"model"})
        self._key = hashlib.sha256(json.dumps([named.key, options], sort_keys=True).encode()).hexdigest()[:16]
        self._journal = folder / JOURNAL
        self._known = self._read()

    def of(self, job: _Job) -> Result | None:
        """Make the result of a photo; None where it is there.

        Raises:
            _RefusedError: nothing can be made of it, or something else is in the way.
        """
        content = self._content(job.photo)
        mask = None if self._mask is None else self._content(self._mask_of(job))
        source = hashlib.sha256(content + b"\0" + (mask or b"")).hexdigest()
        there = self._known.get(job.result)
        same = there is not None and (there.input, there.key) == (source, self._key)
        if there and same and all((self._folder / name).exists() for name in there.files):
            return None
        if there and not same and any((self._folder / name).exists() for name in there.files):
            raise _RefusedError(f"{there.files[0]} was made of another photo, or otherwise: use another --out")
        try:
            photo = read_photo(content, self._limits.max_input_pixels, self._request.frames, reads_heic())
            files, said = self._results(job, photo, mask, hashlib.sha256(content).hexdigest())
        except _RefusedError:
            raise
        except MemoryError:
            raise _RefusedError("there is not enough memory for it") from None
        except UserError as error:
            raise _RefusedError(str(error)) from None
        # Whatever a decoder raises that met something odd.
        except Exception as error:
            raise _RefusedError(printable(" ".join(str(error).split())) or type(error).__name__) from None
        for name in files:
            if (self._folder / name).exists() and not (there and same and name in there.files):
                raise _RefusedError(f"{name} is in the way, and was not made by this: move it, or use another --out")
        # First, so that a result is never found without it.
        self._write(_Row(result=job.result, files=tuple(files), input=source, key=self._key))
        for name, made in files.items():
            write_whole(self._folder / name, made)
        return Result(next(iter(files)), said)

    def _results(self, job: _Job, photo: Photo, mask: bytes | None, digest: str) -> tuple[dict[str, bytes], list[str]]:
        scale = self._model.network.scale
        height, width = photo.size
        if height * width * scale**2 > self._limits.max_output_pixels:
            raise _RefusedError(
                f"{width}x{height} enlarged {scale} times has more than apply.max_output_pixels = "
                f"{self._limits.max_output_pixels:,} pixels"
            )
        said = list(photo.said)
        holes = None if mask is None else mask_of(mask, photo.size, self._request.grow)
        if holes is not None and not holes.any():
            said.append("its mask shows nothing to repaint")
        form, why = format_of(photo, self._request.format, exact=holes is not None)
        if why:
            said.append(why)
        with tqdm(
            total=height * width, desc=job.photo.name, unit="pix", unit_scale=True, disable=None, leave=False
        ) as bar:
            made = in_windows(
                self._model,
                photo.colours,
                holes,
                side=self._limits.window,
                strength=self._request.strength,
                done=bar.update,
            )
        facts = {
            "model": self._named.key,
            **({"version": f"{self._named.name} {self._named.version}"} if self._named.version else {}),
            "task": self._model.task.name,
            "input": digest,
            **({"strength": f"{self._request.strength:g}"} if self._request.strength < 1 else {}),
        }
        mark = metadata.ENHANCED if holes is None else metadata.COMPOSITE
        name = f"{job.result}.{ending_of(form)}"
        files = {name: encoded(photo, made, form, facts, mark, not self._request.strip_metadata)}
        if self._request.compare:
            files[f"{job.result}{_PREVIEW}"] = side_by_side(photo.colours, made)
        return files, said

    def _mask_of(self, job: _Job) -> Path:
        assert self._mask is not None
        if not self._mask.is_dir():
            return self._mask
        place = self._mask / job.result
        found = sorted(place.parent.glob(f"{glob.escape(place.name)}.*")) if place.parent.is_dir() else []
        if not found:
            raise _RefusedError(f"there is no mask of this name in {self._mask}")
        return found[0]

    def _content(self, file: Path) -> bytes:
        try:
            return file.read_bytes()
        except OSError as error:
            raise _RefusedError((error.strerror or "cannot be read").lower()) from None

    def _read(self) -> dict[str, _Row]:
        rows: list[_Row] = []
        if self._journal.exists():
            for line in self._journal.read_text(errors="replace").splitlines():
                # The last one may be cut short by a crash.
                with suppress(ValidationError):
                    rows.append(_Row.model_validate_json(line))
        return {row.result: row for row in rows}

    def _write(self, row: _Row) -> None:
        self._known[row.result] = row
        # After a line that was cut short, too.
        with self._journal.open("a") as file:
            file.write(f"\n{row.model_dump_json()}" if file.tell() else row.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
