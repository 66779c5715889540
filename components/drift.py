"""Newly arrived images against those that the champion learned from: a test with a budget of false alarms."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import Field

from .evaluation.given import features_of, load_given, seen_of
from .evaluation.reference import Reference, load_reference
from .gan.dataset import Pixels
from .gan.errors import DamagedError, NotThereError, UserError
from .gan.options import ImageFormat, Options
from .gan.tasks.options import AnyTask
from .ingest.duplicates import groups_of, near_pairs
from .ingest.formats import find_raw_images
from .ingest.inbox.inbox import arrived
from .ingest.part_tables import PartTable, make_part
from .ingest.parts import read, thinned
from .measures.distances import Features
from .measures.two_sample import one_of_each, two_sample
from .photos.fitting import fitted
from .photos.sources import SourceFile, photos_at
from .pictures.opening import hush, reads_heic
from .pictures.photo import read_photo
from .services.cluster import tasks
from .services.tracking import champions, registry
from .workspace.artifacts import Dataset
from .workspace.params import Params
from .workspace.published import load_published
from .workspace.workspace import Workspace

# The least p-value is a tenth of the false-alarm rate, or less.
PERMUTATIONS_PER_ALARM = 10
PART = 64
_NOTHING = np.empty((0, 0, 0, 0), np.uint8), np.empty((0, 1, 0), np.uint8)


class DriftResult(Options):
    """What was found; without enough new images there is no p-value."""

    champion: int
    new: int
    used: int
    statistic: float | None = None
    p_value: float | None = None
    alpha: float
    drifted: bool = False
    # Not new data, but photos that the champion is applied to.
    given: bool = Field(False, exclude_if=lambda given: not given)

    @property
    def message(self) -> str:
        """What was found, in half a sentence."""
        if self.given:
            return self._of_photos
        if self.p_value is None:
            return f"{self.new} new images are too few to be judged against those of version {self.champion}"
        told = f"p = {self.p_value:.2g}, alarm below {self.alpha:.2g}"
        if self.drifted:
            return f"{self.new} new images differ from what version {self.champion} learned from ({told})"
        return f"{self.new} new images look like what version {self.champion} learned from ({told})"

    @property
    def _of_photos(self) -> str:
        usable = f"{self.used} of {self.new} photos can be compared"
        if self.p_value is None:
            return f"{usable}, too few to be judged against what version {self.champion} was given in training"
        told = f"p = {self.p_value:.2g}, alarm below {self.alpha:.2g}"
        if self.drifted:
            return (
                f"{usable}, and look unlike what version {self.champion} was given in training ({told}): what it makes "
                "of them may be worse than its scores say"
            )
        return f"{usable}, and look like what version {self.champion} was given in training ({told})"


def given_drift(photos: Sequence[str], params: Params, workspace: Workspace) -> DriftResult:
    """Judge whether photos look like what the champion was given of its training's images.

    They are named as for `apply`: files, folders and addresses.

    Raises:
        UserError: there is no champion of an image task, no photo, or nothing is known any more of what it was given.
    """
    champion = champions.champion(params.register.name, workspace)
    if champion is None:
        raise NotThereError("there is no champion to compare with: run `ganflow run`")
    task = load_published(champion.folder, str(champion)).task
    if task.name == "generate":
        raise UserError(f"{champion} makes images of noise, and is given no photos: `ganflow drift` looks at its inbox")
    files = sorted((photo for place in photos for photo in photos_at(place, {})), key=lambda photo: photo.name)
    if not files:
        raise UserError("there is no picture in what was named: name photos, or folders of them")
    data = registry.tags(champion.name, champion.version, workspace).get("data", "")
    options, alpha = params.drift, min(1.0, params.drift.false_alarms / params.drift.ticks)
    reference = load_given(data, task, workspace)
    hush()
    pieces: dict[str, Pixels] = {}
    # Any of them, and not those of the first folder.
    for at in np.random.default_rng(0).permutation(len(files)):
        if len(pieces) < options.max_images and (piece := _piece(files[at], task, reference, params)):
            # The same photo twice says the same again.
            pieces.setdefault(*piece)
    found = DriftResult(champion=champion.version, new=len(files), used=len(pieces), alpha=alpha, given=True)
    if len(pieces) < options.min_images:
        return found
    return _judged(found, features_of([*pieces.values()], reference), reference.held, sorted(pieces))


def _piece(file: SourceFile, task: AnyTask, reference: Reference, params: Params) -> tuple[str, Pixels] | None:
    """Return the hash of a photo and what it is compared by; None where it cannot be read, or is too small."""
    try:
        content = file.read()
        photo = read_photo(content, params.apply.max_input_pixels, "first", reads_heic())
        if task.name in ("translate", "restyle"):
            # Taken whole, as its training pictures were.
            whole = fitted(content, photo, reference.image, params.preprocess, "model").pixels
            return hashlib.sha256(content).hexdigest(), whole
    # Whatever a decoder raises that met something odd.
    except Exception:
        return None
    seen = seen_of(photo.colours, content, task, reference)
    return None if seen is None else (hashlib.sha256(content).hexdigest(), seen)


def _judged(found: DriftResult, features: Features, held: Features, named: Sequence[str]) -> DriftResult:
    """Return the result with that of the test, whose permutations are drawn by what is `named`."""
    seed = int.from_bytes(hashlib.sha256("".join(named).encode()).digest()[:8], "big")
    permutations = max(1000, round(PERMUTATIONS_PER_ALARM / found.alpha))
    test = two_sample(features, held, permutations, np.random.default_rng(seed))
    told = {"statistic": test.statistic, "p_value": test.p_value, "drifted": test.p_value <= found.alpha}
    return found.model_copy(update=told)


def drift(params: Params, workspace: Workspace) -> DriftResult:
    """Judge what lies in `retrain.inbox` and is not in `data/`.

    Raises:
        UserError: there is no inbox, no champion, or nothing is known any more of what it learned from.
    """
    if params.retrain.inbox is None:
        raise UserError("there is no inbox to look into: name a folder or bucket as retrain.inbox in params.yaml")
    champion = champions.champion(params.register.name, workspace)
    if champion is None:
        raise NotThereError("there is no champion to compare with: run `ganflow run`")
    data = registry.tags(champion.name, champion.version, workspace).get("data", "")
    options, alpha = params.drift, min(1.0, params.drift.false_alarms / params.drift.ticks)
    files = arrived(params.retrain.inbox, workspace).files
    reference = load_reference(data, workspace)
    pixels, count = _pixels(files, reference.image, params, workspace) if files else (None, 0)
    # Images of one file or burst are no more than one: the test holds of images that come independently.
    if pixels is None or len(pixels) < options.min_images:
        return DriftResult(champion=champion.version, new=count, used=0, alpha=alpha)
    features = reference.net.read(pixels).features.astype(np.float64)
    seed = int.from_bytes(hashlib.sha256(pixels.tobytes()).digest()[:8], "big")
    permutations = max(1000, round(PERMUTATIONS_PER_ALARM / alpha))
    found = two_sample(features, reference.held, permutations, np.random.default_rng(seed))
    return DriftResult(
        champion=champion.version,
        new=count,
        used=len(pixels),
        statistic=found.statistic,
        p_value=found.p_value,
        alpha=alpha,
        drifted=found.p_value <= alpha,
    )


def _pixels(files: dict[str, Path], image: ImageFormat, params: Params, workspace: Workspace) -> tuple[Pixels, int]:
    """At most `drift.max_images` of the new images (N, H, W, C), one of each file, and how many files there are."""
    options = params.preprocess.model_copy(
        update={
            "resolution": (image.height, image.width),
            "channels": image.channels,
            "bits": _bits(params, workspace),
            # Of a photo one piece is compared.
            "patches_per_file": 1,
            # Whatever lies there is looked at, of any kind and without its label.
            **{"source": "all", "labels": "none", "splits": "none", "strict": False},
        }
    )
    scratch = workspace.state / "drift.tmp"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        # Links, so that only what is new is seen, by the same reader as data/.
        for name, file in files.items():
            link = scratch / "new" / name
            try:
                link.parent.mkdir(parents=True, exist_ok=True)
            except OSError:
                # In a bucket a name may be a file's and a folder's: the first is looked at.
                continue
            try:
                os.link(file, link, follow_symlinks=False)
            except OSError:
                # On another disk; a symbolic link would lead outside, which no reader follows.
                shutil.copyfile(file, link, follow_symlinks=False)
        try:
            source = find_raw_images(scratch / "new", scratch, PART, options)
        except UserError:
            if options.input is None:
                raise
            # Of pairs the partners may be on their way.
            return _NOTHING[0], len(files)
        parts = thinned(source, params.drift.max_images)
        made = tasks.run_parts(partial(make_part, options=options), read, parts)
        found = [one_of_each_file(table, pixels) for table, pixels, _ in made if pixels.shape[3] == image.channels]
        pixels, signatures = (np.concatenate(column) for column in zip(*found, strict=True)) if found else _NOTHING
        # Of a burst one image too: what is nearly the same says the same again.
        groups = groups_of(near_pairs(signatures), len(signatures)) if len(signatures) else np.empty(0, np.int64)
        alone = one_of_each(groups)
        # Not the first of them, which are of the first class where classes lie in folders.
        chosen = np.random.default_rng(0).permutation(alone)[: params.drift.max_images]
        return pixels[np.sort(chosen)], len(source)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _bits(params: Params, workspace: Workspace) -> int:
    """Return how many bits of images of 16 the data set uses, for a few new ones may tell another number."""
    if params.preprocess.bits != "auto":
        return params.preprocess.bits
    try:
        return Dataset.load(workspace.dataset).bits
    except (NotThereError, DamagedError):
        return 16


def one_of_each_file(table: PartTable, pixels: Pixels) -> tuple[Pixels, Pixels]:
    """Return one image of each file of a part, with its signature: any of its frames, by their content."""
    chosen = one_of_each(table.rows.astype(np.int64), table.identities[:, 0])
    return pixels[chosen], table.signatures[chosen]
