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
    from ..measures.distances import Features
    from ..measures.features import AnyNet, FeatureNet

_CODE = Path(__file__).parents[1] / "measures" / "features.py"
KINDS = ("classifier", "efficientnet_lite0")


def load_feature_net(data: Split, content: str, cache: Path, wanted: str | None = None) -> FeatureNet:
    """Return the feature net for the data set with this training split and content hash, from `cache` or made now.

    `wanted`: one of `KINDS`, else that which suits the data. Two processes may ask at once: both make the same and one
    rename wins.

    Raises:
        UserError: EfficientNet-Lite0 is needed, and the extra `features` is not installed.
    """
    import safetensors.torch
    import torch

    from ..measures.features import MAX_REAL, Classifier, EfficientNetLite0, FeatureNet, train_classifier

    kind = wanted or (KINDS[0] if data.image.labelled else KINDS[1])
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
        real = real_features(net, data, features_file, MAX_REAL[kind])
    finally:
        torch.set_num_threads(threads)
    return FeatureNet(kind, net, hashlib.sha256(weights_file.read_bytes()).hexdigest(), real)


def real_features(net: AnyNet, data: Split, kept: Path, most: int) -> Features:
    """Return the features of at most so many images of a training split, from the file `kept` or made now.

    Raises:
        DamagedError: the file is not what was written.
    """
    import numpy as np

    from ..measures.features import read

    if not kept.exists():
        # In the order of the split: the sums of all of them have the same bits however they were chosen.
        chosen = np.array_split(np.sort(data.spread(most)), max(1, len(data) // 2_000))
        features = np.concatenate([read(net, data.pixels(index)).features for index in chosen if len(index)])
        packed = io.BytesIO()
        np.save(packed, features)
        _publish(kept, packed.getvalue())
    try:
        real: Features = np.load(kept, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        raise _damaged(kept) from None
    return real


def more_feature_nets(data: Split, content: str, cache: Path, count: int) -> list[FeatureNet]:
    """Return `count` classifiers like that of `load_feature_net`, trained from other seeds; without features of data.

    Raises:
        DamagedError: one that was kept is not what was written.
    """
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np
    import safetensors.torch
    import torch

    from ..measures.features import Classifier, FeatureNet, train_classifier

    cache.mkdir(parents=True, exist_ok=True)
    files = {seed: cache / f"{stem_of(KINDS[0], content, seed)}.safetensors" for seed in range(1, count + 1)}

    def train(seed: int) -> None:
        torch.set_num_threads(1)
        _publish(files[seed], safetensors.torch.save(dict(train_classifier(data, seed).state_dict())))

    threads = torch.get_num_threads()
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(train, [seed for seed in files if not files[seed].exists()]))
    torch.set_num_threads(threads)
    made = []
    for file in files.values():
        net = Classifier(data.image)
        try:
            net.load_state_dict(safetensors.torch.load_file(file))
        except (OSError, RuntimeError, ValueError, safetensors.SafetensorError):
            raise _damaged(file) from None
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        made.append(FeatureNet(KINDS[0], net.eval().requires_grad_(False), sha256, np.empty((0, 0))))
    return made


def _damaged(file: Path) -> DamagedError:
    return DamagedError(f"{file} is damaged: delete it, and it is made again")


def stem_of(kind: str, content: str, seed: int = 0) -> str:
    """Name, without suffix, of what is kept of a data set by the present code."""
    stem = f"{kind}-{hashlib.sha256((content + digest_of(_CODE)).encode()).hexdigest()[:16]}"
    return f"{stem}-{seed}" if seed else stem


def _publish(path: Path, content: bytes) -> None:
    staged = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    staged.write_bytes(content)
    staged.replace(path)
