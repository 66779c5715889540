"""The vetoes of the gate: what no score makes up for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..gan import metrics
from ..gan.dataset import Split, fingerprints
from ..gan.distances import Features
from ..workspace.params import Promote
from ..workspace.published import load_published
from ..workspace.scores import Scores
from ..workspace.verdict import Check
from .contenders import Evidence

# Share of the planted copies of each kind that must be found, or the search for copies says nothing.
MIN_FOUND = 0.5


class Veto(NamedTuple):
    """One veto: what was found, in half a sentence, and the bound that it must keep, from below or above.

    Without `tells` a value within the bound means nothing.
    """

    name: str
    words: str
    value: float
    at_least: float | None = None
    at_most: float | None = None
    tells: bool = True

    @property
    def check(self) -> Check:
        low, high = self.at_least, self.at_most
        threshold = low if low is not None else high
        assert threshold is not None
        passed = self.value >= threshold if low is not None else self.value <= threshold
        return Check(
            name=self.name, words=self.words, value=self.value, threshold=threshold, passed=passed, tells=self.tells
        )


def vetoes(options: Promote, evidence: Evidence) -> Iterator[Check]:
    """Look for everything that no score makes up for."""
    for veto in VETOES:
        yield from (found.check for found in veto(options, evidence))


def _finite(options: Promote, evidence: Evidence) -> Iterator[Veto]:
    weights = load_published(evidence.model.folder, "the model").generator().state_dict().values()
    finite = float(np.mean([bool(tensor.isfinite().all()) for tensor in weights]))
    words = "every weight is a finite number" if finite == 1 else "some weights are no finite numbers"
    yield Veto("finite", words, finite, at_least=1.0)


def _distinct(options: Promote, evidence: Evidence) -> Iterator[Veto]:
    features = evidence.challenger.features
    distinct = len(np.unique(features, axis=0)) / len(features)
    yield Veto("distinct", f"{distinct:.0%} of the samples are distinct", distinct, at_least=options.min_distinct)


def _copying(options: Promote, evidence: Evidence) -> Iterator[Veto]:
    """By what is found of the copies that were planted, it says nothing where it would not see them either."""
    scores = Scores.of(evidence.evaluation)
    copied = next(scores.of_metric("copied", "pixels")).score
    missed = [
        f"{score.split} ones {score.value:.0%}"
        for score in scores
        if (score.metric, score.images) == ("copied", "control") and score.split and score.value < MIN_FOUND
    ]
    words = f"{copied.value:.1%} of {copied.n:,} samples repeat a training image"
    if missed:
        words += f", but of copies that were planted too few are found to rely on that ({', '.join(missed)})"
    yield Veto("copying by pixels", words, copied.value, at_most=options.max_copied, tells=not missed)


def _classes(options: Promote, evidence: Evidence) -> Iterator[Veto]:
    """By the class that the classifier sees least of in the samples, compared with its share of the holdout."""
    dataset, classes = evidence.dataset, evidence.dataset.image.classes
    if not dataset.image.labelled:
        return
    predicted = pd.read_csv(evidence.evaluation.folder / "samples.csv")["predicted"]
    made = np.bincount(predicted, minlength=len(classes)) / len(predicted)
    real = np.array([dataset.class_counts["holdout"].get(name, 0) for name in classes]) / dataset.splits["holdout"]
    ratios = np.divide(made, real, out=np.ones(len(classes)), where=real > 0)
    least = int(ratios.argmin())
    words = f"class {classes[least]} comes {ratios[least]:.0%} as often as among real images"
    yield Veto("classes", words, float(ratios[least]), at_least=options.min_class_share)


def _recall(options: Promote, evidence: Evidence) -> Iterator[Veto]:
    recall = next(Scores.of(evidence.evaluation).of_metric("recall", evidence.net.name)).score.value
    covered = f"the samples cover {recall:.1%} of the training images"
    floor = _covered(evidence, evidence.held)
    yield Veto("recall", f"{covered}, real images {floor:.1%}", recall, at_least=options.min_recall * floor)
    if evidence.champion is not None:
        count = min(len(evidence.challenger.features), evidence.dataset.splits["holdout"])
        before = _covered(evidence, evidence.champion.features[:count])
        words = f"{covered}, the champion's {before:.1%}"
        yield Veto("recall of the champion", words, recall, at_least=options.keep_recall * before)


def _unseen(options: Promote, evidence: Evidence) -> Iterator[Veto]:
    holdout = fingerprints(Split(evidence.dataset.folder, "holdout", evidence.dataset.image))
    for who, contender in (("challenger", evidence.challenger), ("champion", evidence.champion)):
        if contender is not None:
            shared = float(np.isin(holdout, contender.trained_on).mean())
            words = f"the {who} was trained on {shared:.1%} of the images that it is judged by"
            yield Veto(f"holdout unseen by the {who}", words, shared, at_most=options.max_overlap)


VETOES: tuple[Callable[[Promote, Evidence], Iterator[Veto]], ...] = (
    _finite,
    _distinct,
    _copying,
    _classes,
    _recall,
    _unseen,
)


def _covered(evidence: Evidence, features: Features) -> float:
    """Return the share of the training images that images with these features (N, F) cover."""
    return float(metrics.precision_recall(evidence.net.real, features)[1].mean())
