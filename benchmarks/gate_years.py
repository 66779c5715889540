"""How often the gate's comparison is right: `python -m benchmarks.gate_years --keep DIR [--workspace DIR]`.

Trains a dozen models of the digits in `artifacts/dataset`, of one recipe at other seeds and lengths, and feature nets
from other seeds. What the nets see in samples of each model is kept in `--keep`; from it looks of the gate are
resampled: samples within their class, held-out images, and which nets are used. The truth is the KID of fresh samples,
averaged over five nets that no look uses. Prints a JSON line for each question:

- years of daily challengers, with the gate's advice followed: how many of them have a promotion of a model whose true
  KID is not below the champion's;
- how often a model is promoted whose true KID is lower by a third, or about so, and what the gate says of that;
- how often the answer for one pair is the same with other nets.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import permutations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from tqdm import tqdm

from components.evaluation.comparison import Comparison
from components.evaluation.gate import Decision, decide
from components.gan.dataset import Split
from components.gan.models.layers import standing_statistics
from components.gan.options import Execution
from components.gan.published import FILES, Manifest, Published
from components.gan.sampling import labels_like, seeded
from components.gan.training_loop import training_loop
from components.measures.features import Classifier, read, train_classifier
from components.measures.metrics import kernel_pulls
from components.training.scoring import resolve_precision
from components.workspace.artifacts import Dataset
from components.workspace.params import Promote, Train
from components.workspace.published import load_published, save_published

Array = npt.NDArray[np.float64]
# Images that each model saw in training; those of one length differ by their seed.
LENGTHS = (48_000, 48_000, 48_000, 48_000, 32_000, 32_000, 32_000, 24_000, 24_000, 24_000, 16_000, 16_000)
# Samples that looks are drawn from, in parts, and nets: those that looks use, and those of the truth.
PART, PARTS, TRUE_PART = 8_000, 2, 5_000
NETS, TRUE_NETS = tuple(range(6)), tuple(range(100, 105))
DAYS, MAX_LOOKS, RESAMPLES, TRIALS = 365, 8, 2_000, 400


class Seen(NamedTuple):
    """What nets see of a model: KID (nets,) and pulls of samples and held-out images on it, (nets, N), (nets, M).

    `truth`: its KID on samples of its own, (true nets,).
    """

    kid: Array
    by_samples: Array
    by_held: Array
    labels: npt.NDArray[np.int64]
    held_labels: npt.NDArray[np.int64]
    truth: Array


def trained(folder: Path, images: int, seed: int, data: Split) -> Published:
    """The model in `folder`, trained there if there is none yet."""
    if not folder.exists():
        options = Train(images=images, seed=seed).loop
        execution = Execution(workers=1, threads=1, device="cpu", precision=resolve_precision(options, False))
        *_, last = training_loop(options, data, execution)
        labels = labels_like(data.class_shares, 1_000)
        with torch.autocast("cpu", torch.bfloat16, enabled=execution.precision == "bf16"):
            standing_statistics(last.ema, seeded(range(1_000, 2_000), labels, options.network.latent))
        weights = safetensors.torch.save({name: value.contiguous() for name, value in last.ema.state_dict().items()})
        name = FILES["generator"]
        manifest = Manifest(
            network=options.network,
            image=data.image,
            precision=execution.precision,
            latents="philox4x32-10/as241",
            files={name: hashlib.sha256(weights).hexdigest()},
        )
        folder.mkdir(parents=True)
        save_published(Published(manifest, {name: weights}), folder)
    return load_published(folder, str(folder))


def feature_net(file: Path, seed: int, data: Split) -> Classifier:
    """The net in `file`, trained from `seed` if there is none yet."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        safetensors.torch.save_file(dict(train_classifier(data, seed).state_dict()), file)
    net = Classifier(data.image)
    net.load_state_dict(safetensors.torch.load_file(file))
    return net.eval().requires_grad_(False)


def looked_at(
    file: Path, model: Published, at: int, nets: dict[int, Classifier], training: Split, holdout: Split, true: int
) -> Seen:
    """What the nets see of the model, kept in `file`; no two models share a seed of a sample."""
    if not file.exists():
        real = holdout.pixels(np.arange(len(holdout)))
        held = {seed: read(net, real).features for seed, net in nets.items()}
        labels, few = (labels_like(holdout.class_shares, count) for count in (PART, TRUE_PART))
        first = 10_000_000 * (at + 1)
        parts: dict[int, list[tuple[float, torch.Tensor, torch.Tensor]]] = {seed: [] for seed in NETS}
        for part in range(PARTS):
            pixels = model.sample(range(first + part * PART, first + (part + 1) * PART), labels)
            for seed in NETS:
                parts[seed].append(kernel_pulls(read(nets[seed], pixels).features, held[seed]))
        truth = []
        for start in range(first + 5_000_000, first + 5_000_000 + true, TRUE_PART):
            pixels = model.sample(range(start, start + TRUE_PART), few)
            truth.append([kernel_pulls(read(nets[seed], pixels).features, held[seed])[0] for seed in TRUE_NETS])
        np.savez(
            file,
            kid=np.array([np.mean([value for value, _, _ in parts[seed]]) for seed in NETS]),
            by_samples=np.stack([np.concatenate([own.numpy() for _, own, _ in parts[seed]]) for seed in NETS]),
            by_held=np.stack([np.mean([by.numpy() for _, _, by in parts[seed]], 0) for seed in NETS]),
            labels=np.tile(labels, PARTS),
            held_labels=holdout.labels,
            truth=np.mean(truth, 0),
        )
    return Seen(**np.load(file, allow_pickle=False))


