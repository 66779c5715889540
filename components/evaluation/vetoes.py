"""The vetoes of the gate: what no score makes up for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..gan.dataset import Split
from ..measures import metrics
from ..measures.distances import Features
from ..workspace.params import Promote
from ..workspace.published import load_published
from ..workspace.scores import Scores
from ..workspace.verdict import Check
from .contenders import Evidence
from .task_contenders import TaskEvidence

# Images of a class that are to be expected, or it may be missing by chance.
EXPECTED = 10
# More held-out images say little more of their classes.
MAX_HOLDOUT = 10_000
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


def finite(options: Promote, evidence: Evidence | TaskEvidence) -> Iterator[Veto]:
    """By every weight of the generator."""
    weights = load_published(evidence.model.folder, "the model").generator().state_dict().values()
    share = float(np.mean([bool(tensor.isfinite().all()) for tensor in weights]))
    words = "every weight is a finite number" if share == 1 else "some weights are no finite numbers"
    yield Veto("finite", words, share, at_least=1.0)


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
    """By the class that the classifier sees least of in the samples, compared with what it sees in the holdout.

    The classifier overlooks rare and hard classes in real images too, which is no fault of the samples. A class is
    missing where chance does not explain it, and where enough of it is to be expected to say so.
    """
    image = evidence.dataset.image
    if not image.labelled:
        return
    holdout = Split(evidence.dataset.folder, "holdout", image)
    assert evidence.classifier is not None
    shares = Split(evidence.dataset.folder, "training", image).class_shares
    seen = evidence.classifier.read(holdout.pixels(holdout.spread(MAX_HOLDOUT, shares))).probabilities
    assert seen is not None
    predicted = pd.read_csv(evidence.evaluation.folder / "samples.csv")["predicted"].to_numpy()
    found = scarcest(predicted, seen.argmax(1), len(image.classes))
    if found is None:
        words = f"no class is seen often enough among real images to be missed (of {len(image.classes)})"
        yield Veto("classes", words, 1.0, at_least=options.min_class_share)
        return
    label, ratio, at_most = found
    words = (
        f"class {image.classes[label]} is seen {ratio:.0%} as often as among real images, by chance up to {at_most:.0%}"
    )
    yield Veto("classes", words, at_most, at_least=options.min_class_share)


def scarcest(made: npt.NDArray[np.int64], real: npt.NDArray[np.int64], classes: int) -> tuple[int, float, float] | None:
    """Return the class that comes least, its share over that among real images, and the most that this may be.

    `made`, `real`: predicted classes (N,), (M,). The most is the upper end of 95 %, one-sided, by the binomial share
    that the samples have of both (Clopper & Pearson). None where no class is expected `EXPECTED` times.
    """
    from scipy.stats import beta  # type: ignore[import-untyped]

    k, m = (np.bincount(labels, minlength=classes) for labels in (made, real))
    known = np.flatnonzero((m >= EXPECTED) & (m * len(made) >= EXPECTED * len(real)))
    if not len(known):
        return None
    scale = len(real) / len(made)
    share = beta.ppf(0.95, k[known] + 1, m[known])
    at_most = share / (1 - share) * scale
    least = int(at_most.argmin())
    label = int(known[least])
    return label, float(k[label] / m[label] * scale), float(at_most[least])


def _recall(options: Promote, evidence: Evidence) -> Iterator[Veto]:
    score = next(Scores.of(evidence.evaluation).of_metric("recall", evidence.net.name)).score
    recall = score.value
    covered = f"the samples cover {recall:.1%} of the training images"
    # As many as the samples that recall was measured with: more images cover more.
    floor = _covered(evidence, evidence.held[: score.n])
    yield Veto("recall", f"{covered}, real images {floor:.1%}", recall, at_least=options.min_recall * floor)
    if evidence.champion is not None:
        before = _covered(evidence, evidence.champion.features[: score.n])
        words = f"{covered}, the champion's {before:.1%}"
        yield Veto("recall of the champion", words, recall, at_least=options.keep_recall * before)


def _unseen(options: Promote, evidence: Evidence) -> Iterator[Veto]:
    """By how many held-out images are left to compare on, without those that one of both has seen.

    What the champion saw is no fault of the challenger, which is compared on the rest. Of a small holdout half will do.
    """
    left, total = len(evidence.unseen), len(evidence.unseen.mask)
    who = "neither has" if evidence.champion else "it has not"
    words = f"{left:,} of {total:,} held-out images are such as {who} seen"
    if evidence.unseen.unsure:
        words += f" ({evidence.unseen.unsure})"
    yield Veto("unseen", words, left, at_least=min(options.min_unseen, total / 2))


VETOES: tuple[Callable[[Promote, Evidence], Iterator[Veto]], ...] = (
    finite,
    _distinct,
    _copying,
    _classes,
    _recall,
    _unseen,
)


def _covered(evidence: Evidence, features: Features) -> float:
    """Return the share of the training images that images with these features (N, F) cover."""
    return float(metrics.precision_recall(evidence.net.real, features)[1].mean())
