"""From the checkpoints of a training to the model: the networks of the best one, and the curves of all."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd
import safetensors.torch
import torch

from ..gan.models import build
from ..gan.network_options import NetworkOptions
from ..gan.options import GENERATE, ImageFormat, TaskOptions, TrainingOptions
from ..workspace.artifacts import Dataset, Key, Model
from ..workspace.files import staging
from .checkpoints import TrainingFolder
from .points import scores_of


class ParameterCounts(NamedTuple):
    """How many parameters the networks have."""

    generator: int
    discriminator: int


def parameter_counts(options: NetworkOptions, image: ImageFormat, task: TaskOptions = GENERATE) -> ParameterCounts:
    """Count the parameters of the networks for `image`, without taking memory for them.

    Raises:
        UserError: the networks cannot make such images.
    """
    with torch.device("meta"):
        return ParameterCounts(
            *(sum(p.numel() for p in network.parameters()) for network in build(options, image, task))
        )


def publish(run: TrainingFolder, options: TrainingOptions, dataset: Dataset, key: Key, out: Path) -> Model:
    """Make `out` the model of the finished training in `run`.

    Raises:
        UserError: there is no whole checkpoint, or no space left.
    """
    best, last = run.best(), run.newest()
    assert last is not None
    counts = parameter_counts(options.network, dataset.image, options.task)
    scores = scores_of(best.history[-1])
    average = min(scores, key=lambda name: scores[name])
    if len(scores) > 1:
        told = ", ".join(f"{name} {score:.3g}" for name, score in scores.items())
        print(f"of the moving averages {average} is published, by their scores: {told}", flush=True)
    with staging(out) as folder:
        for published, name in (("generator", average), ("discriminator", "discriminator")):
            weights = {k.split("/", 1)[1]: v for k, v in best.state.tensors.items() if k.startswith(f"{name}/")}
            safetensors.torch.save_file(weights, folder / f"{published}.safetensors")
        pd.DataFrame(last.history).to_csv(folder / "history.csv", index=False)
        Model.describe(
            folder,
            key,
            training=options,
            image=dataset.image,
            execution=best.execution,
            images=best.state.images,
            score=best.score,
            generator_parameters=counts.generator,
            discriminator_parameters=counts.discriminator,
            dataset=dataset.content,
            latents="philox4x32-10/as241",
            averages=scores if len(scores) > 1 else {},
        )
    return Model.load(out)
