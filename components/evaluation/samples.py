"""Samples of a model and what nets see in them, in parts: what evaluation and the gate share.

The parts are the same whoever computes them, so that the result does not depend on the number of machines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load
from tqdm import tqdm

from ..gan.dataset import Pixels, to_signed
from ..gan.distances import Features
from ..gan.features import FeatureNet
from ..gan.inputs import Inputs
from ..gan.models import restored
from ..gan.options import ImageFormat, NetworkOptions
from ..gan.sampling import sample, seeded
from ..services.cluster import placement, session, tasks

PART = 500
Labels = npt.NDArray[np.int64]


class Networks(NamedTuple):
    """A trained model, small enough to travel to where it is measured; weights as safetensors."""

    options: NetworkOptions
    image: ImageFormat
    precision: str
    generator: bytes
    # Where it is not asked for its opinion, none.
    discriminator: bytes | None = None


class Sampled(NamedTuple):
    """N samples (N, H, W, C), their features (N, F), and where there are such class probabilities and logits (N,)."""

    pixels: Pixels
    features: Features
    probabilities: npt.NDArray[np.float64] | None
    logits: npt.NDArray[np.float64] | None


def sampled(networks: Networks, judge: FeatureNet, seeds: range, labels: Labels) -> Iterator[Sampled]:
    """Samples of these seeds and labels (N,), in parts and in order; on the cluster, where there is one."""
    # The features of the training split stay here.
    light = judge._replace(real=judge.real[:0])
    work = partial(sampled_part, networks=networks, judge=light, seeds=seeds, labels=labels)
    parts = [slice(start, min(start + PART, len(seeds))) for start in range(0, len(seeds), PART)]
    gpu = session.address() is not None and any(node.gpus for node in placement.nodes())
    done = tasks.run_parts(work, lambda part: (), parts, gpu=gpu)
    with tqdm(total=len(seeds), desc="samples", unit="img", disable=None, leave=False) as bar:
        for part in done:
            yield part
            bar.update(len(part.pixels))


def sampled_part(
    part: slice, contents: Iterable[None], *, networks: Networks, judge: FeatureNet, seeds: range, labels: Labels
) -> Sampled:
    """The samples in `part` of the seeds, on the GPU where this process has one."""
    # Sums are split by threads, which shows in the last bits: each part has one, wherever it is made.
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = restored(networks.options, networks.image, load(networks.generator)).to(device)
    inputs = seeded(seeds[part], labels[part], networks.options.latent)
    pixels = sample(generator, inputs, precision=networks.precision)
    seen = judge.read(pixels)
    logits = None
    if networks.discriminator is not None:
        discriminator = restored(networks.options, networks.image, load(networks.discriminator), "discriminator")
        logits = opinions(discriminator.eval().to(device), pixels, inputs)
    return Sampled(pixels, seen.features, seen.probabilities, logits)


@torch.inference_mode()
def opinions(discriminator: torch.nn.Module, pixels: Pixels, inputs: Inputs) -> npt.NDArray[np.float64]:
    """Logits (N,) of images (N, H, W, C) with their inputs (N rows)."""
    device = next(discriminator.parameters()).device
    made = []
    for start in range(0, len(pixels), PART):
        image = to_signed(torch.from_numpy(np.ascontiguousarray(pixels[start : start + PART])).to(device))
        made.append(discriminator(image, inputs[start : start + PART].to(device)).double().cpu())
    logits: npt.NDArray[np.float64] = torch.cat(made).numpy()
    return logits
