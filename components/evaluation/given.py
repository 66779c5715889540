"""What a model of an image task was given of held-out images, kept for the comparison with what it is given later.

Both are compared as what is made of them without a network, so that a photo counts by what the task sees of it: an
enlargement by a small picture, colouring by brightness. Where the holes are that a user paints tells nothing of a
photo, so that of repairs the pictures themselves are compared.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch

from ..gan.dataset import Pixels, Split, to_pixels, to_signed
from ..gan.errors import DamagedError, NotThereError
from ..gan.sampling import conditions_of
from ..gan.tasks.image_tasks import Colorizing, ImageTask, Inpainting, task_of
from ..gan.tasks.options import AnyTask
from ..measures.distances import Features
from ..measures.two_sample import one_of_each
from ..workspace.artifacts import Dataset
from ..workspace.files import staging
from ..workspace.workspace import Workspace
from .reference import MAX_REFERENCE, Reference, groups_of, load_reference, net_of

_FILE = "given.npy"


def keep_given(dataset: Dataset, options: AnyTask, workspace: Workspace) -> None:
    """Keep what the net that judges sees in what a model of this task was given: of one image of each file."""
    folder = _folder(dataset.content, options, workspace)
    task = task_of(options)
    if task is None or folder.exists():
        return
    holdout = Split(dataset.folder, "holdout", dataset.image)
    alone = one_of_each(groups_of(dataset))
    rows = alone[np.linspace(0, len(alone) - 1, min(len(alone), MAX_REFERENCE)).astype(int)]
    originals = holdout.pixels(rows)
    seen = originals
    if not isinstance(task, Inpainting):
        seen = to_pixels(task.baseline(conditions_of(task, holdout, rows, rows.tolist())))
    features = net_of(dataset, workspace).read(seen).features
    with staging(folder) as staged:
        np.save(staged / _FILE, features.astype(np.float32))


def load_given(data: str, options: AnyTask, workspace: Workspace) -> Reference:
    """Return what pictures are compared with that a model of this task is given, by the data set's content hash.

    Raises:
        NotThereError: nothing is known of it any more.
        DamagedError: what was kept of it is not what was written.
    """
    reference = load_reference(data, workspace)
    folder = _folder(data, options, workspace)
    if not folder.exists():
        dataset = Dataset.load(workspace.dataset)
        if dataset.content != data:
            raise NotThereError(
                "what the champion was given is no longer known (artifacts/dataset is of other data): `ganflow run` "
                "and `ganflow promote` make a champion of the present data"
            )
        keep_given(dataset, options, workspace)
    try:
        return reference._replace(held=np.load(folder / _FILE, allow_pickle=False).astype(np.float64))
    except (OSError, ValueError, EOFError):
        raise DamagedError(
            f"{folder} is damaged: delete that folder; it is made again while artifacts/dataset is of the same data"
        ) from None


def seen_of(photo: Pixels, content: bytes, options: AnyTask, reference: Reference) -> Pixels | None:
    """Return a piece of a photo (h, w, 1 or 3), chosen by its content, as what it is compared by: (H, W, C).

    None where it is smaller than a piece.
    """
    task, image = task_of(options), reference.image
    assert task is not None
    height, width = image.height // task.scale, image.width // task.scale
    rows, columns = photo.shape[0] - height, photo.shape[1] - width
    if rows < 0 or columns < 0:
        return None
    digest = hashlib.sha256(content).digest()
    top, left = (int.from_bytes(digest[at : at + 4]) % (most + 1) for at, most in ((0, rows), (4, columns)))
    piece = _in_channels(photo[top : top + height, left : left + width], task, image.channels)
    if isinstance(task, Inpainting):
        return piece
    given = task.condition(to_signed(torch.from_numpy(np.array(piece[None]))))
    made: Pixels = to_pixels(task.baseline(given))[0]
    return made


def features_of(pieces: list[Pixels], reference: Reference) -> Features:
    """Return what the net sees in pieces (N, F)."""
    return reference.net.read(np.stack(pieces)).features.astype(np.float64)


def _in_channels(pixels: Pixels, task: ImageTask, channels: int) -> Pixels:
    if isinstance(task, Colorizing) or pixels.shape[2] == channels:
        return pixels
    if channels == 1:
        return np.asarray(np.rint(pixels.mean(2, keepdims=True)), np.uint8)
    return pixels[:, :, :1].repeat(channels, 2)


def _folder(data: str, options: AnyTask, workspace: Workspace) -> Path:
    described = json.dumps(options.model_dump(mode="json"), sort_keys=True)
    return workspace.state / "drift" / f"{data[:16]}-{hashlib.sha256(described.encode()).hexdigest()[:8]}"
