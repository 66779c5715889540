"""Samples of a model and what nets see in them, in parts: what evaluation and the gate share.

The parts are the same whoever computes them, so that the result does not depend on the number of machines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from ..gan.dataset import Pixels
from ..gan.distances import Features
from ..gan.features import FeatureNet
from ..gan.published import Published, one_thread
from ..services.cluster import placement, session, tasks

PART = 500
Labels = npt.NDArray[np.int64]


class Sampled(NamedTuple):
    """N samples (N, H, W, C), their features (N, F), and where there are such class probabilities and logits (N,)."""

    pixels: Pixels
    features: Features
    probabilities: npt.NDArray[np.float64] | None
    logits: npt.NDArray[np.float64] | None


def sampled(
    model: Published,
    feature_net: FeatureNet,
    seeds: range,
    labels: Labels,
    *,
    logits: bool = False,
    truncation: float = 1.0,
) -> Iterator[Sampled]:
    """Yield samples of these seeds and labels (N,), in parts and in order; on the cluster, where there is one.

    Only where asked for they come with the discriminator's `logits`.
    """
    # The features of the training split stay here.
    light = feature_net._replace(real=feature_net.real[:0])
    work = partial(
        sampled_part,
        model=model,
        feature_net=light,
        seeds=seeds,
        labels=labels,
        logits=logits,
        truncation=truncation,
    )
    parts = [slice(start, min(start + PART, len(seeds))) for start in range(0, len(seeds), PART)]
    gpu = session.address() is not None and any(node.gpus for node in placement.nodes())
    done = tasks.run_parts(work, lambda part: (), parts, gpu=gpu)
    with tqdm(total=len(seeds), desc="samples", unit="img", disable=None, leave=False) as bar:
        for part in done:
            yield part
            bar.update(len(part.pixels))


def sampled_part(
    part: slice,
    contents: Iterable[None],
    *,
    model: Published,
    feature_net: FeatureNet,
    seeds: range,
    labels: Labels,
    logits: bool,
    truncation: float = 1.0,
) -> Sampled:
    """Return the samples in `part` of the seeds, on the GPU where this process has one."""
    # The same bits wherever a part is made.
    with one_thread():
        pixels = model.sample(seeds[part], labels[part], truncation)
        seen = feature_net.read(pixels)
        opinions = model.logits_of(pixels, labels[part]) if logits else None
    return Sampled(pixels, seen.features, seen.probabilities, opinions)
