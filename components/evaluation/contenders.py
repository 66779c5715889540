"""What the gate's answer rests on: samples of challenger and champion, seen by the same net, beside real images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..gan.dataset import Pixels, Split
from ..gan.errors import UserError
from ..gan.options import GENERATE, ImageFormat
from ..gan.published import Published
from ..gan.sampling import labels_like
from ..gan.tasks.options import AnyTask, SuperResolve
from ..measures.distances import Features, kernel_distance
from ..measures.features import FeatureNet
from ..measures.metrics import Resampled, kernel_resampled
from ..services.tracking.registry import ModelVersion
from ..workspace.artifacts import Dataset, Evaluation, Model
from ..workspace.chosen_nets import ChosenNets, load_nets, nets_of_other_seeds
from ..workspace.params import Promote
from ..workspace.published import load_published
from ..workspace.workspace import Workspace
from .comparison import Comparison
from .looks import Look, take
from .samples import PART, sampled
from .seen import Seen
from .unseen import Unseen, unseen

# Pictures of each that the page shows, at the same seeds, at most.
SHOWN = 60
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Contender:
    """What the gate knows of a model: features (N, F) of samples, some of these, and the images that it has seen.

    With a rival there are also its KIDs to the holdout, one for each feature net.
    """

    features: Features
    shown: Pixels
    seen: Seen
    distances: tuple[Resampled, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """Challenger and champion, if there is one, at the same labels (N,), and features (M, F) of held-out images.

    `held`: of those that neither has seen, which `unseen` names. With a champion, samples of both are made for the
    comparison alone, at the seeds of its `look`.
    """

    model: Model
    evaluation: Evaluation
    dataset: Dataset
    net: FeatureNet
    classifier: FeatureNet | None
    labels: Labels
    held: Features
    unseen: Unseen
    challenger: Contender
    champion: Contender | None = None
    look: Look | None = None
    # What is compared in place of KID, and beside which baseline: nothing and none.
    measure: ClassVar[None] = None
    baseline: ClassVar[None] = None
    # What a user does about a check that cannot tell.
    advice: ClassVar[str] = "look for copies in report.html"

    @classmethod
    def gather(
        cls,
        options: Promote,
        model: Model,
        evaluation: Evaluation,
        dataset: Dataset,
        champion: ModelVersion | None,
        workspace: Workspace,
        chosen: str = "auto",
    ) -> Evidence:
        """Sample challenger and champion; without a champion what was sampled for the evaluation is enough.

        `chosen`: see `evaluate.feature_net`.

        Raises:
            UserError: the champion makes other images, or is damaged.
        """
        nets = nets_of(evaluation, dataset, chosen, workspace)
        labels = pd.read_csv(evaluation.folder / "samples.csv")["label"].to_numpy(np.int64, copy=True)
        features = np.load(evaluation.folder / "features.npy", allow_pickle=False).astype(np.float64)
        pixels = np.load(evaluation.folder / "samples.npy", mmap_mode="r", allow_pickle=False)
        challenger = Contender(
            features, np.asarray(pixels[shown_on_the_page(labels)]), Seen.load(evaluation.folder, "the evaluation")
        )
        new = unseen(dataset, held_rows(evaluation), {"challenger": challenger.seen})
        alone = cls(
            model=model,
            evaluation=evaluation,
            dataset=dataset,
            net=nets.main,
            classifier=nets.classifier,
            labels=labels,
            held=held_features(evaluation)[new.compared],
            unseen=new,
            challenger=challenger,
        )
        return alone if champion is None else alone._beside(champion, options, nets, workspace)

    def _beside(self, champion: ModelVersion, options: Promote, nets: ChosenNets, workspace: Workspace) -> Evidence:
        """Return the evidence with samples of both that are made for this comparison.

        Raises:
            UserError: the champion makes other images, or is damaged.
        """
        rival, own = load_rival(champion, self.dataset.image), load_published(self.model.folder, "the model")
        training = Split(self.dataset.folder, "training", self.dataset.image)
        others = nets_of_other_seeds(nets, training, self.dataset.content, workspace, options.feature_nets - 1)
        seeing = (nets.main, *others)
        seen = self.challenger.seen, Seen.load(champion.folder, str(champion))
        new = unseen(self.dataset, held_rows(self.evaluation), dict(zip(("challenger", "champion"), seen, strict=True)))
        holdout = Split(self.dataset.folder, "holdout", self.dataset.image)
        rows = held_rows(self.evaluation)[new.compared]
        # With the classes of what they are compared with, whose shares may be others than those of training.
        classes = np.bincount(holdout.labels[rows], minlength=len(self.dataset.image.classes))
        labels = labels_like(classes / len(rows), options.samples)
        named = hashlib.sha256(" ".join(net.sha256 for net in seeing).encode() + labels.tobytes()).hexdigest()[:16]
        look = take(own.id, rival.id, self.evaluation.holdout, named, workspace)
        seeds = range(look.first_seed, look.first_seed + options.samples)
        pixels = holdout.pixels(rows)
        # What the first one sees was kept by the evaluation.
        held = [held_features(self.evaluation)[new.compared], *(net.read(pixels).features for net in others)]
        made = []
        for stream, (model, of_it) in enumerate(zip((own, rival), seen, strict=True)):
            features, shown = _samples_of(model, seeing, seeds, labels, named, workspace.state / "gate")
            pairs = zip(features, held, strict=True)
            both = labels, holdout.labels[rows]
            distances = tuple(kernel_resampled(fake, real, both, stream) for fake, real in pairs)
            made.append(Contender(features[0], shown, of_it, distances))
        return replace(self, labels=labels, held=held[0], unseen=new, challenger=made[0], champion=made[1], look=look)

    @cached_property
    def comparison(self) -> Comparison | None:
        """How much nearer to the holdout the challenger is than the champion, where there is one."""
        if self.champion is None:
            return None
        return Comparison.of(self.challenger.distances, self.champion.distances, len(self.labels))

    @cached_property
    def kid_challenger(self) -> float:
        """The challenger's KID to the holdout."""
        if self.comparison is not None:
            return self.comparison.challenger
        return kernel_distance(self.challenger.features, self.held)

    @cached_property
    def floor(self) -> float:
        """KID of real images."""
        return kernel_distance(self.net.real, self.held)

    @property
    def samples(self) -> int:
        """Of the challenger."""
        return len(self.challenger.features)


