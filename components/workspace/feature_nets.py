"""The feature net of each data set, made once and kept on the disk."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..gan.errors import DamagedError
from .code import digest_of

if TYPE_CHECKING:
    from ..gan.dataset import Split
    from ..gan.features import FeatureNet

_CODE = Path(__file__).parents[1] / "gan" / "features.py"
KINDS = ("classifier", "efficientnet_lite0")


def load_feature_net(data: Split, content: str, cache: Path) -> FeatureNet:
    """Return the feature net for the data set with this training split and content hash, from `cache` or made now.

    Two processes may ask at once: both make the same and one rename wins.

    Raises:
        UserError: the images have no labels, and the extra `features` is not installed.
    """
    import numpy as np
    import safetensors.torch
    import torch

    from ..gan.features import MAX_REAL, Classifier, EfficientNetLite0, FeatureNet, read, train_classifier

    kind = KINDS[0] if data.image.labelled else KINDS[1]
    stem = stem_of(kind, content)
    features_file = cache / f"{stem}.npy"
    cache.mkdir(parents=True, exist_ok=True)
    # On one thread: the same bits whatever the machine, and made beside processes that start, where the threads of
    # one operation would wait for each other.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        net: Classifier | EfficientNetLite0
        if kind == "classifier":
            net, weights_file = Classifier(data.image), cache / f"{stem}.safetensors"
            if not weights_file.exists():
                _publish(weights_file, safetensors.torch.save(dict(train_classifier(data).state_dict())))
            try:
                net.load_state_dict(safetensors.torch.load_file(weights_file))
            except (OSError, RuntimeError, ValueError, safetensors.SafetensorError):
                raise _damaged(weights_file) from None
        else:
            net = EfficientNetLite0()
            weights_file = net.weights
        net.eval().requires_grad_(False)
        if not features_file.exists():
            # In the order of the split: the sums of all of them have the same bits however they were chosen.
            chosen = np.array_split(np.sort(data.spread(MAX_REAL[kind])), max(1, len(data) // 2_000))
            features = np.concatenate([read(net, data.pixels(index)).features for index in chosen if len(index)])
            packed = io.BytesIO()
            np.save(packed, features)
            _publish(features_file, packed.getvalue())
    finally:
        torch.set_num_threads(threads)
    weights = hashlib.sha256(weights_file.read_bytes()).hexdigest()
    try:
        return FeatureNet(kind, net, weights, np.load(features_file, allow_pickle=False))
    except (OSError, ValueError, EOFError):
        raise _damaged(features_file) from None


def _damaged(file: Path) -> DamagedError:
    return DamagedError(f"{file} is damaged: delete it, and it is made again")


def stem_of(kind: str, content: str) -> str:
    """Name, without suffix, of what is kept of a data set by the present code."""
    return f"{kind}-{hashlib.sha256((content + digest_of(_CODE)).encode()).hexdigest()[:16]}"


def _publish(path: Path, content: bytes) -> None:
    staged = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    staged.write_bytes(content)
    staged.replace(path)
