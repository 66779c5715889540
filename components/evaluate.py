"""Stage: Model + Dataset -> Evaluation."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from tqdm import tqdm

from .artifacts import Dataset, Evaluation, Model, Workspace, staging
from .gan import metrics
from .gan.dataset import Pixels, Split, to_signed
from .gan.features import feature_net
from .gan.models import build
from .gan.sampling import labels_like, latents, sample
from .keys import key_of
from .params import Evaluate

# More real images say little more, and memory stays bounded.
MAX_HOLDOUT = 10_000


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
    torch.set_num_threads(model.execution.workers * model.execution.threads)
    training, holdout = (Split(dataset.folder, name, dataset.image) for name in ("training", "holdout"))
    with tqdm(total=5, desc="evaluate", disable=None, leave=False) as bar:
        seeds = range(options.seed, options.seed + options.samples)
        labels = labels_like(training.class_shares, options.samples)
        generator, discriminator = (network.eval() for network in build(model.training.network, dataset.image))
        generator.load_state_dict(safetensors.torch.load_file(model.folder / "generator.safetensors"))
        discriminator.load_state_dict(safetensors.torch.load_file(model.folder / "discriminator.safetensors"))
        z = latents(seeds, model.training.network.latent)
        samples = sample(generator, z, labels, precision=model.execution.precision)
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
