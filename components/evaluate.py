"""Stage: Model + Dataset -> Evaluation."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import safetensors.torch
import torch
from safetensors.torch import load as from_safetensors
from tqdm import tqdm

from .artifacts import Dataset, Evaluation, Model, Workspace, staging
from .gan import metrics
from .gan.dataset import Pixels, Split, to_signed
from .gan.features import feature_net
from .gan.models import restored
from .gan.options import ImageFormat, NetworkOptions
from .gan.sampling import labels_like, latents, sample
from .keys import key_of
from .params import Evaluate
from .services import cluster

# More real images say little more, and memory stays bounded.
MAX_HOLDOUT = 10_000
CLUSTER_SAMPLES = 500
Labels = npt.NDArray[np.int64]


def evaluate(options: Evaluate, model: Model, dataset: Dataset, out: Path) -> Evaluation:
    """Measure the model on samples of its moving average against the training split; floors by the holdout.

    Names in `metrics.json` state the protocol: `fd_classifier_8k` is the Frechet distance of 8,000 samples to the
    training split in the features of the data set's own classifier (`efficientnet_lite0` for images without labels);
    `..._floor` the same for the holdout's real images.

    Raises:
        UserError: the model or the data set is damaged, or the net that judges is not installed.
    """
    key = key_of("evaluate", options, model.content, dataset.content)
    if found := Evaluation.find(out, key):
        return found
    model.verified()
    dataset.verified()
    torch.set_num_threads(min(model.execution.workers * model.execution.threads, len(os.sched_getaffinity(0))))
    training, holdout = (Split(dataset.folder, name, dataset.image) for name in ("training", "holdout"))
    with tqdm(total=5, desc="evaluate", disable=None, leave=False) as bar:
        seeds = range(options.seed, options.seed + options.samples)
        labels = labels_like(training.class_shares, options.samples)
        samples = _samples(model, seeds, labels)
        weights = safetensors.torch.load_file(model.folder / "discriminator.safetensors")
        discriminator = restored(model.training.network, dataset.image, weights, "discriminator").eval()
        bar.update()

        home = Workspace.around(out)
        judge = feature_net(training, dataset.content, home.state / "features")
        chosen = holdout.spread(MAX_HOLDOUT)
        held_pixels, held_labels = holdout.pixels(chosen), holdout.labels[chosen]
        (fake, probabilities), (held, _) = judge.read(samples), judge.read(held_pixels)
        bar.update()

        size = _count(options.samples)
        scores = {}
        table = {"seed": list(seeds), "label": labels}
        if probabilities is not None:
            table["predicted"] = probabilities.argmax(1)
            table["confidence"] = probabilities[np.arange(len(labels)), labels]
            scores["agreement"] = float((table["predicted"] == labels).mean())
        # To images that nothing was trained on: near the distance to the training split unless that was memorised.
        scores[f"fd_holdout_{judge.name}_{size}"] = metrics.frechet_distance(fake, held)
        scores[f"fd_holdout_{judge.name}_{size}_floor"] = metrics.frechet_distance(judge.real, held)
        for suffix, features in (("", fake), ("_floor", held)):
            scores[f"fd_{judge.name}_{size}{suffix}"] = metrics.frechet_distance(features, judge.real)
            scores[f"kid_{judge.name}_{size}{suffix}"] = metrics.kernel_distance(features, judge.real)
            precision, recall = metrics.precision_recall(judge.real, features)
            scores[f"precision_{judge.name}_{size}{suffix}"] = precision
            scores[f"recall_{judge.name}_{size}{suffix}"] = recall
        bar.update()

        table["discriminator"] = logits = _logits(discriminator, samples, labels)
        scores["discriminator_accuracy_generated"] = float((logits < 0).mean())
        real_logits = _logits(discriminator, held_pixels, held_labels)
        scores["discriminator_accuracy_holdout"] = float((real_logits > 0).mean())
        bar.update()

        checked = min(options.copy_checks, len(samples))
        for suffix, images in (("", samples[:checked]), ("_floor", held_pixels[:checked])):
            psnr, ssim = metrics.psnr_ssim(images, training.pixels(metrics.nearest(images, training.batches(4096))))
            scores[f"psnr_nearest_{_count(checked)}{suffix}"] = psnr
            scores[f"ssim_nearest_{_count(checked)}{suffix}"] = ssim
        bar.update()
    scores = dict(sorted(scores.items()))
    with staging(out) as folder:
        np.save(folder / "samples.npy", samples)
        pd.DataFrame(table).to_csv(folder / "samples.csv", index=False)
        (folder / "metrics.json").write_text(json.dumps(scores, indent=2) + "\n")
        Evaluation.describe(
            folder,
            key,
            metrics=scores,
            samples=options.samples,
            training_images=len(training),
            holdout_images=len(holdout),
            feature_net=judge.sha256,
            holdout=hashlib.sha256(held_pixels.tobytes() + held_labels.tobytes()).hexdigest(),
            model=model.content,
        )
    return Evaluation.load(out)


def _samples(model: Model, seeds: range, labels: Labels) -> Pixels:
    """Images (N, H, W, C) of these seeds and labels (N,); on the cluster, where there is one."""
    weights = (model.folder / "generator.safetensors").read_bytes()
    make = partial(
        make_samples,
        options=model.training.network,
        image=model.image,
        weights=weights,
        seeds=seeds,
        labels=labels,
        precision=model.execution.precision,
    )
    if cluster.address() is None:
        return make(slice(0, len(seeds)), ())
    parts = [slice(start, start + CLUSTER_SAMPLES) for start in range(0, len(seeds), CLUSTER_SAMPLES)]
    gpu = any(node.gpus for node in cluster.nodes())
    with tqdm(total=len(parts), desc="samples", unit="part", disable=None, leave=False) as bar:
        made = []
        for pixels in cluster.run_parts(make, lambda part: (), parts, gpu=gpu):
            made.append(pixels)
            bar.update()
    return np.concatenate(made)


def make_samples(
    part: slice,
    contents: Iterable[None],
    *,
    options: NetworkOptions,
    image: ImageFormat,
    weights: bytes,
    seeds: range,
    labels: Labels,
    precision: str,
) -> Pixels:
    """Images (n, H, W, C) of the seeds and labels in `part`, on the GPU where this process has one."""
    generator = restored(options, image, from_safetensors(weights))
    generator.to("cuda" if torch.cuda.is_available() else "cpu")
    return sample(generator, latents(seeds[part], options.latent), labels[part], precision=precision)


def _count(number: int) -> str:
    """8000 -> 8k, as the field writes it in names of metrics."""
    return f"{number // 1000}k" if number % 1000 == 0 else str(number)


@torch.inference_mode()
def _logits(discriminator: torch.nn.Module, pixels: Pixels, labels: np.ndarray, batch: int = 500) -> np.ndarray:
    """Logits (N,) of images (N, H, W, C) uint8."""
    made = [
        discriminator(to_signed(torch.from_numpy(pixels[i : i + batch])), torch.from_numpy(labels[i : i + batch]), None)
        for i in range(0, len(pixels), batch)
    ]
    logits: np.ndarray = torch.cat(made).float().numpy()
    return logits
