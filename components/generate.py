"""A batch of pictures by a finished model, into a folder or a bucket; what is there already is not made again.

Not a stage: its result lies wherever the user wants it.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from tqdm import tqdm

from .gan.errors import StoppedError, UserError
from .gan.options import Options
from .gan.published import Published
from .gan.sampling import labels_by_name
from .pictures import metadata
from .pictures.finishing import Draft, ImageStep
from .pictures.opening import opened
from .pictures.tiles import grid, tile_size
from .services import signals, versioning
from .services.cluster import placement, session, tasks
from .services.destination import Destination
from .services.picture_folder import PictureBatch, PictureFolder, Steps
from .services.storage import Storage
from .services.tracking.named_model import ModelName, chosen_truncation, named_model
from .workspace.params import Params, Place
from .workspace.workspace import Workspace

if TYPE_CHECKING:
    from PIL import Image

# Pictures that are made by one task.
CHUNK = 100
# Pictures that a preview shows, in a row and in all, and the longer side of each.
COLUMNS, PREVIEW, SIDE = 10, 40, 64


class GenerateRequest(Options):
    """Which pictures are to be made by which model, and where they go."""

    images: int = Field(100, ge=1, le=1_000_000, description="how many")
    label: str = Field("", description="class of all of them; empty: all classes in turn")
    seed: int = Field(0, ge=0, lt=2**53, description="of the first; each next one has the next seed")
    truncation: Annotated[float, Field(gt=0, le=1)] | Literal["chosen"] = Field(
        1.0, description="below 1: more typical, less diverse; chosen: the best of the model's evaluation"
    )
    steps: Steps | None = Field(
        None,
        description="finishing steps, in this order; none given: postprocess.steps of params.yaml, without those that "
        "choose among pictures",
    )
    out: Place = Field(
        "",
        description="folder, relative to the workspace, or s3://bucket/prefix; empty: a folder of its own in renders/ "
        "for each model and choice of options",
    )
    model: ModelName = Field("champion", description="a version's number, champion, challenger or workspace")


class Generated(NamedTuple):
    """A batch of which all is there, `made` of it just now.

    `place` is the folder or address of `storage` as a user writes it; `first` names some pictures in it.
    """

    batch: PictureBatch
    storage: Storage
    place: str
    first: Sequence[str]
    made: int

    def __str__(self) -> str:
        before = self.batch.images - self.made
        return f"{self.batch} in {self.place}" + (f", {before:,} of them from before" if before else "")


def generate(request: GenerateRequest, params: Params, workspace: Workspace) -> Generated:
    """Make the pictures of a batch that are not there yet; each file is written whole or not at all.

    A picture depends on the model and the request alone, not on how the work is shared: by Ray tasks where
    `RAY_ADDRESS` names a cluster, else by processes of this machine (threads where it has a GPU).

    Raises:
        UserError: there is no such model or class, no truncation was chosen for it, `out` holds something else or
            cannot be written, or a step cannot treat such images.
        StoppedError: the user pressed Ctrl-C, closed the terminal or sent SIGTERM; what is made stays.
    """
    named = named_model(request.model, params.register.name, workspace)
    model, name, version, key = named
    if model.task.name != "generate":
        raise UserError(
            f"{name} makes images of images, by the task {model.task.name}, and none of noise: "
            "`ganflow apply` gives it photos"
        )
    # What is made is known by the number.
    truncation = chosen_truncation(named, workspace) if request.truncation == "chosen" else request.truncation
    steps = request.steps
    if steps is None:
        steps = tuple(step for step in params.postprocess.steps if isinstance(step, ImageStep))
    classes = model.image.classes
    try:
        labels = labels_by_name(classes, request.label, request.images)
    except ValueError as error:
        raise UserError(str(error)) from None
    # What a step refuses is told before anything is made.
    _finished(Draft(np.zeros(model.image.shape, np.uint8), 0, 0, {}), steps)
    batch = PictureBatch(
        name=name,
        version=version,
        model=key,
        images=request.images,
        label=request.label,
        seed=request.seed,
        truncation=truncation,
        steps=steps,
    )
    names = [
        metadata.names_of(request.seed + number, int(label), classes, model.image.channels)
        for number, label in enumerate(labels)
    ]
    others = (params.retrain.inbox, params.train.storage, *versioning.remotes(workspace))
    place = Destination.of(request.out or f"renders/{batch.id}", workspace, filter(None, others))
    with PictureFolder.open(batch, {name for files in names for name in files}, place) as folder:
        lacking = [number for number, files in enumerate(names) if not folder.there.issuperset(files)]
        if folder.hashes is None or lacking:
            try:
                with signals.as_interrupt():
                    made = _fill(folder, model, lacking)
                    folder.finish(made, (name for files in names for name in files))
            except KeyboardInterrupt:
                raise StoppedError("with what is lacking") from None
    return Generated(batch, folder.storage, folder.place, [files[0] for files in names[:PREVIEW]], len(lacking))


def preview(generated: Generated) -> Image.Image:
    """Return the first pictures of a batch, in rows."""
    shown = []
    with tempfile.TemporaryDirectory() as folder:
        for name in generated.first:
            file = Path(folder, name)
            if generated.storage.get(name, file):
                with opened(file) as image:
                    shown.append(np.atleast_3d(np.asarray(image)))
    return grid(shown, COLUMNS, tile_size(shown[0], SIDE))


def finished_chunk(
    chunk: Sequence[int], contents: Iterable[None], *, batch: PictureBatch, model: Published, driver: int
) -> dict[str, bytes]:
    """Return the files of the pictures with these numbers, by name. `driver` is the process that wants them."""
    if os.getppid() == driver:
        _end_with(driver)
    classes = model.image.classes
    labels = labels_by_name(classes, batch.label, chunk[-1] + 1)[list(chunk)]
    seeds = [batch.seed + number for number in chunk]
    facts = {"model": batch.model}
    if batch.version is not None:
        facts["version"] = f"{batch.name} {batch.version}"
    if batch.truncation < 1:
        facts["truncation"] = str(batch.truncation)
    files: dict[str, bytes] = {}
    for pixels, seed, label in zip(model.sample(seeds, labels, batch.truncation), seeds, labels, strict=True):
        draft = _finished(Draft(pixels, seed, int(label), {}), batch.steps)
        files |= metadata.files_of(draft, classes, facts)
    return files


@cache
def _end_with(driver: int) -> None:
    """Let this process end when the one that started it was killed: it would wait for work for ever."""

    def watch() -> None:
        while os.getppid() == driver:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _finished(draft: Draft, steps: Steps) -> Draft:
    for step in steps:
        (draft,) = step.apply([draft])
    return draft


def _fill(folder: PictureFolder, model: Published, lacking: Sequence[int]) -> dict[str, str]:
    """Make the pictures with these numbers, in rising order; the sha256 of each file by its name."""
    chunks = [lacking[start : start + CHUNK] for start in range(0, len(lacking), CHUNK)]
    work = partial(finished_chunk, batch=folder.batch, model=model, driver=os.getpid())
    gpu = bool(chunks) and session.address() is not None and any(node.gpus for node in placement.nodes())
    # Finishing steps hold Python's lock for much of their time. But not every process shall take a share of a GPU, and
    # for a few pictures none is started.
    processes = len(chunks) > 1 and not torch.cuda.is_available()
    total = folder.batch.images
    hashes: dict[str, str] = {}
    with tqdm(total=total, initial=total - len(lacking), desc="generate", unit="img", disable=None) as bar:
        done = tasks.run_parts(work, lambda chunk: (), chunks, gpu=gpu, processes=processes)
        for chunk, files in zip(chunks, done, strict=True):
            hashes |= folder.put(files)
            bar.update(len(chunk))
    return hashes
