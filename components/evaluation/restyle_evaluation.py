"""Stage evaluate for restyle: held-out pictures of each class carried into another, beside the pictures as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from tqdm import tqdm

from ..gan.dataset import Pixels, Split, to_signed
from ..gan.published import Published
from ..measures.directions import classes_wanted, distances_to_classes, real_of_classes, require_directions
from ..measures.distances import Features
from ..measures.features import FeatureNet
from ..measures.fidelity import squared_errors
from ..measures.intervals import Estimate, Values
from ..measures.metrics import kernel_pulls
from ..measures.perceptual import perceptual_distance
from ..measures.transparency import pixels_over_grey
from ..workspace.artifacts import DIRECTIONS, RETURNED, Dataset, Evaluation, Key, Model
from ..workspace.chosen_nets import load_nets
from ..workspace.files import staging
from ..workspace.params import Evaluate
from ..workspace.published import load_published
from ..workspace.scores import Images, Score
from ..workspace.workspace import Workspace
from .hidden_pairs import spread_out, truths_of
from .recolouring import in_colours_of
from .result import Judged, write_result
from .task_evaluation import PART, groups_of_rows, made_of, mean_of, over_groups, require_layers, score

Labels = npt.NDArray[np.int64]
# Of each direction means of these.
_MEANS = ("cycle", "identity", "agreed")


class Carried(NamedTuple):
    """What became of N pictures: carried, and back again, or left as they are, (N, H, W, C) each."""

    made: Pixels
    back: Pixels
    left: Pixels


def evaluate_restyle(options: Evaluate, model: Model, dataset: Dataset, key: Key, workspace: Workspace) -> Evaluation:
    """Measure how near held-out pictures come to the classes that they are carried into, and what is kept of them.

    Each picture is carried into one other class, all classes in turns. `..._input` and `..._reinhard` are the same
    scores of the pictures as they are, and of these in the colours of the class.

    Raises:
        UserError: a class has fewer than two held-out pictures, or the feature net shows no layers.
    """
    training, holdout = (Split(dataset.folder, name, dataset.image) for name in ("training", "holdout"))
    nets = load_nets(net_for(options.feature_net), training, dataset.content, workspace)
    require_layers(nets.main)
    published = load_published(model.folder, "the model")
    rows = np.sort(holdout.spread(options.samples))
    sources, labels = holdout.pixels(rows), holdout.labels[rows]
    present = np.flatnonzero(np.bincount(training.labels))
    wanted, groups = classes_wanted(labels, present), groups_of_rows(dataset, rows)
    require_directions(labels, present, dataset.image.classes)
    carried = _carried(published, sources, labels, wanted)
    pictures: dict[Images, Pixels] = {
        "samples": carried.made,
        "input": sources,
        "reinhard": in_colours_of(training, sources, wanted),
    }
    real = real_of_classes(nets.main, training)
    features = {name: nets.main.read(pixels).features for name, pixels in pictures.items()}
    distances = {name: to_wanted(found, wanted, real) for name, found in features.items()}
    floor = to_wanted(features["input"], labels, real)
    table: dict[str, npt.ArrayLike] = {
        "seed": [options.seed + int(row) for row in rows],
        "label": wanted,
        "source": labels,
        "row": rows,
        "group": groups,
        "squared_error": squared_errors(pixels_over_grey(carried.back), pixels_over_grey(sources)),
        "cycle": _perceptual(nets.main, carried.back, sources),
        "identity": _perceptual(nets.main, carried.left, sources),
    }
    for name, found in distances.items():
        table[f"kid_wanted{_ending(name)}"] = found
    if nets.classifier is not None:
        made, originals = (nets.classifier.read(pixels).probabilities for pixels in (carried.made, sources))
        table |= {"agreed": _agreed(made, wanted), "agreed_floor": _agreed(originals, labels)}
    truths = truths_of(dataset, holdout, rows, wanted)
    if (shown := np.flatnonzero(truths >= 0)).size:
        originals_wanted = holdout.pixels(truths[shown])
        for name, pixels in pictures.items():
            table[f"truth{_ending(name)}"] = spread_out(
                _perceptual(nets.main, pixels[shown], originals_wanted), shown, len(rows)
            )
    measured = pd.DataFrame(table)
    scores = list(_scores(nets.main.name, measured, floor, tuple(pictures)))
    with staging(workspace.evaluation) as folder:
        np.save(folder / "samples.npy", carried.made)
        np.save(folder / "given.npy", sources)
        np.save(folder / RETURNED, carried.back)
        np.save(folder / "features.npy", features["samples"].astype(np.float32))
        np.save(folder / "holdout.npy", features["input"].astype(np.float32))
        measured.to_csv(folder / "samples.csv", index=False)
        of_directions(measured, features, real, dataset.image.classes).to_csv(folder / DIRECTIONS, index=False)
        write_result(folder, key, scores, Judged(len(rows), rows, sources, labels), nets.main, model, dataset)
    return Evaluation.load(workspace.evaluation)


def net_for(chosen: str) -> str:
    """Return the net to judge by, where `chosen` is `auto`: one trained to tell the classes apart sees little else."""
    return "efficientnet_lite0" if chosen == "auto" else chosen


def measured_again(
    evaluation: Evaluation, dataset: Dataset, net: FeatureNet, at: Labels, models: Mapping[str, Published]
) -> dict[str, tuple[Values, Values]]:
    """Return the distances to the classes wanted of what each of the models makes, and squared errors of the way back.

    (N,) each, of the pictures at these places (N,) of the evaluation, and of the baselines, by name. All pictures of
    the evaluation are made, so that each class has as many as it needs to have a distance.
    """
    table = pd.read_csv(evaluation.folder / "samples.csv")
    rows, labels, wanted = (table[name].to_numpy(np.int64) for name in ("row", "source", "label"))
    training, holdout = (Split(dataset.folder, name, dataset.image) for name in ("training", "holdout"))
    sources, real = holdout.pixels(rows), real_of_classes(net, training)
    found = {}
    for name, model in models.items():
        carried = _carried(model, sources, labels, wanted)
        squared = squared_errors(pixels_over_grey(carried.back), pixels_over_grey(sources))
        found[name] = to_wanted(net.read(carried.made).features, wanted, real), squared
    for name, pixels in (("input", sources), ("reinhard", in_colours_of(training, sources, wanted))):
        found[name] = to_wanted(net.read(pixels).features, wanted, real), np.zeros(len(rows))
    return {name: (distances[at], squared[at]) for name, (distances, squared) in found.items()}


def to_wanted(features: Features, wanted: Labels, real: Mapping[int, Features]) -> Values:
    """Return what N pictures, of these features (N, F), contribute to their KID to the classes wanted: (N,).

    The mean over the pictures of a class is their KID to its real images, and differences from it are to first order
    what that changes by for each picture (Hoeffding 1948). All classes count alike.
    """
    found = np.zeros(len(features))
    classes = np.unique(wanted)
    for label in classes:
        rows = np.flatnonzero(wanted == label)
        pulls = kernel_pulls(features[rows], real[int(label)])
        by_fake = pulls.by_fake.numpy()
        found[rows] = len(features) / (len(classes) * len(rows)) * (pulls.value + by_fake - by_fake.mean())
    return found


def _carried(model: Published, sources: Pixels, labels: Labels, wanted: Labels) -> Carried:
    made, back, left = (np.empty_like(sources) for _ in range(3))
    with tqdm(total=len(sources), desc="evaluate", unit="img", disable=None, leave=False) as bar:
        for start in range(0, len(sources), PART):
            part = slice(start, start + PART)
            given, seeds = to_signed(torch.from_numpy(sources[part])), [0] * len(sources[part])
            made[part] = made_of(model, given, seeds, wanted[part])
            back[part] = made_of(model, to_signed(torch.from_numpy(made[part])), seeds, labels[part])
            left[part] = made_of(model, given, seeds, labels[part])
            bar.update(len(seeds))
    return Carried(made, back, left)


def _perceptual(net: FeatureNet, made: Pixels, sources: Pixels) -> Values:
    return perceptual_distance(net.net, pixels_over_grey(made), pixels_over_grey(sources))


def _agreed(probabilities: npt.NDArray[np.float64] | None, labels: Labels) -> npt.NDArray[np.bool_]:
    assert probabilities is not None
    return np.asarray(probabilities.argmax(1) == labels)


def of_directions(
    measured: pd.DataFrame, features: Mapping[Images, Features], real: Mapping[int, Features], classes: tuple[str, ...]
) -> pd.DataFrame:
    """Return a row for each class that pictures were carried into: how many, and how near they came.

    `features`: of what was made of the pictures, and of the pictures themselves.
    """
    wanted = measured["label"].to_numpy(np.int64)
    nearness = {name: distances_to_classes(found, wanted, real) for name, found in features.items()}
    rows = []
    for label in np.unique(wanted):
        own = measured[wanted == label]
        row: dict[str, object] = {"class": classes[label], "pictures": len(own)}
        row |= {f"kid{_ending(name)}": found[int(label)] for name, found in nearness.items()}
        row |= {name: own[name].mean() for name in (*_MEANS, *(f"truth{_ending(n)}" for n in features)) if name in own}
        rows.append(row)
    return pd.DataFrame(rows)


def _ending(name: Images) -> str:
    return "" if name == "samples" else f"_{name}"


def _scores(net: str, measured: pd.DataFrame, floor: Values, made: Sequence[Images]) -> Iterator[Score]:
    n, groups = len(measured), measured["group"].to_numpy(np.int64)

    def of(values: Values) -> Estimate:
        return over_groups(mean_of(values), groups)

    column = {name: measured[name].to_numpy(np.float64) for name in measured}
    yield score("kid_wanted", of(floor), n, "floor", net)
    for name in made:
        yield score("kid_wanted", of(column[f"kid_wanted{_ending(name)}"]), n, name, net)
        if name != "samples":
            nearer = column[f"kid_wanted{_ending(name)}"] - column["kid_wanted"]
            yield score("kid_wanted_gain", of(nearer), n, name, net)
    for metric in ("cycle", "identity"):
        yield score(metric, of(column[metric]), n, "samples", net)
    if "agreed" in column:
        yield score("agreement", of(column["agreed"]), n, "samples")
        # Real pictures, of the classes that they have.
        yield score("agreement", of(column["agreed_floor"]), n, "floor")
    if "truth" in column:
        known = np.flatnonzero(~np.isnan(column["truth"]))
        for name in made:
            values = column[f"truth{_ending(name)}"][known]
            yield score("truth", over_groups(mean_of(values), _numbered(groups[known])), len(known), name, net)


def _numbered(groups: Labels) -> Labels:
    """Return groups by numbers from 0 on."""
    return np.asarray(np.unique(groups, return_inverse=True)[1], np.int64)
