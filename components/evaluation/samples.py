"""Samples of a model and what nets see in them, in parts: what evaluation and the gate share.

The parts are the same whoever computes them, so that the result does not depend on the number of machines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from ..gan.dataset import Pixels
from ..gan.published import Published, one_thread
from ..measures.features import FeatureNet, Reading
from ..services.cluster import placement, session, tasks

PART = 500
Labels = npt.NDArray[np.int64]


class Sampled(NamedTuple):
    """N samples (N, H, W, C), what each feature net sees in them, and where there are such the logits (N,)."""

    pixels: Pixels
    readings: tuple[Reading, ...]
    logits: npt.NDArray[np.float64] | None


def sampled(
    model: Published,
    feature_nets: Sequence[FeatureNet],
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
    light = tuple(net._replace(real=net.real[:0]) for net in feature_nets)
    work = partial(
        sampled_part,
        model=model,
        feature_nets=light,
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
    feature_nets: Sequence[FeatureNet],
    seeds: range,
    labels: Labels,
    logits: bool,
    truncation: float = 1.0,
) -> Sampled:
    """Return the samples in `part` of the seeds, on the GPU where this process has one."""
    # The same bits wherever a part is made.
    with one_thread():
        pixels = model.sample(seeds[part], labels[part], truncation)
        readings = tuple(net.read(pixels) for net in feature_nets)
        opinions = model.logits_of(pixels, labels[part]) if logits else None
    return Sampled(pixels, readings, opinions)
