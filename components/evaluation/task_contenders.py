"""What the gate's answer rests on for an image task: what both make of the same held-out images, given the same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch import Tensor
from tqdm import tqdm

from ..gan.dataset import Pixels, Split, to_pixels
from ..gan.sampling import conditions_of
from ..gan.tasks.image_tasks import ImageTask, task_of
from ..measures.features import FeatureNet
from ..measures.fidelity import squared_errors
from ..measures.intervals import Values
from ..measures.perceptual import perceptual_distance
from ..measures.transparency import pixels_over_grey
from ..services.tracking.registry import ModelVersion
from ..workspace.artifacts import Dataset, Evaluation, Model
from ..workspace.chosen_nets import nets_of_other_seeds
from ..workspace.measure_words import Measure, measure_in, measure_of
from ..workspace.params import Promote
from ..workspace.published import load_published
from ..workspace.workspace import Workspace
from .baselines import Baseline, baselines
from .comparison import Comparison, weights_of_nets
from .contenders import held_rows, load_rival, nets_of
from .looks import Look, take
from .restyle_evaluation import measured_again, net_for
from .seen import Seen
from .task_evaluation import PART, groups_of_rows, made_of
from .unseen import Unseen, unseen

# Images that the page shows.
SHOWN = 12
Rows = npt.NDArray[np.int64]


class Errors(NamedTuple):
    """How far N images are from their originals: perceptual distances (nets, N), and squared errors (N,)."""

    distances: Values
    squared: Values


@dataclass(frozen=True)
class Shown:
    """Some of the images (n, H, W, C): what was given, what both made of it, and the originals."""

    given: Pixels
    challenger: Pixels
    champion: Pixels | None
    originals: Pixels


@dataclass(frozen=True)
class TaskEvidence:
    """Errors of challenger, champion, if there is one, and baselines on held-out images that neither has seen.

    All are given the same. `rows` (N,): which images of the holdout these are, and `at` (N,) which of the evaluation;
    `groups` (N,): of which file each is, with what is nearly the same as it.
    """

    model: Model
    evaluation: Evaluation
    dataset: Dataset
    net: FeatureNet
    unseen: Unseen
    at: Rows
    rows: Rows
    groups: Rows
    shown: Shown
    challenger: Errors
    baselines: Mapping[str, Errors]
    champion: Errors | None = None
    look: Look | None = None
    # What a user does about a check that cannot tell.
    advice: ClassVar[str] = "look at the worst images in report.html"

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
    ) -> TaskEvidence:
        """Measure challenger and champion; without a champion what the evaluation measured is enough.

        `chosen`: see `evaluate.feature_net`.

        Raises:
            UserError: the champion does another task or makes other images, or is damaged.
        """
        training = Split(dataset.folder, "training", dataset.image)
        unpaired = model.training.task.name == "restyle"
        nets = nets_of(evaluation, dataset, net_for(chosen) if unpaired else chosen, workspace)
        rival = None if champion is None else load_rival(champion, dataset.image, model.training.task)
        contenders = {"challenger": Seen.load(evaluation.folder, "the evaluation")}
        if champion is not None:
            contenders["champion"] = Seen.load(champion.folder, str(champion))
        every = held_rows(evaluation)
        new = unseen(dataset, every, contenders)
        at = np.flatnonzero(new.compared)
        evaluated = _as_evaluated(evaluation, dataset, at)
        alone = cls(
            model=model,
            evaluation=evaluation,
            dataset=dataset,
            net=nets.main,
            unseen=new,
            at=at,
            rows=every[at],
            groups=np.unique(groups_of_rows(dataset, every)[at], return_inverse=True)[1].reshape(-1),
            shown=evaluated.shown,
            challenger=evaluated.challenger,
            baselines=evaluated.baselines,
        )
        if rival is None:
            return alone
        others = nets_of_other_seeds(nets, training, dataset.content, workspace, options.feature_nets - 1)
        own, seeing = load_published(model.folder, "the model"), (nets.main, *others)
        if alone.measure == "kid_wanted":
            seeing = (nets.main,)
        named = hashlib.sha256(" ".join(net.sha256 for net in seeing).encode() + alone.rows.tobytes()).hexdigest()[:16]
        look = take(own.id, rival.id, evaluation.holdout, named, workspace)
        if alone.measure == "kid_wanted":
            both = {"challenger": own, "champion": rival}
            again = {
                name: Errors(distances[None], squared)
                for name, (distances, squared) in measured_again(evaluation, dataset, nets.main, at, both).items()
            }
            challenger, theirs = again.pop("challenger"), again.pop("champion")
            return replace(alone, challenger=challenger, champion=theirs, baselines=again, look=look)
        others_of = baselines(model.training.task, alone.task, training)
        makers: dict[str, Callable[[Tensor, Sequence[int], Rows], Pixels]] = {
            "challenger": partial(made_of, own),
            "champion": partial(made_of, rival),
            **{name: partial(_without_network, make) for name, make in others_of.items()},
        }
        errors, shown = _measured(alone, makers, seeing, look.first_seed)
        challenger, theirs = errors.pop("challenger"), errors.pop("champion")
        return replace(alone, shown=shown, challenger=challenger, baselines=errors, champion=theirs, look=look)

    @property
    def measure(self) -> Measure:
        """What decides."""
        return measure_of(self.model.training.task)

    @property
    def task(self) -> ImageTask:
        """What the challenger does."""
        task = task_of(self.model.training.task)
        assert task is not None
        return task

    @property
    def files(self) -> int:
        """How many held-out files there are that neither has seen."""
        return len(np.unique(self.groups[self.unseen.mask[self.at]]))

    @property
    def samples(self) -> int:
        """How many files were compared."""
        return int(self.groups.max()) + 1

    @cached_property
    def comparison(self) -> Comparison | None:
        """How much nearer to the originals the challenger is than the champion, file by file, if there is one."""
        if self.champion is None:
            return None
        return Comparison.of_pairs(self._by_file(self.challenger), self._by_file(self.champion))

    @cached_property
    def kid_challenger(self) -> float:
        """The challenger's perceptual distance to the originals, a mean over files."""
        return self._distance(self.challenger)

    @cached_property
    def best(self) -> tuple[str, float]:
        """The best baseline, and its perceptual distance."""
        found = {name: self._distance(errors) for name, errors in self.baselines.items()}
        name = min(found, key=lambda name: found[name])
        return name, found[name]

    @property
    def baseline(self) -> str:
        """The name of the best baseline."""
        return self.best[0]

    @property
    def floor(self) -> float:
        """The perceptual distance of the best baseline, which is to be beaten."""
        return self.best[1]

    def _distance(self, errors: Errors) -> float:
        by_file = self._by_file(errors)
        if self.champion is None:
            return float(by_file.mean())
        weights = weights_of_nets(self._by_file(self.challenger), self._by_file(self.champion))
        return float((weights[:, None] * by_file).mean())

    def _by_file(self, errors: Errors) -> Values:
        """Return the mean distance of the images of each file, (nets, files)."""
        counts = np.bincount(self.groups)
        return np.stack([np.bincount(self.groups, each) / counts for each in errors.distances])


