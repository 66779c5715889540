"""What the champion learned from, kept for the comparison with what arrives later."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import safetensors.torch
from safetensors import SafetensorError

from ..gan.dataset import Split
from ..gan.errors import DamagedError, NotThereError
from ..gan.options import ImageFormat
from ..gan.weights import fill
from ..measures.distances import Features
from ..measures.features import Classifier, EfficientNetLite0, FeatureNet
from ..measures.two_sample import one_of_each
from ..workspace.artifacts import Dataset, Evaluation
from ..workspace.feature_nets import load_feature_net
from ..workspace.files import staging
from ..workspace.workspace import Workspace
from .contenders import held_features, held_rows

MAX_REFERENCE = 1_000


class Reference(NamedTuple):
    """What the champion's data look like to the net that judges them, in images that this net has not learned from."""

    image: ImageFormat
    net: FeatureNet
    held: Features


def keep_reference(dataset: Dataset, evaluation: Evaluation | None, workspace: Workspace) -> None:
    """Keep what is needed to compare with this data set when `artifacts/` holds another one.

    Features of its holdout, which unlike those of training images are as new images' are; an `evaluation` may have
    them already. One of each group is kept, as of new images one of each file is looked at.
    """
    folder = workspace.state / "drift" / dataset.content[:16]
    if folder.exists():
        return
    net = net_of(dataset, workspace)
    if evaluation is not None and evaluation.feature_net == net.sha256:
        held, rows = held_features(evaluation), held_rows(evaluation)
    else:
        holdout = Split(dataset.folder, "holdout", dataset.image)
        rows = np.arange(len(holdout))
        held = net.read(holdout.pixels(rows)).features
    held = held[one_of_each(groups_of(dataset)[rows])]
    chosen = np.linspace(0, len(held) - 1, min(len(held), MAX_REFERENCE)).astype(int)
    with staging(folder) as staged:
        np.save(staged / "held.npy", held[chosen].astype(np.float32))
        (staged / "image.json").write_text(json.dumps(dataset.image.model_dump(mode="json")))
        if isinstance(net.net, Classifier):
            safetensors.torch.save_file(dict(net.net.state_dict()), staged / "classifier.safetensors")


def load_reference(data: str, workspace: Workspace) -> Reference:
    """Return what images are compared with that may differ from those of the data set with the content hash `data`.

    Raises:
        NotThereError: nothing is known of it any more.
        DamagedError: what was kept of it is not what was written.
    """
    if not re.fullmatch("[0-9a-f]{16,}", data):
        raise NotThereError(
            "the champion does not say what it learned from: `ganflow run` and `ganflow promote` make one that does"
        )
    folder = workspace.state / "drift" / data[:16]
    if not folder.exists():
        dataset = Dataset.load(workspace.dataset)
        if dataset.content != data:
            raise NotThereError(
                "what the champion learned from is no longer known (artifacts/dataset is of other data): "
                "`ganflow run` and `ganflow promote` make a champion of the present data"
            )
        keep_reference(dataset, None, workspace)
    try:
        return _read_reference(folder)
    except (OSError, ValueError, RuntimeError, EOFError, SafetensorError):
        raise DamagedError(
            f"{folder} is damaged: delete that folder; it is made again while artifacts/dataset is of the same data"
        ) from None


def _read_reference(folder: Path) -> Reference:
    image = ImageFormat.model_validate_json((folder / "image.json").read_text())
    held = np.load(folder / "held.npy", allow_pickle=False).astype(np.float64)
    net_of: Classifier | EfficientNetLite0
    weights = folder / "classifier.safetensors"
    if weights.exists():
        net_of, name = Classifier(image), "classifier"
        fill(net_of, weights)
    else:
        net_of, name = EfficientNetLite0(), "efficientnet_lite0"
    net_of.eval().requires_grad_(False)
    return Reference(image, FeatureNet(name, net_of, "", held[:0]), held)


def groups_of(dataset: Dataset) -> npt.NDArray[np.int64]:
    """Return the group of each held-out image; an earlier data set knows none."""
    file = dataset.folder / "holdout-groups.npy"
    return np.load(file, allow_pickle=False) if file.exists() else np.arange(dataset.splits["holdout"])


def net_of(dataset: Dataset, workspace: Workspace) -> FeatureNet:
    """Return the net that judges images of this data set."""
    training = Split(dataset.folder, "training", dataset.image)
    return load_feature_net(training, dataset.content, workspace.state / "features")
