"""The feature net that judges images: a small classifier trained on the data set's own labels.

ImageNet features say little about digits, and no pretrained net is downloaded. The classifier sees the training
split only, so the holdout stays unseen by all that is trained.
"""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .dataset import Pixels, Split, to_signed

EPOCHS, BATCH, LEARNING_RATE = 4, 64, 2e-3


class Classifier(nn.Module):
    """Convolutions of 32 and 64 channels with pooling on pixels in [0, 1], 128 ReLU features, class logits."""

    def __init__(self, resolution: int, channels: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        # Larger images are pooled down to 8x8 or less, so that the features stay 128 functions of the whole image.
        self.pool = nn.AdaptiveAvgPool2d(min(resolution // 4, 8))
        self.fc1 = nn.Linear(64 * min(resolution // 4, 8) ** 2, 128)
        self.fc2 = nn.Linear(128, classes)

    def features(self, image: Tensor) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] -> features (B, 128), at least 0."""
        x = F.max_pool2d(F.relu(self.conv1((image + 1) / 2)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return F.relu(self.fc1(self.pool(x).flatten(1)))

    def forward(self, image: Tensor) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] -> logits (B, classes)."""
        logits: Tensor = self.fc2(self.features(image))
        return logits


def train_classifier(data: Split, seed: int = 0) -> Classifier:
    """A classifier of `data`'s classes after 4 epochs of Adam with a learning rate that falls to 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Classifier(data.image.resolution, data.image.channels, len(data.image.classes))
    net.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    steps = EPOCHS * -(-len(data) // BATCH)
    adam = torch.optim.Adam(net.parameters(), LEARNING_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.0, steps)
    for epoch in range(EPOCHS):
        shuffled = np.random.default_rng((seed, epoch)).permutation(len(data))
        for start in range(0, len(data), BATCH):
            image, label, _ = data.batch(shuffled[start : start + BATCH], torch.device("cpu"))
            with torch.autocast("cpu", torch.bfloat16):
                logits = net(image).float()
            F.cross_entropy(logits, label).backward()
            adam.step()
            adam.zero_grad()
            schedule.step()
    net.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return net.eval().requires_grad_(False)


class FeatureNet(NamedTuple):
    """The classifier of a data set, its weights' hash, and the features (N, 128) of the training split."""

    net: Classifier
    sha256: str
    real: npt.NDArray[np.float64]


def feature_net(data: Split, content: str, cache: Path) -> FeatureNet:
    """The feature net of the data set with this training split and content hash, from `cache` or made now.

    Two processes may ask at once: both make the same and one rename wins.
    """
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    name = f"classifier-{hashlib.sha256((content + recipe).encode()).hexdigest()[:16]}"
    weights_file, features_file = cache / f"{name}.safetensors", cache / f"{name}.npy"
    cache.mkdir(parents=True, exist_ok=True)
    net = Classifier(data.image.resolution, data.image.channels, len(data.image.classes))
    # On one thread: the same bits whatever the machine, and made beside processes that start, where the threads of
    # one operation would wait for each other.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    if not weights_file.exists():
        _publish(weights_file, safetensors.torch.save(dict(train_classifier(data).state_dict())))
    net.load_state_dict(safetensors.torch.load_file(weights_file))
    net.eval().requires_grad_(False)
    if not features_file.exists():
        features = np.concatenate([extract(net, pixels)[0] for pixels, _ in data.batches(2_000)])
        packed = io.BytesIO()
        np.save(packed, features)
        _publish(features_file, packed.getvalue())
    torch.set_num_threads(threads)
    return FeatureNet(
        net, hashlib.sha256(weights_file.read_bytes()).hexdigest(), np.load(features_file, allow_pickle=False)
    )


def _publish(path: Path, content: bytes) -> None:
    staged = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    staged.write_bytes(content)
    staged.replace(path)


@torch.inference_mode()
def extract(net: Classifier, pixels: Pixels, batch: int = 500) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Features (N, 128) and predicted classes (N,) of images (N, H, W, C) uint8."""
    features, predictions = [], []
    for start in range(0, len(pixels), batch):
        f = net.features(to_signed(torch.from_numpy(pixels[start : start + batch])))
        features.append(f.double().numpy())
        predictions.append(net.fc2(f).argmax(1).numpy())
    return np.concatenate(features), np.concatenate(predictions)
