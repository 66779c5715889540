"""A batch of finished pictures by the champion, into a folder or a bucket; what is there already is not made again.

Not a stage: its result lies wherever the user wants it. `render.json` says beside the pictures what they are of; it is
written first, so that nothing else is ever mixed with them, and again at the end, with the hash of each file.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import numpy as np
import torch
from pydantic import Field, ValidationError
from tqdm import tqdm

from .gan.errors import StoppedError, UserError
from .gan.options import Options
from .gan.published import Published
from .gan.sampling import labels_by_name
from .pictures import metadata
from .pictures.finishing import Draft, ImageStep, PictureStep
from .pictures.tiles import grid, tile_size
from .services.cluster import placement, session, tasks, trainer
from .services.storage import Storage
from .services.tracking import champions
from .workspace.files import sha256_of
from .workspace.params import Params, Place
from .workspace.published import load_published
from .workspace.workspace import Workspace

if TYPE_CHECKING:
    from PIL import Image

MANIFEST = "render.json"
# Pictures that are made by one task.
CHUNK = 100
# Files on their way to a bucket at a time.
AT_ONCE = 8
# Pictures that a preview shows, in a row and in all, and the longer side of each.
COLUMNS, PREVIEW, SIDE = 10, 40, 64
Steps = tuple[Annotated[PictureStep, Field(discriminator="name")], ...]


class Batch(Options):
    """Which pictures the champion is to make, and where they go."""

    images: int = Field(100, ge=1, le=1_000_000, description="how many")
    label: str = Field("", description="class of all of them; empty: all classes in turn")
    seed: int = Field(0, ge=0, lt=2**53, description="of the first; each next one has the next seed")
    truncation: float = Field(1.0, gt=0, le=1, description="below 1: more typical, less diverse")
    steps: Steps | None = Field(
        None,
        description="finishing steps, in this order; none given: postprocess.steps of params.yaml, without those that "
        "choose among pictures",
    )
    out: Place = Field(
        "",
        description="folder, relative to the workspace, or s3://bucket/prefix; empty: a folder of its own in renders/ "
        "for each version and choice of options",
    )


class Rendering(Options):
    """`render.json`: what the pictures beside it are of, and when all are there the sha256 of each file."""

    name: str = Field(description="of the registered model")
    version: int
    model: str = Field(description="the model's key")
    images: int
    label: str
    seed: int
    truncation: float
    steps: Steps
    files: dict[str, str] | None = None

    @property
    def id(self) -> str:
        """Hash of all that the pictures depend on."""
        return hashlib.sha256(self.model_dump_json(exclude={"files"}).encode()).hexdigest()[:16]


class Rendered(NamedTuple):
    """A batch of which all is there, `made` of it just now.

    `place` is the folder or address of `storage` as a user writes it; `first` names some pictures in it.
    """

    batch: Rendering
    storage: Storage
    place: str
    first: Sequence[str]
    made: int

    def __str__(self) -> str:
        before = self.batch.images - self.made
        words = f"{self.batch.images:,} images of {self.batch.name} version {self.batch.version} in {self.place}"
        return f"{words}, {before:,} of them from before" if before else words


def render(options: Batch, params: Params, workspace: Workspace) -> Rendered:
    """Make the pictures of a batch that are not there yet; each file is written whole or not at all.

    A picture depends on the model and the options alone, not on how the work is shared: by Ray tasks where
    `RAY_ADDRESS` names a cluster, else by processes of this machine (threads where it has a GPU).

    Raises:
        UserError: there is no champion or no such class, `out` holds something else or cannot be written, or a step
            cannot treat such images.
        StoppedError: the user pressed Ctrl-C or sent SIGTERM; what is made stays.
    """
    champion = champions.champion(params.register.name, workspace)
    if champion is None:
        raise UserError(
            f"{params.register.name} has no champion: run `ganflow run`, which makes a model and makes it champion if "
            "it passes the checks"
        )
    model = load_published(champion.folder, str(champion))
    steps = options.steps
    if steps is None:
        steps = tuple(step for step in params.postprocess.steps if isinstance(step, ImageStep))
    classes = model.image.classes
    try:
        labels = labels_by_name(classes, options.label, options.images)
    except ValueError as error:
        raise UserError(str(error)) from None
    # What a step refuses is told before anything is made.
    _finished(Draft(np.zeros(model.image.shape, np.uint8), 0, 0, {}), steps)
    batch = Rendering(
        name=champion.name,
        version=champion.version,
        model=champion.key,
        images=options.images,
        label=options.label,
        seed=options.seed,
        truncation=options.truncation,
        steps=steps,
    )
    place = options.out or f"renders/{batch.id}"
    storage = _storage(place, workspace)
    names = [
        metadata.names_of(options.seed + i, int(label), classes, model.image.channels) for i, label in enumerate(labels)
    ]
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        there, known = _begin(batch, storage, place, scratch)
        if "://" not in place:
            for left in (workspace.root / place).glob("*.part"):
                # Begun by a process that was killed.
                left.unlink()
        lacking = [i for i, files in enumerate(names) if not there.issuperset(files)]
        rendered = Rendered(batch, storage, place, [files[0] for files in names[:PREVIEW]], len(lacking))
        if known is None or lacking:
            try:
                with trainer.sigterm_as_interrupt():
                    made = _fill(batch, model, lacking, storage, scratch)
                    kept = [name for files in names for name in files if name not in made]
                    hashes = made | (known or _hashes(kept, storage, scratch))
            except KeyboardInterrupt:
                raise StoppedError("with what is lacking") from None
            _write(batch.model_copy(update={"files": dict(sorted(hashes.items()))}), storage, scratch)
    return rendered


def preview(rendered: Rendered) -> Image.Image:
    """The first pictures of a batch, in rows."""
    from PIL import Image

    shown = []
    with tempfile.TemporaryDirectory() as folder:
        for name in rendered.first:
            file = Path(folder, name)
            if rendered.storage.get(name, file):
                with Image.open(file) as image:
                    shown.append(np.atleast_3d(np.asarray(image)))
    return grid(shown, COLUMNS, tile_size(shown[0], SIDE))


def finished_chunk(
    chunk: Sequence[int], contents: Iterable[None], *, batch: Rendering, model: Published, driver: int
) -> dict[str, bytes]:
    """The files of the images with these numbers, by name. `driver` is the process that wants them."""
    if os.getppid() == driver:
        _end_with(driver)
    classes = model.image.classes
    labels = labels_by_name(classes, batch.label, batch.images)[list(chunk)]
    seeds = [batch.seed + number for number in chunk]
    facts = {"model": batch.model, "version": f"{batch.name} {batch.version}"}
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


def _storage(place: str, workspace: Workspace) -> Storage:
    """Where the pictures go.

    Raises:
        UserError: it is none, or a folder of the workspace that is not for pictures.
    """
    if "://" in place:
        return Storage(place)
    folder = (workspace.root / place).resolve()
    for own in (workspace.data, workspace.model.parent, workspace.mlruns, workspace.state):
        if folder.is_relative_to(own.resolve()):
            raise UserError(f"{place} lies in {own.name}/, which is not for pictures: choose another folder")
    return Storage(str(folder))


def _begin(batch: Rendering, storage: Storage, place: str, scratch: Path) -> tuple[set[str], dict[str, str] | None]:
    """Names of the files that are there, and their hashes if all were there once; writes down what is to come.

    Raises:
        UserError: there is something else.
    """
    # A crash of the machine may leave empty files.
    there = {name for name, size in storage.sizes().items() if size}
    if not there:
        _write(batch, storage, scratch)
        return there, None
    try:
        storage.get(MANIFEST, scratch / MANIFEST)
        found = Rendering.model_validate_json((scratch / MANIFEST).read_bytes())
    except (FileNotFoundError, ValidationError):
        raise UserError(f"{place} holds files that are not of a rendering: choose another folder") from None
    if found.id != batch.id:
        raise UserError(
            f"{place} holds {found.images:,} images of {found.name} version {found.version} or is to hold them, made "
            "with other options or by another model: choose another folder"
        )
    return there, found.files


def _fill(
    batch: Rendering, model: Published, lacking: Sequence[int], storage: Storage, scratch: Path
) -> dict[str, str]:
    """Make the pictures with these numbers; the sha256 of each file by its name."""
    chunks = [lacking[start : start + CHUNK] for start in range(0, len(lacking), CHUNK)]
    work = partial(finished_chunk, batch=batch, model=model, driver=os.getpid())
    gpu = bool(chunks) and session.address() is not None and any(node.gpus for node in placement.nodes())
    # Finishing steps hold Python's lock for much of their time; but not every process shall take a share of a GPU.
    processes = not torch.cuda.is_available()
    hashes: dict[str, str] = {}
    with (
        ThreadPoolExecutor(AT_ONCE) as hands,
        tqdm(total=batch.images, initial=batch.images - len(lacking), desc="render", unit="img", disable=None) as bar,
    ):

        def put(name: str, content: bytes) -> None:
            file = scratch / name
            file.write_bytes(content)
            storage.put(file, name)
            file.unlink()

        done = tasks.run_parts(work, lambda chunk: (), chunks, gpu=gpu, processes=processes)
        for chunk, files in zip(chunks, done, strict=True):
            list(hands.map(put, files.keys(), files.values()))
            hashes |= {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
            bar.update(len(chunk))
    return hashes


def _hashes(names: Sequence[str], storage: Storage, scratch: Path) -> dict[str, str]:
    """sha256 of files that are there."""

    def of(name: str) -> str:
        file = scratch / name
        storage.get(name, file)
        digest = sha256_of(file)
        file.unlink()
        return digest

    with ThreadPoolExecutor(AT_ONCE) as hands:
        return dict(zip(names, hands.map(of, names), strict=True))


def _write(batch: Rendering, storage: Storage, scratch: Path) -> None:
    (scratch / MANIFEST).write_text(batch.model_dump_json(indent=2) + "\n")
    storage.put(scratch / MANIFEST, MANIFEST)
