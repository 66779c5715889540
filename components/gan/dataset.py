"""A split of a data set: uint8 shards in a folder, memory-mapped, and the order in which training sees them.

`<split>-00000.npy`, `<split>-00001.npy`, ... hold images (N, H, W, C), `<split>-labels.npy` the labels of all (N,).
Channels lie last, so that a batch is in PyTorch's channels-last format without a copy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .options import ImageFormat

if TYPE_CHECKING:
    from PIL import Image

SplitName = Literal["training", "development", "holdout"]
Pixels = npt.NDArray[np.uint8]


class TrainingBatch(NamedTuple):
    """Real images (B, C, H, W) in [-1, 1], their classes (B,), and the input images (B, K, H, W) that they belong to.

    `condition` is None where the data have no input images; `source` (B,) is the class of each where it is an image of
    another one.
    """

    real: Tensor
    label: Tensor
    condition: Tensor | None = None
    source: Tensor | None = None

    def mirrored(self, which: Tensor) -> TrainingBatch:
        """Return the batch with the rows `which` (B,) mirrored, each image together with its input image."""
        rows = which.view(-1, 1, 1, 1)
        real, condition = (
            None if image is None else torch.where(rows, image.flip(3), image) for image in (self.real, self.condition)
        )
        assert real is not None
        return TrainingBatch(real, self.label, condition, self.source)


class Split:
    """Images (N, H, W, C) uint8 and labels (N,) of one split; pixels are read when they are asked for."""

    def __init__(self, folder: Path, name: SplitName, image: ImageFormat) -> None:
        self.image = image
        self._shards = _opened(folder, f"{name}-[0-9]*.npy")
        self._input_shards = _opened(folder, f"{name}-input-[0-9]*.npy") if image.paired else []
        self._ends = np.cumsum([len(shard) for shard in self._shards])
        self.labels: npt.NDArray[np.int64] = np.load(folder / f"{name}-labels.npy", allow_pickle=False)

    @classmethod
    def of(
        cls, pixels: Pixels, labels: npt.NDArray[np.int64], image: ImageFormat, inputs: Pixels | None = None
    ) -> Split:
        """Return the split of images (N, H, W, C), labels (N,) and maybe inputs that lie in memory."""
        split = cls.__new__(cls)
        split.image, split.labels, split._shards, split._ends = image, labels, [pixels], np.array([len(pixels)])
        split._input_shards = [] if inputs is None else [inputs]
        return split

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def class_shares(self) -> npt.NDArray[np.float64]:
        """Share of each class, (classes,)."""
        return np.bincount(self.labels, minlength=len(self.image.classes)) / len(self)

    def pixels(self, index: npt.NDArray[np.int64]) -> Pixels:
        """Images at `index`, (len(index), H, W, C) uint8, in one gather for each shard."""
        return self._gathered(self._shards, index)

    def inputs(self, index: npt.NDArray[np.int64]) -> Pixels:
        """Return the inputs of the images at `index`, of the same format; of data in pairs alone."""
        return self._gathered(self._input_shards, index)

    def others(self, labels: npt.NDArray[np.int64], u: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Return for each of the classes `labels` (B,) an image of another one, by uniform numbers u (B, 2) in [0, 1).

        All other classes that have images are as likely, and in each all images.
        """
        order, starts, sizes = self._by_class
        there = np.flatnonzero(sizes)
        # Among the others: those from its own on are one place further.
        place = (u[:, 0] * (len(there) - 1)).astype(np.int64)
        place += place >= np.searchsorted(there, labels)
        chosen = there[place]
        return np.asarray(order[starts[chosen] + (u[:, 1] * sizes[chosen]).astype(np.int64)], np.int64)

    @cached_property
    def _by_class(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Indices of all images sorted by class, where each class begins there, and how many it has."""
        sizes = np.bincount(self.labels, minlength=len(self.image.classes))
        return np.argsort(self.labels, kind="stable"), np.cumsum(sizes) - sizes, sizes

    def _gathered(self, shards: list[Pixels], index: npt.NDArray[np.int64]) -> Pixels:
        if len(shards) == 1:
            return np.asarray(shards[0][index])
        shard_of = np.searchsorted(self._ends, index, side="right")
        out = np.empty((len(index), *self.image.shape), np.uint8)
        for shard in np.unique(shard_of):
            chosen = shard_of == shard
            first = self._ends[shard] - len(self._shards[shard])
            out[chosen] = shards[shard][index[chosen] - first]
        return out

    def spread(self, count: int, shares: npt.NDArray[np.float64] | None = None) -> npt.NDArray[np.int64]:
        """Return indices of at most `count` images, evenly over the classes and by chance within each, in mixed order.

        So is every first part of them, whatever order the images lie in: folders come sorted by class, and others take
        the classes in turns. With `shares` (classes,) the classes have these shares, as far as chance does not explain
        others: what is compared with images of such shares is then not taken for farther away than it is.
        """
        rng = np.random.default_rng(0)
        shuffled = rng.permutation(len(self))
        order = shuffled[np.argsort(self.labels[shuffled], kind="stable")]
        sizes = np.bincount(self.labels, minlength=len(self.image.classes))
        rank = np.arange(len(self)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        # Each class fills the interval from 0 to 1 evenly, so that up to any point all have given an equal share.
        kept = np.repeat(sizes if shares is None else with_shares(sizes, shares), sizes)
        place = (rank + rng.random(len(self))) / np.maximum(kept, 1)
        chosen = np.argsort(place, kind="stable")
        return np.asarray(order[chosen[rank[chosen] < kept[chosen]][:count]], np.int64)

    def batches(self, size: int) -> Iterator[tuple[Pixels, npt.NDArray[np.int64]]]:
        """All images once, in order, with their labels."""
        for start in range(0, len(self), size):
            index = np.arange(start, min(start + size, len(self)))
            yield self.pixels(index), self.labels[index]

    def batch(self, index: npt.NDArray[np.int64], device: torch.device) -> TrainingBatch:
        """Return the training batch at `index`, on `device`; real images float, channels last."""
        if device.type == "cuda" and self._fits(device):
            chosen = on_device(torch.from_numpy(index), device)
            pixels, labels, inputs = self._resident(device)
            given = None if inputs is None else to_signed(inputs[chosen])
            return TrainingBatch(to_signed(pixels[chosen]), labels[chosen], given)
        given = self._signed(self.inputs(index), device) if self._input_shards else None
        labels = on_device(torch.from_numpy(self.labels[index]), device)
        return TrainingBatch(self._signed(self.pixels(index), device), labels, given)

    def with_others(self, batch: TrainingBatch, index: npt.NDArray[np.int64], u: Tensor) -> TrainingBatch:
        """Return the batch at `index` with images of other classes as its inputs, chosen by u (B, 2), see `others`."""
        device = batch.real.device
        others = self.batch(self.others(self.labels[index], u.cpu().double().numpy()), device)
        return batch._replace(condition=others.real, source=others.label)

    @staticmethod
    def _signed(pixels: Pixels, device: torch.device) -> Tensor:
        return to_signed(on_device(torch.from_numpy(pixels), device))

    @cache  # noqa: B019 - a split lives as long as its training
    def _fits(self, device: torch.device) -> bool:
        """Whether all pixels may stay on the device: up to a quarter of what is free there."""
        shards = [*self._shards, *self._input_shards]
        return sum(shard.nbytes for shard in shards) * 4 <= torch.cuda.mem_get_info(device)[0]

    @cache  # noqa: B019
    def _resident(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
        """All pixels, labels and maybe inputs on the device, so that a step copies nothing but indices."""
        pixels, inputs = (
            torch.cat([torch.from_numpy(np.asarray(shard)).to(device) for shard in shards]) if shards else None
            for shards in (self._shards, self._input_shards)
        )
        assert pixels is not None
        return pixels, torch.from_numpy(self.labels).to(device), inputs


def _opened(folder: Path, pattern: str) -> list[Pixels]:
    return [np.load(shard, mmap_mode="r", allow_pickle=False) for shard in sorted(folder.glob(pattern))]


def with_shares(sizes: npt.NDArray[np.int64], shares: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return how many to take of classes with these `sizes` (classes,) so that they have these `shares`, within chance.

    All, where chance explains what the sizes are. A class of which there is none says nothing of the others.
    """
    there = (sizes > 0) & (shares > 0)
    share = np.where(there, shares, 0) / max(shares[there].sum(), 1e-12)
    total, wanted = float(sizes[there].sum()), np.full(len(sizes), np.inf)
    # By three deviations; what is lacking decides how many there may be of the others.
    while (lacking := there & (share * total - 3 * np.sqrt(share * total) > sizes)).any():
        total = float(sizes[lacking].sum() / share[lacking].sum())
        wanted = np.rint(share * total)
    if (there & (share * total + 3 * np.sqrt(share * total) < sizes)).any():
        wanted = np.rint(share * total)
    return np.asarray(np.where(there, np.minimum(wanted, sizes), 0), np.int64)


def fingerprints(split: Split) -> npt.NDArray[np.uint64]:
    """Return a hash of each image of a split, sorted, (N,): what tells whether two splits share pixels."""
    return np.sort(fingerprints_in_order(split))


def fingerprints_in_order(split: Split) -> npt.NDArray[np.uint64]:
    """Return the same in the order of the split."""
    found = [
        int.from_bytes(hashlib.blake2b(image.tobytes(), digest_size=8).digest())
        for pixels, _ in split.batches(4096)
        for image in pixels
    ]
    return np.array(found, np.uint64)


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a copy on the device; to a GPU from pinned memory, so that nobody waits for it."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def to_signed(pixels: Tensor) -> Tensor:
    """uint8 (B, H, W, C) -> float (B, C, H, W) in [-1, 1], channels last."""
    return pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def to_pixels(image: Tensor) -> Pixels:
    """Float (B, C, H, W) in [-1, 1] -> uint8 (B, H, W, C); values outside the range are clipped."""
    scaled = image.float().add(1.0).mul(127.5).round_().clamp_(0, 255)
    pixels: Pixels = scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return pixels


def to_image(pixels: Pixels) -> Image.Image:
    """Pixels (H, W, C) uint8 as a picture: grey, RGB or RGBA; of other channels the first three, or the first."""
    from PIL import Image

    channels = pixels.shape[2]
    shown = pixels if channels in (3, 4) else pixels[:, :, :3] if channels > 4 else pixels[:, :, 0]
    return Image.fromarray(np.ascontiguousarray(shown))


def shuffled_order(length: int, seed: int, *group: int) -> Callable[[int, int], npt.NDArray[np.int64]]:
    """Return the function (first, last) -> indices of the images at these positions of an endless shuffled sequence.

    Every epoch is a permutation drawn from (seed, epoch) alone, so that a position says which image it is:
    a resume or another number of workers neither repeats nor loses one. A `group` of images has an order of its own.
    """
    epochs: dict[int, npt.NDArray[np.int64]] = {}

    def permutation(epoch: int) -> npt.NDArray[np.int64]:
        if epoch not in epochs:
            epochs.pop(epoch - 2, None)
            epochs[epoch] = np.random.default_rng((seed, *group, epoch)).permutation(length)
        return epochs[epoch]

    def order(first: int, last: int) -> npt.NDArray[np.int64]:
        positions = np.arange(first, last)
        result = np.empty(len(positions), np.int64)
        for epoch in range(first // length, (last - 1) // length + 1):
            inside = positions // length == epoch
            result[inside] = permutation(epoch)[positions[inside] - epoch * length]
        return result

    return order
