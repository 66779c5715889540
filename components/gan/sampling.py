"""Random numbers that depend on nothing but their name, and images made from them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .dataset import Pixels, Split, to_pixels, to_signed
from .inputs import Inputs
from .options import ImageFormat
from .tasks.image_task import Degrading, ImageTask
from .tasks.translation import Translating


def generator_for(*name: int | str) -> torch.Generator:
    """Return a generator seeded by `name`, such as (seed, step, purpose): equal on every rank, machine and resume."""
    digest = hashlib.blake2b("/".join(map(str, name)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


def latents(seeds: Sequence[int], size: int) -> Tensor:
    """z ~ N(0, 1), (len(seeds), size): one image's latent is a function of its own seed alone."""
    return torch.stack([torch.randn(size, generator=generator_for("latent", seed)) for seed in seeds])


def seeded(seeds: Sequence[int], labels: npt.NDArray[np.int64], latent: int) -> Inputs:
    """Return the inputs of images that have these seeds, and labels (len(seeds),), where z has the size `latent`."""
    return Inputs(latents(seeds, latent), torch.from_numpy(labels))


def conditions(task: Degrading, originals: Pixels, seeds: Sequence[int], image: ImageFormat) -> Tensor:
    """Return what `task` shows of images (N, H, W, C): (N, K, h, w), each a function of the image and its own seed."""
    u = [torch.rand(task.numbers(image), generator=generator_for("degrade", seed)) for seed in seeds]
    return task.degrade(_signed(originals), torch.stack(u))


def conditions_of(task: ImageTask, split: Split, index: npt.NDArray[np.int64], seeds: Sequence[int]) -> Tensor:
    """Return what `task` shows of the images at `index` of a split, see `conditions`.

    A task that carries images into other classes is given them as they are, and one of pairs their inputs.
    """
    if isinstance(task, Degrading):
        return conditions(task, split.pixels(index), seeds, split.image)
    return _signed(split.inputs(index) if isinstance(task, Translating) else split.pixels(index))


def labels_like(shares: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.int64]:
    """`count` labels whose classes have the given shares, as exactly as rounding allows, in a fixed mixed order."""
    ends = np.floor(np.cumsum(shares) * count + 0.5).astype(np.int64)
    labels = np.searchsorted(ends, np.arange(count), side="right")
    return np.random.default_rng(0).permutation(np.minimum(labels, len(shares) - 1))


@torch.inference_mode()
def sample(
    generator: nn.Module,
    inputs: Inputs,
    *,
    truncation: float = 1.0,
    precision: str = "fp32",
    batch: int = 250,
) -> Pixels:
    """Images (len(inputs), H, W, C) uint8 of `generator` in evaluation mode, `batch` at a time.

    `truncation` in (0, 1] pulls them towards typical images: below 1 they are less diverse.
    """
    device = next(generator.parameters()).device
    generator.eval()
    made = []
    for part in inputs.split(batch):
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            made.append(to_pixels(generator(part.to(device), truncation)))
    return np.concatenate(made)


def labels_by_name(classes: Sequence[str], name: str, count: int) -> npt.NDArray[np.int64]:
    """`count` labels of the class `name`, or of all classes in turn where it is empty.

    Raises:
        ValueError: there is no such class.
    """
    if not name:
        return np.arange(count) % len(classes)
    if name not in classes:
        shown = ", ".join(classes[:20]) + (", ..." if len(classes) > 20 else "")
        raise ValueError(f"there is no class {name!r}; choose one of {shown}")
    return np.full(count, classes.index(name))


def _signed(pixels: Pixels) -> Tensor:
    return to_signed(torch.from_numpy(np.ascontiguousarray(pixels)))
