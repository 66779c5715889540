"""The vetoes of the gate: what no score makes up for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import safetensors.torch

from ..gan import metrics
from ..gan.dataset import Split, fingerprints
from ..gan.features import FeatureNet
from ..workspace.artifacts import Dataset, Evaluation, Model
from ..workspace.params import Promote
from ..workspace.scores import Scores
from ..workspace.verdict import Check
from .contenders import Contender


def vetoes(
    options: Promote,
    model: Model,
    evaluation: Evaluation,
    challenger: Contender,
    rival: Contender | None,
    judge: FeatureNet,
    dataset: Dataset,
) -> Iterator[Check]:
    """Check what no score makes up for."""
    scores = Scores.of(evaluation)
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
        score, _, control = next(scores.of_metric("copied", space))
        copied = score.value
        words = f"{copied:.1%} of the samples repeat a training image (by {space.replace('_', ' ')})"
        if control is not None and control.value < 0.5:
            words += f"; of copies that were planted only {control.value:.0%} were found"
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
    recall = next(scores.of_metric("recall", judge.name)).score.value
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
