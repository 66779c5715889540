"""What the gate's answer rests on: samples of challenger and champion, seen by the same net, beside real images."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..gan.dataset import Pixels, Split
from ..gan.distances import Features, kernel_distance
from ..gan.errors import UserError
from ..gan.features import FeatureNet
from ..gan.options import ImageFormat
from ..services.tracking.registry import ModelVersion
from ..workspace.artifacts import Dataset, Evaluation, Model
from ..workspace.feature_nets import load_feature_net
from ..workspace.published import load_published
from ..workspace.workspace import Workspace
from .samples import PART, sampled
from .seen import Seen
from .unseen import Unseen, unseen

# Pictures of each that the page shows, at the same seeds, at most.
SHOWN = 60
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Contender:
    """What the gate knows of a model: samples (N, H, W, C), their features (N, F) and the images that it has seen."""

    features: Features
    shown: Pixels
    seen: Seen


@dataclass(frozen=True)
class Evidence:
    """Challenger and champion, if there is one, at the same labels (N,), and features (M, F) of held-out images.

    `held`: of those that neither has seen, which `unseen` names.
    """

    model: Model
    evaluation: Evaluation
    dataset: Dataset
    net: FeatureNet
    labels: Labels
    held: Features
    unseen: Unseen
    challenger: Contender
    champion: Contender | None

    @classmethod
    def gather(
        cls,
        model: Model,
        evaluation: Evaluation,
        dataset: Dataset,
        champion: ModelVersion | None,
        workspace: Workspace,
    ) -> Evidence:
        """Sample the champion as the challenger was for its evaluation.

        Raises:
            UserError: the champion makes other images, or is damaged.
        """
        net = load_feature_net(
            Split(dataset.folder, "training", dataset.image), dataset.content, workspace.state / "features"
        )
        table = pd.read_csv(evaluation.folder / "samples.csv")
        labels: Labels = table["label"].to_numpy(np.int64, copy=True)
        seeds = range(int(table["seed"].iloc[0]), int(table["seed"].iloc[-1]) + 1)
        pixels = np.load(evaluation.folder / "samples.npy", mmap_mode="r", allow_pickle=False)
        challenger = Contender(
            np.load(evaluation.folder / "features.npy", allow_pickle=False).astype(np.float64),
            np.asarray(pixels[shown_on_the_page(labels)]),
            Seen.load(evaluation.folder, "the evaluation"),
        )
        rival = champion and sample_champion(champion, net, model.image, seeds, labels, workspace)
        contenders = {"challenger": challenger.seen} | ({"champion": rival.seen} if rival else {})
        new = unseen(dataset, held_rows(evaluation), contenders)
        return cls(
            model=model,
            evaluation=evaluation,
            dataset=dataset,
            net=net,
            labels=labels,
            held=held_features(evaluation)[new.compared],
            unseen=new,
            challenger=challenger,
            champion=rival,
        )

    @cached_property
    def kid_challenger(self) -> float:
        """The challenger's KID to the holdout."""
        return kernel_distance(self.challenger.features, self.held)

    @cached_property
    def kid_champion(self) -> float | None:
        """The champion's, where there is one."""
        return None if self.champion is None else kernel_distance(self.champion.features, self.held)


def held_features(evaluation: Evaluation) -> Features:
    """Return the features (M, F) of the holdout that an evaluation was measured by."""
    held: Features = np.load(evaluation.folder / "holdout.npy", allow_pickle=False).astype(np.float64)
    return held


def held_rows(evaluation: Evaluation) -> npt.NDArray[np.int64]:
    """Return which images of the holdout these are, (M,)."""
    rows: npt.NDArray[np.int64] = np.load(evaluation.folder / "holdout_rows.npy", allow_pickle=False)
    return rows


def shown_on_the_page(labels: Labels) -> npt.NDArray[np.int64]:
    """Which samples the page shows: as many of each class, of those in the first part."""
    table = pd.DataFrame({"label": labels[:PART]})
    table["turn"] = table.groupby("label").cumcount()
    each = max(1, SHOWN // table["label"].nunique())
    return table[table["turn"] < each].sort_values(["label", "turn"]).index.to_numpy(np.int64)[:SHOWN]


def sample_champion(
    champion: ModelVersion,
    net: FeatureNet,
    image: ImageFormat,
    seeds: range,
    labels: Labels,
    workspace: Workspace,
) -> Contender:
    """Return the champion's samples at these seeds and labels, seen by the net that judges the challenger.

    Raises:
        UserError: it makes other images, or is damaged.
    """
    model = load_published(champion.folder, str(champion))
    theirs = model.image
    if theirs != image:
        raise UserError(
            f"the champion of {champion.name} makes images of {theirs.width}x{theirs.height} with {theirs.channels} "
            f"channels and {len(theirs.classes)} classes, this model {image.width}x{image.height}, {image.channels} "
            f"and {len(image.classes)}, or classes of other names: give it another register.name"
        )
    known = hashlib.sha256(f"{model.id} {net.sha256} {seeds}".encode() + labels.tobytes()).hexdigest()[:16]
    cached = workspace.state / "gate" / f"{known}.npz"
    features = shown = None
    # What is damaged is made again.
    with suppress(OSError, ValueError, EOFError, KeyError, BadZipFile), np.load(cached, allow_pickle=False) as found:
        features, shown = found["features"].astype(np.float64), found["shown"]
    if features is None or shown is None:
        parts = list(sampled(model, net, seeds, labels))
        features, shown = np.concatenate([part.features for part in parts]), parts[0].pixels[shown_on_the_page(labels)]
        cached.parent.mkdir(parents=True, exist_ok=True)
        staged = cached.with_suffix(".tmp.npz")
        np.savez(staged, features=features.astype(np.float32), shown=shown)
        staged.replace(cached)
    return Contender(features, shown, Seen.load(champion.folder, str(champion)))
