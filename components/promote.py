"""The gate: whether a challenger becomes champion, by evidence on images that neither was trained on.

Not a stage: what it finds depends on who is champion, so it lies in `mlruns/verdict`, outside of what DVC versions.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import safetensors.torch

from . import cards, drift
from .gan import metrics
from .gan.dataset import Pixels, Split, fingerprints
from .gan.distances import Features, kernel_distance
from .gan.errors import UserError
from .gan.features import FeatureNet, feature_net
from .gan.metrics import Resampled
from .gan.options import Execution, ImageFormat, TrainingOptions
from .measure import PART, Networks, sampled
from .reports.verdict_page import render
from .services import tracking
from .workspace.artifacts import Dataset, Evaluation, Model, Registration
from .workspace.files import staging, unsealed
from .workspace.params import Promote
from .workspace.verdict import Check, Verdict
from .workspace.workspace import Workspace

# Pictures of each that the page shows, at the same seeds, at most.
SHOWN = 60
# More than that nobody makes for a verdict.
MAX_SAMPLES = 1_000_000
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Contender:
    """What the gate knows of a model: samples (N, H, W, C), their features (N, F) and the images it was trained on."""

    features: Features
    shown: Pixels
    trained_on: npt.NDArray[np.uint64]


def promote(
    options: Promote,
    registration: Registration,
    model: Model,
    evaluation: Evaluation,
    dataset: Dataset,
    home: Workspace,
) -> Verdict:
    """Compare the registered `model` with the champion, make it champion if it is better, and write down why.

    Raises:
        UserError: the champion makes other images or was taken away meanwhile, or the registry cannot be reached.
    """
    name, version = registration.name, registration.version
    champion = tracking.champion(name, home)
    crowned = champion is not None and champion.version == version
    if crowned:
        if known := Verdict.last(home.verdict, name, version):
            cards.attach(home)
            return known
        # It is the workspace's model again, after another one was judged.
        champion = None
    training = Split(dataset.folder, "training", dataset.image)
    judge = feature_net(training, dataset.content, home.state / "features")
    table = pd.read_csv(evaluation.folder / "samples.csv")
    labels: Labels = table["label"].to_numpy(np.int64, copy=True)
    seeds = range(int(table["seed"].iloc[0]), int(table["seed"].iloc[-1]) + 1)
    held: Features = np.load(evaluation.folder / "holdout.npy", allow_pickle=False).astype(np.float64)
    shown = np.load(evaluation.folder / "samples.npy", mmap_mode="r", allow_pickle=False)
    challenger = Contender(
        np.load(evaluation.folder / "features.npy", allow_pickle=False).astype(np.float64),
        np.asarray(shown[_shown(labels)]),
        np.load(evaluation.folder / "training_images.npy", allow_pickle=False),
    )
    rival = None
    if champion is not None:
        rival = measured(champion, judge, model.image, seeds, labels, home)
    checks = tuple(_checks(options, model, evaluation, challenger, rival, judge, dataset))
    verdict = _concluded(options, registration, champion, challenger, rival, held, labels, judge, evaluation, checks)
    if crowned:
        verdict = verdict.model_copy(update={"answer": "promote", "reason": "it is the champion already"})
    elif verdict.answer == "promote" and tracking.was_rolled_back(name, version, home):
        verdict = verdict.model_copy(
            update={"answer": "keep", "reason": f"version {version} was rolled back by `ganflow rollback`"}
        )
    if verdict.answer == "promote" and not crowned and not tracking.set_champion(name, version, verdict.champion, home):
        raise UserError(f"another version of {name} became champion meanwhile: run `ganflow promote` again")
    history = tracking.champions(name, home)
    pictures = challenger.shown, None if rival is None else rival.shown
    page = render(verdict, pictures, [model.image.classes[label] for label in labels[_shown(labels)]], history)
    with staging(home.verdict) as folder:
        (folder / "verdict.json").write_text(verdict.model_dump_json(indent=2) + "\n")
        (folder / "verdict.html").write_text(page, encoding="utf-8")
    if verdict.answer == "promote":
        drift.keep_reference(dataset, judge, held, home)
    cards.attach(home)
    return verdict


class Decision(NamedTuple):
    """What the samples say, in units of KID; `low` and `high` each hold with a confidence of 1 - alpha."""

    answer: Literal["promote", "keep", "abstain"]
    improvement: float
    low: float
    high: float
    margin: float
    needed: int | None = None


def decide(
    challenger: Features, champion: Features, held: Features, labels: Labels, margin: float, alpha: float
) -> Decision:
    """Whether the challenger is nearer to the holdout than the champion, by more than `margin` of its KID.

    Shapes: (N, F), (N, F), (M, F), and the labels of both, (N,).
    """
    new, old = (metrics.kernel_resampled(f, held, labels, stream) for stream, f in enumerate((challenger, champion)))
    return decided(new, old, margin, alpha, len(challenger))


def decided(new: Resampled, old: Resampled, margin: float, alpha: float, samples: int) -> Decision:
    """`decide` by distances of `samples` images of each that are known already.

    Two trainings of one recipe differ too, which no number of samples tells: that is what the margin is for.
    """
    improvement, by_samples, by_held = metrics.kernel_difference(new, old)
    wanted = margin * max(old.value, 0.0)
    z = NormalDist().inv_cdf(1 - alpha)
    reach = z * math.hypot(by_samples, by_held)
    low, high = improvement - reach, improvement + reach
    if low > wanted:
        return Decision("promote", improvement, low, high, wanted)
    if high < wanted:
        return Decision("keep", improvement, low, high, wanted)
    # An error falls with the root of the number; more samples make up for no choice of held-out images.
    left = (abs(improvement - wanted) / z) ** 2 - by_held**2
    needed = math.ceil(samples * by_samples**2 / left) if left > 0 else None
    return Decision("abstain", improvement, low, high, wanted, needed if needed and needed <= MAX_SAMPLES else None)


def _concluded(
    options: Promote,
    registration: Registration,
    champion: tracking.Published | None,
    challenger: Contender,
    rival: Contender | None,
    held: Features,
    labels: Labels,
    judge: FeatureNet,
    evaluation: Evaluation,
    checks: tuple[Check, ...],
) -> Verdict:
    kid = kernel_distance(challenger.features, held)
    found = Decision("promote", 0.0, 0.0, 0.0, 0.0)
    reason = "it is the first that passes the checks"
    kid_champion = None
    if champion is not None and rival is not None:
        kid_champion = kernel_distance(rival.features, held)
        found = decide(challenger.features, rival.features, held, labels, options.margin, options.alpha)
        both = f"its KID is {kid:.4g}, that of version {champion.version} {kid_champion:.4g}"
        reason = {
            "promote": f"{both}: better by more than the margin of {found.margin:.3g}, and not by luck",
            "keep": f"{both}: not better by the margin of {found.margin:.3g}",
            "abstain": f"{both}: too few to tell whether that is more than the margin of {found.margin:.3g}; "
            + (
                f"about {found.needed:,} samples would do (evaluate.samples)"
                if found.needed
                else f"{len(held):,} held-out images cannot tell so small a difference"
            ),
        }[found.answer]
    if failed := [check for check in checks if not check.passed]:
        found = found._replace(answer="keep", needed=None)
        reason = "; ".join(check.words for check in failed)
    return Verdict(
        name=registration.name,
        challenger=registration.version,
        challenger_key=registration.model_key,
        champion=champion.version if champion else None,
        champion_key=champion.key if champion else None,
        answer=found.answer,
        reason=reason,
        improvement=found.improvement,
        low=found.low,
        high=found.high,
        margin=found.margin,
        alpha=options.alpha,
        kid_challenger=kid,
        kid_champion=kid_champion,
        floor=kernel_distance(judge.real, held),
        samples=len(challenger.features),
        needed=found.needed,
        feature_net=judge.sha256,
        net_name=judge.name,
        holdout=evaluation.holdout,
        checks=checks,
    )


def _checks(
    options: Promote,
    model: Model,
    evaluation: Evaluation,
    challenger: Contender,
    rival: Contender | None,
    judge: FeatureNet,
    dataset: Dataset,
) -> Iterator[Check]:
    """The vetoes: what no score makes up for."""

    def score(name: str) -> float:
        return next(v for n, v in evaluation.metrics.items() if n.startswith(name) and not n.endswith("_canaries"))

    weights = safetensors.torch.load_file(model.folder / "generator.safetensors").values()
    finite = float(np.mean([bool(tensor.isfinite().all()) for tensor in weights]))
    yield Check(
        name="finite",
        words="every weight is a finite number" if finite == 1 else "some weights are no finite numbers",
        value=finite,
        threshold=1.0,
        passed=finite == 1,
    )
    distinct = len(np.unique(challenger.features, axis=0)) / len(challenger.features)
    yield _at_least("distinct", f"{distinct:.0%} of the samples are distinct", distinct, options.min_distinct)
    for space in ("pixels", judge.name):
        copied = score(f"copied_{space}_")
        found = next(v for n, v in evaluation.metrics.items() if n.startswith(f"copied_{space}_") and "canaries" in n)
        words = f"{copied:.1%} of the samples repeat a training image (by {space.replace('_', ' ')})"
        if found < 0.5:
            words += f"; of copies that were planted only {found:.0%} were found"
        yield Check(
            name=f"copying by {space.replace('_', ' ')}",
            words=words,
            value=copied,
            threshold=options.max_copied,
            passed=copied <= options.max_copied,
        )
    if model.image.labelled:
        share, name = _least_class(evaluation, dataset)
        words = f"class {name} comes {share:.0%} as often as among real images"
        yield _at_least("classes", words, share, options.min_class_share)
    n = min(len(challenger.features), dataset.splits["holdout"])
    recall = score(f"recall_{judge.name}_")
    floor = float(
        metrics.precision_recall(judge.real, np.load(evaluation.folder / "holdout.npy").astype(np.float64))[1].mean()
    )
    words = f"the samples cover {recall:.1%} of the training images, real images {floor:.1%}"
    yield _at_least("recall", words, recall, options.min_recall * floor)
    if rival is not None:
        before = float(metrics.precision_recall(judge.real, rival.features[:n])[1].mean())
        words = f"the samples cover {recall:.1%} of the training images, the champion's {before:.1%}"
        yield _at_least("recall of the champion", words, recall, options.keep_recall * before)
    holdout = fingerprints(Split(dataset.folder, "holdout", dataset.image))
    for who, contender in (("challenger", challenger), ("champion", rival)):
        if contender is not None:
            shared = float(np.isin(holdout, contender.trained_on).mean())
            yield Check(
                name=f"holdout unseen by the {who}",
                words=f"the {who} was trained on {shared:.1%} of the images that it is judged by",
                value=shared,
                threshold=options.max_overlap,
                passed=shared <= options.max_overlap,
            )


def _at_least(name: str, words: str, value: float, threshold: float) -> Check:
    return Check(name=name, words=words, value=value, threshold=threshold, passed=value >= threshold)


def _least_class(evaluation: Evaluation, dataset: Dataset) -> tuple[float, str]:
    """The class that the classifier sees least of in the samples, compared with its share of the holdout."""
    classes = dataset.image.classes
    predicted = pd.read_csv(evaluation.folder / "samples.csv")["predicted"]
    made = np.bincount(predicted, minlength=len(classes)) / len(predicted)
    real = np.array([dataset.class_counts["holdout"].get(name, 0) for name in classes]) / dataset.splits["holdout"]
    ratios = np.divide(made, real, out=np.ones(len(classes)), where=real > 0)
    least = int(ratios.argmin())
    return float(ratios[least]), classes[least]


def _shown(labels: Labels) -> npt.NDArray[np.int64]:
    """Which samples the page shows: as many of each class, of those in the first part."""
    table = pd.DataFrame({"label": labels[:PART]})
    table["turn"] = table.groupby("label").cumcount()
    each = max(1, SHOWN // table["label"].nunique())
    return table[table["turn"] < each].sort_values(["label", "turn"]).index.to_numpy(np.int64)[:SHOWN]


def measured(
    champion: tracking.Published,
    judge: FeatureNet,
    image: ImageFormat,
    seeds: range,
    labels: Labels,
    home: Workspace,
) -> Contender:
    """The champion's samples at these seeds and labels, seen by the net that judges the challenger.

    Raises:
        UserError: it makes other images.
    """
    described = unsealed((champion.folder / Model.manifest).read_text())
    theirs = ImageFormat.model_validate(described["image"])
    if theirs != image:
        raise UserError(
            f"the champion of {champion.name} makes images of {theirs.width}x{theirs.height} with {theirs.channels} "
            f"channels and {len(theirs.classes)} classes, this model {image.width}x{image.height}, {image.channels} "
            f"and {len(image.classes)}, or classes of other names: give it another register.name"
        )
    training = TrainingOptions.model_validate(described["training"])
    precision = Execution.model_validate(described["execution"]).precision
    weights = (champion.folder / "generator.safetensors").read_bytes()
    networks = Networks(training.network, image, precision, weights)
    known = hashlib.sha256(weights + judge.sha256.encode() + labels.tobytes() + str(seeds).encode()).hexdigest()[:16]
    cached = home.state / "gate" / f"{known}.npz"
    if cached.exists():
        with np.load(cached, allow_pickle=False) as found:
            features, shown = found["features"].astype(np.float64), found["shown"]
    else:
        parts = list(sampled(networks, judge, seeds, labels))
        features, shown = np.concatenate([part.features for part in parts]), parts[0].pixels[_shown(labels)]
        cached.parent.mkdir(parents=True, exist_ok=True)
        staged = cached.with_suffix(".tmp.npz")
        np.savez(staged, features=features.astype(np.float32), shown=shown)
        staged.replace(cached)
    trained_on = np.load(champion.folder / "training_images.npy", allow_pickle=False)
    return Contender(features, shown, trained_on)