class Looks:
    """Looks of the gate at pairs of models, resampled from what nets see of them."""

    def __init__(self, models: Sequence[Seen], rng: np.random.Generator) -> None:
        self.models, self.rng = models, rng
        centred = [_within_classes(model.by_samples, model.labels) for model in models]
        self.spread = [np.cov(pull, bias=True) for pull in centred]
        self.luck = [_resampled(pull, model.labels, rng) for pull, model in zip(centred, models, strict=True)]
        self.held_labels = models[0].held_labels
        held = np.stack([_within_classes(model.by_held, self.held_labels) for model in models])
        # What all models share cancels in every comparison, and is known only with what the reals pull on each other.
        self.held = held - held.mean(0)

    def holdout(self) -> Array:
        """What another choice of held-out images adds to each KID, (models, nets)."""
        chosen = np.zeros(len(self.held_labels))
        for label in np.unique(self.held_labels):
            own = np.flatnonzero(self.held_labels == label)
            np.add.at(chosen, self.rng.choice(own, len(own)), 1 / len(chosen))
        return self.held @ chosen

    def look(self, new: int, old: int, nets: npt.NDArray[np.int64], samples: int, holdout: Array) -> Comparison:
        """One comparison; `samples` is a multiple of `PART`."""
        kids = []
        for at in (new, old):
            drawn = self.rng.integers(0, RESAMPLES, samples // PART)
            kids.append(self.models[at].kid[nets] + self.luck[at][drawn].mean(0)[nets] + holdout[at][nets])
        scale = kids[0] + kids[1]
        weight = scale.mean() / scale if (scale > 0).all() else np.ones(len(scale))
        each = weight / len(nets)
        here = np.ix_(nets, nets)
        by_samples = each @ (self.spread[new][here] + self.spread[old][here]) @ each / samples
        by_held = (each @ (self.held[old] - self.held[new])[nets]).std() / self.held.shape[2] ** 0.5
        differences = weight * (kids[1] - kids[0])
        return Comparison(
            challenger=float((weight * kids[0]).mean()),
            champion=float((weight * kids[1]).mean()),
            by_samples=float(by_samples) ** 0.5,
            by_held=float(by_held),
            by_nets=float(differences.std(ddof=1)) / len(nets) ** 0.5 if len(nets) > 1 else None,
            nets=len(nets),
            samples=samples,
        )


def _within_classes(pulls: Array, labels: npt.NDArray[np.int64]) -> Array:
    """Pulls (nets, N) less the mean of their class, whose share is no accident."""
    centred = pulls.astype(np.float64)
    for label in np.unique(labels):
        centred[:, labels == label] -= centred[:, labels == label].mean(1, keepdims=True)
    return centred


def _resampled(pull: Array, labels: npt.NDArray[np.int64], rng: np.random.Generator) -> Array:
    """Means of `PART` samples that are drawn again within their class: (resamples, nets)."""
    luck = np.zeros((RESAMPLES, len(pull)))
    for label in np.unique(labels):
        own = pull[:, labels == label]
        count = round(own.shape[1] * PART / len(labels))
        for start in range(0, RESAMPLES, 100):
            luck[start : start + 100] += own[:, rng.integers(0, own.shape[1], (100, count))].sum(2).T
    return luck / PART


def followed(
    looks: Looks, pair: tuple[int, int], nets: npt.NDArray[np.int64], options: Promote, holdout: Array, before: int
) -> Iterator[Decision]:
    """What the gate says of a pair, looked at again with as many samples as it advises; `before`: looks before."""
    samples = options.samples
    for look in range(1, MAX_LOOKS + 1):
        seen = looks.look(*pair, nets, -(-samples // PART) * PART, holdout)
        found = decide(seen, (look, before + look), options.margin, options.alpha)
        yield found
        if found.answer != "abstain" or not found.needed:
            return
        samples = found.needed


def year(looks: Looks, truth: Array, options: Promote) -> tuple[int, int, int]:
    """Promotions, false ones and looks in a year of challengers of which each is drawn from all models."""
    rng = looks.rng
    nets = rng.choice(len(NETS), options.feature_nets, replace=False)
    holdout, champion, count = looks.holdout(), int(rng.integers(len(truth))), 0
    promoted = false = 0
    for _ in range(DAYS):
        challenger = int(rng.choice(np.delete(np.arange(len(truth)), champion)))
        found = [*followed(looks, (challenger, champion), nets, options, holdout, count)]
        count += len(found)
        if found[-1].answer == "promote":
            promoted, false = promoted + 1, false + bool(truth[challenger] >= truth[champion])
            champion = challenger
    return promoted, false, count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=Path())
    parser.add_argument("--keep", type=Path, required=True, help="folder for models, nets and what these see")
    parser.add_argument("--true-samples", type=int, default=50_000)
    parser.add_argument("--years", type=int, default=200)
    parser.add_argument("--models", type=int, default=len(LENGTHS))
    given = parser.parse_args()
    started = time.process_time()
    dataset = Dataset.load(given.workspace / "artifacts" / "dataset")
    training, holdout = (Split(dataset.folder, name, dataset.image) for name in ("training", "holdout"))
    nets = {
        seed: feature_net(given.keep / f"net{seed}.safetensors", seed, training)
        for seed in tqdm((*NETS, *TRUE_NETS), desc="nets", disable=None)
    }
    models = []
    for at, images in enumerate(tqdm(LENGTHS[: given.models], desc="models", disable=None)):
        model = trained(given.keep / f"model{at}", images, at, training)
        file = given.keep / f"model{at}.npz"
        models.append(looked_at(file, model, at, nets, training, holdout, given.true_samples))
    report(models, given.years)
    print(json.dumps({"processor seconds": round(time.process_time() - started)}))


def report(models: Sequence[Seen], years: int) -> None:
    """Resample looks, and print what the gate does."""
    options, rng = Promote(), np.random.default_rng(0)
    truth = np.array([model.truth.mean() for model in models])
    print(json.dumps({"true KID": truth.round(2).tolist()}))
    looks = Looks(models, rng)
    found = np.array([year(looks, truth, options) for _ in tqdm(range(years), desc="years", disable=None)])
    promoted, false, count = found.T
    counts = {"promotions": promoted.mean(), "looks": count.mean()}
    said = {"years": years, "with a false promotion": int((false > 0).sum()), "false promotions": int(false.sum())}
    print(json.dumps(said | {f"{name} a year": round(float(value), 1) for name, value in counts.items()}))
    for low, high in ((-0.1, 0.1), (0.1, 0.28), (0.28, 0.4), (0.4, 0.6), (0.6, 1.0)):
        pairs = [
            pair for pair in permutations(range(len(models)), 2) if low <= 1 - truth[pair[0]] / truth[pair[1]] < high
        ]
        if pairs:
            share = {"lower by": [low, high], "pairs": len(pairs)}
            print(json.dumps(share | {str(n): alone(looks, pairs, n, options) for n in (PART, 2 * PART, 6 * PART)}))
    for count in (1, 2, 3, 5):
        if 2 * count <= len(NETS):
            print(json.dumps({"nets": count} | agreement(looks, count, options)))


def alone(looks: Looks, pairs: Sequence[tuple[int, int]], samples: int, options: Promote) -> dict[str, float]:
    """First looks at pairs with so many samples: what the gate answers, and the power that it states, on average."""
    answers, power = Counter[str](), []
    for _ in range(TRIALS):
        pair, nets = pairs[looks.rng.integers(len(pairs))], looks.rng.choice(len(NETS), options.feature_nets, False)
        found = decide(looks.look(*pair, nets, samples, looks.holdout()), (1, 1), options.margin, options.alpha)
        answers[found.answer] += 1
        power.append(found.power or 0.0)
    return {name: count / TRIALS for name, count in sorted(answers.items())} | {"stated": round(np.mean(power), 2)}


def agreement(looks: Looks, count: int, options: Promote) -> dict[str, float]:
    """The same samples of a pair as seen by two sets of nets that share none: how often the answers are the same."""
    same = opposite = trials = 0
    state = looks.rng.bit_generator
    for pair in permutations(range(len(looks.models)), 2):
        for _ in range(10):
            nets, holdout = looks.rng.permutation(len(NETS))[: 2 * count], looks.holdout()
            answers = []
            before = state.state
            for part in np.split(nets, 2):
                state.state = before
                seen = looks.look(*pair, part, 2 * PART, holdout)
                answers.append(decide(seen, (1, 1), options.margin, options.alpha).answer)
            trials += 1
            same += answers[0] == answers[1]
            opposite += set(answers) == {"promote", "keep"}
    return {"same": round(same / trials, 3), "promote and keep": round(opposite / trials, 4)}


if __name__ == "__main__":
    main()