def nets_of(evaluation: Evaluation, dataset: Dataset, chosen: str, workspace: Workspace) -> ChosenNets:
    """Return the nets that an evaluation was measured by; `chosen`: see `evaluate.feature_net`.

    Raises:
        UserError: other ones are chosen.
    """
    nets = load_nets(chosen, Split(dataset.folder, "training", dataset.image), dataset.content, workspace)
    if nets.main.sha256 != evaluation.feature_net:
        raise UserError("evaluate.feature_net is not the net of this evaluation: `ganflow run` makes one by it")
    return nets


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


def kind_of_task(task: AnyTask) -> str:
    """Return what two models must both do to be compared."""
    return f"{task.name} by factor {task.factor}" if isinstance(task, SuperResolve) else task.name


def load_rival(champion: ModelVersion, image: ImageFormat, task: AnyTask = GENERATE) -> Published:
    """Return the champion as a model that makes images of this format, by this kind of task.

    Raises:
        UserError: it makes other images, or is damaged.
    """
    model = load_published(champion.folder, str(champion))
    theirs = model.image
    if kind_of_task(model.task) != kind_of_task(task):
        raise UserError(
            f"the champion of {champion.name} does {kind_of_task(model.task)}, and this model {kind_of_task(task)}: "
            "give it another register.name"
        )
    if theirs != image:
        raise UserError(
            f"the champion of {champion.name} makes images of {theirs.width}x{theirs.height} with {theirs.channels} "
            f"channels and {len(theirs.classes)} classes, this model {image.width}x{image.height}, {image.channels} "
            f"and {len(image.classes)}, or classes of other names: give it another register.name"
        )
    return model


def _samples_of(
    model: Published, nets: Sequence[FeatureNet], seeds: range, labels: Labels, named: str, cache: Path
) -> tuple[list[Features], Pixels]:
    """Return what each net sees in samples of these seeds and labels, (N, F) each, and the samples that are shown."""
    known = hashlib.sha256(f"{model.id} {named} {seeds}".encode()).hexdigest()[:16]
    cached = cache / f"{known}.npz"
    # What is damaged is made again.
    with suppress(OSError, ValueError, EOFError, KeyError, BadZipFile), np.load(cached, allow_pickle=False) as found:
        return [found[f"features{at}"].astype(np.float64) for at in range(len(nets))], found["shown"]
    seen: list[list[npt.NDArray[np.float32]]] = [[] for _ in nets]
    shown_at, shown = shown_on_the_page(labels), None
    for part in sampled(model, nets, seeds, labels):
        shown = part.pixels[shown_at] if shown is None else shown
        for features, reading in zip(seen, part.readings, strict=True):
            features.append(reading.features.astype(np.float32))
    assert shown is not None
    packed: dict[str, Any] = {f"features{at}": np.concatenate(features) for at, features in enumerate(seen)}
    cached.parent.mkdir(parents=True, exist_ok=True)
    staged = cached.with_suffix(".tmp.npz")
    np.savez(staged, shown=shown, **packed)
    staged.replace(cached)
    return [features.astype(np.float64) for features in packed.values()], shown
