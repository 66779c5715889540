"""Whether training images can be made from some latent better than images that the generator never saw.

A generator that learned images by heart has a latent for each of them; one that learned what such images are like makes
unseen ones as well (Webster et al. 2019, arXiv 1901.03396). Unlike a search among samples this finds what is memorised
however seldom it is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from ..gan.dataset import Pixels, to_signed
from ..gan.inputs import Inputs
from ..gan.models.layers import Generator
from ..gan.published import Published
from .intervals import Values

# For each image: latents that are drawn, those of them that are begun with, steps of Adam that all of these take, and
# steps of the best one after that. So 128 images forth, and 450 forth and back, whatever the network. What is learned
# by heart has steep walls around it, beyond which no gradient leads there: hence the draws.
DRAWS, STARTS, FIRST_STEPS, STEPS = 128, 4, 50, 250
LEARNING_RATE = 0.1
# Pixels of the images that are optimised at a time: 64 of 64x64, so that memory stays bounded.
MAX_PIXELS = 2**18


def evenly(labels: Sequence[npt.NDArray[np.int64]], count: int) -> list[npt.NDArray[np.int64]]:
    """Return indices of at most `count` images of each split, which have the same number of each class in all.

    Classes in turn, for some are easier to make than others; within each the images come by chance. `labels`: of the
    images of each split.
    """
    rng = np.random.default_rng(0)
    every = np.unique(np.concatenate(labels))
    groups = [{label: rng.permutation(np.flatnonzero(of == label)) for label in every} for of in labels]
    # The turn of each class comes as often as every split has images of it.
    turns = [(turn, label) for label in every for turn in range(min(len(group[label]) for group in groups))]
    chosen = sorted(turns, key=lambda each: each[0])[:count]
    return [np.array([group[label][turn] for turn, label in chosen], np.int64) for group in groups]


def reconstruction_errors(model: Published, pixels: Pixels, labels: npt.NDArray[np.int64]) -> Values:
    """Mean squared error, in grey levels, of the nearest that `model` comes to each image (N, H, W, C): (N,).

    Its latent z is optimised by Adam, from several starts, at the label (N,) of the image; of StyleGAN2 z too, not w,
    so that only what the model can be asked for is tried. z stays as near to 0 as latents are (99 % of them): far from
    there a generator can be made to repeat anything. The n-th image of every set begins at the same latents, and its
    result does not depend on the others.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = model.generator().requires_grad_(False).to(device)
    size = max(1, MAX_PIXELS // int(np.prod(pixels.shape[1:3])))
    errors = []
    for start in tqdm(range(0, len(pixels), size), desc="reconstruct", unit="part", disable=None, leave=False):
        numbers = range(start, min(start + size, len(pixels)))
        target = to_signed(torch.from_numpy(np.ascontiguousarray(pixels[start : start + size]))).to(device)
        label = labels[start : start + size]
        drawn = [model.inputs([draw * len(pixels) + n for n in numbers], label).to(device) for draw in range(DRAWS)]
        # Of each image those go on that come nearest: (draws, B), then (starts, B).
        begun = torch.stack([_error(generator, inputs, target) for inputs in drawn]).topk(STARTS, 0, largest=False)
        latents = torch.stack([inputs.z for inputs in drawn])
        rows = torch.arange(len(label), device=device)
        tried = [
            _optimised(generator, replace(drawn[0], z=latents[chosen, rows]), target, FIRST_STEPS, 1.0)
            for chosen in begun.indices
        ]
        best = torch.stack([found.error for found in tried]).argmin(0)
        z = torch.stack([found.z for found in tried])[best, rows]
        found = _optimised(generator, replace(drawn[0], z=z), target, STEPS, 0.0)
        errors.append(found.error.double().cpu().numpy() * 127.5**2)
    return np.concatenate(errors)


class _Found(NamedTuple):
    """Latents (B, latent) where the search ended, and the least error (B,) on the way."""

    z: Tensor
    error: Tensor


def _optimised(generator: Generator, inputs: Inputs, target: Tensor, steps: int, last: float) -> _Found:
    """Search from the latents of `inputs`; the rate falls to `last` of what it begins with."""
    z = inputs.z.clone().requires_grad_(True)
    adam = torch.optim.Adam([z], LEARNING_RATE)
    falling = torch.optim.lr_scheduler.LinearLR(adam, 1.0, last, steps)
    reach, least = _reach(z.shape[1]), torch.full((len(z),), torch.inf, device=z.device)
    for _ in range(steps):
        error = (generator(replace(inputs, z=z)).float() - target).square().mean((1, 2, 3))
        (z.grad,) = torch.autograd.grad(error.sum(), z)
        least = torch.minimum(least, error.detach())
        adam.step()
        falling.step()
        with torch.no_grad():
            z *= (reach / z.norm(dim=1, keepdim=True).clamp(min=1e-12)).clamp(max=1)
    return _Found(z.detach(), least)


@torch.no_grad()
def _error(generator: Generator, inputs: Inputs, target: Tensor) -> Tensor:
    """Mean squared error (B,) of the images of `inputs`, in half of the range of their values."""
    return (generator(inputs).float() - target).square().mean((1, 2, 3))


def _reach(size: int) -> float:
    """Distance from 0 within which 99 % of latents lie."""
    from scipy.stats import chi2  # type: ignore[import-untyped]

    return float(chi2.ppf(0.99, size) ** 0.5)