class _Evaluated(NamedTuple):
    shown: Shown
    challenger: Errors
    baselines: Mapping[str, Errors]


def _as_evaluated(evaluation: Evaluation, dataset: Dataset, at: Rows) -> _Evaluated:
    """Return what the evaluation knows of the images at these places of it."""
    table = pd.read_csv(evaluation.folder / "samples.csv").iloc[at]
    measure = measure_in(table)
    names = [name.removeprefix(f"{measure}_") for name in map(str, table) if name.startswith(f"{measure}_")]

    def errors(ending: str) -> Errors:
        # Of the way back only what a model made has an error.
        squared = table.get(f"squared_error{ending}", table["squared_error"] * 0)
        return Errors(table[f"{measure}{ending}"].to_numpy(float)[None], squared.to_numpy(float))

    some = _some(len(at))
    given, made = (
        np.load(evaluation.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)[at[some]]
        for name in ("given", "samples")
    )
    originals = Split(dataset.folder, "holdout", dataset.image).pixels(table["row"].to_numpy(np.int64)[some])
    shown = Shown(given, made, None, originals)
    return _Evaluated(shown, errors(""), {name: errors(f"_{name}") for name in names})


def _without_network(make: Baseline, given: Tensor, seeds: Sequence[int], labels: Rows) -> Pixels:
    return make(given)


def _some(count: int) -> Rows:
    """Return which of so many images are shown, evenly over them."""
    return np.unique(np.linspace(0, count - 1, min(count, SHOWN)).round().astype(np.int64))


def _measured(
    evidence: TaskEvidence,
    makers: Mapping[str, Callable[[Tensor, Sequence[int], Rows], Pixels]],
    nets: Sequence[FeatureNet],
    first_seed: int,
) -> tuple[dict[str, Errors], Shown]:
    """Return the errors of each maker by what each net sees, each image degraded by a number of this look alone."""
    image, rows, task = evidence.dataset.image, evidence.rows, evidence.task
    holdout, some = Split(evidence.dataset.folder, "holdout", image), _some(len(rows))
    found: dict[str, list[Errors]] = {name: [] for name in makers}
    kept: dict[str, list[Pixels]] = {name: [] for name in ("given", "challenger", "champion", "originals")}
    with tqdm(total=len(rows), desc="compare", unit="img", disable=None, leave=False) as bar:
        for start in range(0, len(rows), PART):
            index = rows[start : start + PART]
            originals = holdout.pixels(index)
            seeds = [first_seed + int(row) for row in index]
            given = conditions_of(task, holdout, index, seeds)
            here = some[(some >= start) & (some < start + PART)] - start
            pictures = {"given": to_pixels(task.shown(given)), "originals": originals}
            for name, make in makers.items():
                pictures[name] = make(given, seeds, holdout.labels[index])
                made, wanted = pixels_over_grey(pictures[name]), pixels_over_grey(originals)
                distances = np.stack([perceptual_distance(net.net, made, wanted) for net in nets])
                found[name].append(Errors(distances, squared_errors(made, wanted)))
            for name, pixels in kept.items():
                pixels.append(pictures[name][here])
            bar.update(len(index))
    joined = {
        name: Errors(np.concatenate([p.distances for p in parts], 1), np.concatenate([p.squared for p in parts]))
        for name, parts in found.items()
    }
    return joined, Shown(**{name: np.concatenate(pixels) for name, pixels in kept.items()})
