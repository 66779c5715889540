"""Photos through a model of an image task, into a folder or bucket; what is there already is not made again.

Not a stage: its results lie wherever the user wants them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, NamedTuple

from tqdm import tqdm

from .gan.errors import NotThereError, StoppedError, UserError
from .gan.tasks.translation import Restyling
from .photos.maker import ApplyRequest, Job, Made, Maker, carries_over, label_of
from .photos.results import ResultFolder, ResultRow
from .photos.sources import SourceFile, arrived_at, is_address, masks_at, photos_at
from .pictures.opening import hush
from .services import signals, versioning
from .services.cluster import placement, session, tasks
from .services.destination import Destination, lies_in
from .services.tracking.named_model import NamedModel, named_model
from .workspace.params import Params
from .workspace.text import shortened
from .workspace.workspace import Workspace

# What is asked of models that carry pictures over, and of no others, and what says how these are fitted.
_CARRYING = {"to", "size", "seed"}
_FITTING = {"fit", "reduce", "background", "bits"}


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


def apply(
    photos: Sequence[str], out: str, request: ApplyRequest, mask: str | None, params: Params, workspace: Workspace
) -> Applied:
    """Make the results of all photos, and of those in folders, that are not there yet; each is whole or not there.

    `photos`, `out` and `mask` are paths, or addresses such as s3://bucket/prefix. Where `RAY_ADDRESS` names a cluster,
    its nodes share the work.

    Raises:
        UserError: there is no such model, photo or mask, the model makes images of noise, or `out` cannot be used; and
            before anything is made where two photos have one result.
        StoppedError: the user pressed Ctrl-C; what is made stays.
    """
    named = _model_of(request, params, workspace, masked=mask is not None)
    place = _destination(out, photos, params, workspace)
    applied = Applied(out)
    found = [photo for named_place in photos for photo in photos_at(named_place, applied.left)]
    if not found:
        raise UserError("there is no picture in what was named: name photos, or folders of them")
    _require_names(found)
    masks = {} if mask is None else masks_at(mask)
    with ResultFolder(place) as folder:
        work = _Work(named, request, params, folder, applied)
        work.run(found, mask, masks)
    return applied


def apply_to_arrived(request: ApplyRequest, params: Params, workspace: Workspace) -> Applied:
    """Make the results of the photos in `apply.inbox` that none was made of yet, by whichever model, in `apply.out`.

    A photo is known by its bytes. One that has the name of another gets a part of its hash into the name of its result.

    Raises:
        UserError: no inbox is named, the model repairs what a mask shows, or as `apply`.
        StoppedError: as `apply`.
    """
    inbox = params.apply.inbox
    if inbox is None:
        raise UserError("no apply.inbox is named: name photos, or set apply.inbox to a folder or s3://bucket/prefix")
    named = _model_of(request, params, workspace, masked=False)
    source = inbox if is_address(inbox) else str(workspace.root / inbox)
    place = _destination(params.apply.out, [source], params, workspace)
    applied = Applied(params.apply.out)
    with ResultFolder(place) as folder:
        work = _Work(named, request, params, folder, applied, arriving=True)
        work.run(arrived_at(source, applied.left), None, {})
    return applied


class _RefusedError(Exception):
    """A photo of which nothing is made; the message says why."""


class _Work:
    """Makes results of photos, and writes down what came of each."""

    def __init__(
        self,
        named: NamedModel,
        request: ApplyRequest,
        params: Params,
        folder: ResultFolder,
        applied: Applied,
        arriving: bool = False,
    ) -> None:
        self._folder, self._applied, self._arriving = folder, applied, arriving
        version = f"{named.name} {named.version}" if named.version else ""
        self._maker = Maker(named.published, named.key, version, request, params.apply, params.preprocess)
        asked: list[Any] = [named.key, request.model_dump(mode="json", exclude={"model", *_CARRYING})]
        self._wanted = ""
        if carries_over(named.published):
            asked += [
                request.model_dump(mode="json", include=_CARRYING),
                params.preprocess.model_dump(mode="json", include=_FITTING),
            ]
            # Where nothing belongs to a picture that it could be made like, its class is to be another.
            self._wanted = request.to if isinstance(named.published.network.task, Restyling) else ""
        self._key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]
        # Of results that are made now, to tell apart those of one name.
        self._taken: set[str] = set()

    def run(self, photos: Sequence[SourceFile], mask: str | None, masks: Mapping[str, SourceFile]) -> None:
        """Make the results of `photos`; `mask` is what the user named, `masks` the files there."""
        hush()
        with tqdm(total=len(photos), desc="apply", unit="photo", disable=None) as bar, _stopped():
            for made in self._results(self._jobs(photos, mask, masks, bar)):
                try:
                    self._keep(made)
                except _RefusedError as error:
                    self._applied.refused[made.name] = str(error)
                bar.update()

    def _results(self, jobs: Iterable[Job]) -> Iterator[Made]:
        if session.address() is None:
            # One after the other, each by all cores: two large photos at once would take twice the memory.
            return map(self._maker.made, jobs)
        gpu = any(node.gpus for node in placement.nodes())
        return tasks.run_parts(self._maker, lambda job: (), jobs, gpu=gpu)

    def _jobs(
        self, photos: Sequence[SourceFile], mask: str | None, masks: Mapping[str, SourceFile], bar: tqdm[Any]
    ) -> Iterator[Job]:
        """Yield what is to be made; what is there, or cannot be read, is written down."""
        for photo in photos:
            bar.set_postfix_str(shortened(photo.name, 40))
            try:
                job = self._job(photo, mask, masks)
            except _RefusedError as error:
                self._applied.refused[photo.name] = str(error)
            else:
                if job is not None:
                    yield job
                    continue
                self._applied.before += 1
            bar.update()

    def _job(self, photo: SourceFile, mask: str | None, masks: Mapping[str, SourceFile]) -> Job | None:
        """Return what is to be made of a photo; None where its result is there.

        Raises:
            _RefusedError: it or its mask cannot be read, its class is the one wanted, or a result of its name is of
                something else.
        """
        if self._wanted and PurePath(photo.name).parent.name == self._wanted:
            raise _RefusedError(
                f"it lies in a folder {self._wanted}, and is one already: ask for another class by --to"
            )
        content = _read(photo)
        holes = None
        if mask is not None:
            if (found := masks.get(photo.stem) or masks.get("")) is None:
                raise _RefusedError(f"there is no mask of this name in {mask}")
            holes = _read(found)
        source = hashlib.sha256(content + b"\0" + (holes or b"")).hexdigest()
        if self._arriving:
            there = self._folder.made_of(source)
            if there and all(map(self._folder.holds, there.files)):
                return None
            return Job(photo.name, self._free(photo.stem, source), source, content, holes)
        there = self._folder.made(photo.stem)
        held = [name for name in there.files if self._folder.holds(name)] if there else []
        if there and (there.input, there.key) != (source, self._key):
            if held:
                raise _RefusedError(f"{held[0]} was made of another photo, or otherwise: use another --out")
        elif there and len(held) == len(there.files):
            return None
        return Job(photo.name, photo.stem, source, content, holes)

    def _free(self, stem: str, source: str) -> str:
        """Return a name for the result of a photo that no other photo has, nor had."""
        there = self._folder.made(stem)
        name = f"{stem}-{source[:8]}" if (there and there.input != source) or stem.casefold() in self._taken else stem
        self._taken.add(name.casefold())
        return name

    def _keep(self, made: Made) -> None:
        """Put a result where it belongs.

        Raises:
            _RefusedError: there is none, or something else is in the way.
        """
        if made.refused:
            raise _RefusedError(made.refused)
        there = self._folder.made(made.result)
        own = there.files if there and there.input == made.source else ()
        for name in made.files:
            if self._folder.holds(name) and name not in own:
                raise _RefusedError(f"{name} is in the way, and was not made by this: move it, or use another --out")
        row = ResultRow(result=made.result, files=tuple(made.files), input=made.source, key=self._key)
        self._folder.put(row, made.files)
        self._applied.made.append(Result(next(iter(made.files)), made.said))


def _model_of(request: ApplyRequest, params: Params, workspace: Workspace, masked: bool) -> NamedModel:
    """Return the model that is asked for.

    Raises:
        UserError: there is none, or it is none for photos with, or without, masks, or for the class, size or seed.
    """
    named = named_model(request.model, params.register.name, workspace)
    repairs = named.published.network.task.given(3) == 4
    if repairs != masked:
        raise UserError(
            "this model repairs what a mask shows: name it, or a folder of masks, by --mask"
            if repairs
            else "only a model that repairs pictures takes a --mask"
        )
    label_of(named.published, request.to)
    if request.size != "model" and not carries_over(named.published):
        raise UserError(
            "--size is for models that translate or restyle: the results of this one have the photos' sizes"
        )
    if request.seed and not named.published.network.task.latent:
        raise UserError("this model is given no numbers of chance, and makes one result of a photo: leave out --seed")
    return named


def _destination(out: str, photos: Sequence[str], params: Params, workspace: Workspace) -> Destination:
    """Return where results go.

    Raises:
        UserError: something else is kept there, or it lies in what is to be changed.
    """
    others = (params.retrain.inbox, params.train.storage, *versioning.remotes(workspace))
    place = Destination.of(out, workspace, filter(None, others))
    for source in photos:
        if lies_in(place, source):
            raise UserError(f"{out} lies in {source}, whose pictures are to be changed: name another folder by --out")
    return place


def _require_names(photos: Sequence[SourceFile]) -> None:
    """Raise UserError where two photos would have one result."""
    results: dict[str, SourceFile] = {}
    for photo in photos:
        if (other := results.setdefault(photo.stem.casefold(), photo)).name != photo.name:
            raise UserError(
                f"{other.name} and {photo.name} would have one result, {photo.stem}: rename one, or use two folders"
            )


def _read(file: SourceFile) -> bytes:
    try:
        return file.read()
    except NotThereError:
        raise _RefusedError("it is not there any more") from None
    except UserError as error:
        raise _RefusedError(str(error)) from None
    except OSError as error:
        raise _RefusedError((error.strerror or "cannot be read").lower()) from None


@contextmanager
def _stopped() -> Iterator[None]:
    try:
        with signals.as_interrupt():
            yield
    except KeyboardInterrupt:
        raise StoppedError("with what is lacking") from None
