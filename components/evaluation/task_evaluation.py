"""Stage evaluate for image tasks: held-out images from conditions fixed by seed, beside baselines of the same ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from ..gan.dataset import Pixels, Split, to_pixels, to_signed
from ..gan.errors import UserError
from ..gan.inputs import Inputs
from ..gan.published import Published
from ..gan.sampling import conditions_of, latents
from ..gan.tasks.image_tasks import ImageTask, SuperResolving, task_of
from ..gan.tasks.options import AnyTask, Colorize, Inpaint, SuperResolve
from ..measures.features import FeatureNet
from ..measures.fidelity import colourfulness, luma, psnr, squared_errors, ssim
from ..measures.intervals import Estimate, Values, left_out
from ..measures.metrics import kernel_estimate
from ..measures.perceptual import layers_of, perceptual_distance
from ..measures.transparency import pixels_over_grey
from ..workspace.artifacts import Dataset, Evaluation, Key, Model
from ..workspace.chosen_nets import load_nets
from ..workspace.files import staging
from ..workspace.params import Evaluate
from ..workspace.published import load_published
from ..workspace.scores import Images, Score
from ..workspace.workspace import Workspace
from .baselines import baselines
from .result import Judged, write_result

# Of the rows of a table that are named, (n,).
Statistic = Callable[[npt.NDArray[np.int64]], float]
# Images that are made and measured at a time.
PART = 100
# Groups of files that are left out in turn for an interval.
FOLDS = 20


class Measured(NamedTuple):
    """What was measured of each of N images, (N,) each, and what the feature net sees in them (N, F).

    `special` is what the task asks besides: squared errors within the hole or of the image shrunk again, or
    colourfulness.
    """

    squared: Values
    squared_luma: Values
    ssim: Values
    perceptual: Values
    special: Values
    features: Values


def evaluate_task(options: Evaluate, model: Model, dataset: Dataset, key: Key, workspace: Workspace) -> Evaluation:
    """Measure what the model makes of held-out images, of which each is degraded by a number of its own.

    `..._bicubic` and the like are the same scores of baselines from the same inputs. Intervals leave out files, with
    all that is nearly the same as they, because pieces of one picture tell the same.

    Raises:
        UserError: the feature net shows no layers, or is not installed.
    """
    task_options = model.training.task
    task = task_of(task_options)
    assert task is not None
    training, holdout = (Split(dataset.folder, name, dataset.image) for name in ("training", "holdout"))
    net = load_nets(options.feature_net, training, dataset.content, workspace).main
    require_layers(net)
    published = load_published(model.folder, "the model")
    rows = np.sort(holdout.spread(options.samples))
    seeds, groups = [options.seed + int(row) for row in rows], groups_of_rows(dataset, rows)
    others = baselines(task_options, task, training)
    makers: tuple[Images, ...] = ("samples", *others)
    parts: dict[Images, list[Measured]] = {name: [] for name in makers}
    with staging(workspace.evaluation) as folder:
        shape = (len(rows), *dataset.image.shape)
        samples, shown = (
            np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=np.uint8, shape=shape)
            for name in ("samples", "given")
        )
        held = []
        with tqdm(total=len(rows), desc="evaluate", unit="img", disable=None, leave=False) as bar:
            for start in range(0, len(rows), PART):
                index = rows[start : start + PART]
                originals = holdout.pixels(index)
                numbers = seeds[start : start + PART]
                given = conditions_of(task, holdout, index, numbers)
                shown[start : start + PART] = to_pixels(task.shown(given))
                samples[start : start + PART] = made_of(published, given, numbers, holdout.labels[index])
                for name in makers:
                    made = samples[start : start + PART] if name == "samples" else others[name](given)
                    parts[name].append(_measured(task_options, task, net, made, originals, given))
                held.append(_special_of_originals(task_options, originals))
                bar.update(len(index))
        samples.flush()
        shown.flush()
        found = {name: Measured(*map(np.concatenate, zip(*each, strict=True))) for name, each in parts.items()}
        held_pixels = holdout.pixels(rows)
        held_features = net.read(held_pixels).features
        scores = list(_scores(task_options, net, found, held_features, np.concatenate(held), groups))
        table: dict[str, npt.ArrayLike] = {"seed": seeds, "label": holdout.labels[rows], "row": rows, "group": groups}
        for name, each in found.items():
            ending = "" if name == "samples" else f"_{name}"
            table |= {f"squared_error{ending}": each.squared, f"ssim{ending}": each.ssim}
            table |= {f"perceptual{ending}": each.perceptual}
        pd.DataFrame(table).to_csv(folder / "samples.csv", index=False)
        np.save(folder / "features.npy", found["samples"].features.astype(np.float32))
        np.save(folder / "holdout.npy", held_features.astype(np.float32))
        write_result(folder, key, scores, Judged(len(rows), rows, held_pixels), net, model, dataset)
    return Evaluation.load(workspace.evaluation)


def require_layers(net: FeatureNet) -> None:
    try:
        layers_of(net.net, torch.zeros(1, 3, 64, 64))
    except TypeError:
        raise UserError(
            "evaluate.feature_net: image tasks are measured by what the layers of a net see, which a net of your own "
            "does not show: choose auto, classifier or efficientnet_lite0"
        ) from None
    except RuntimeError:
        # It has layers, for images of other channels.
        pass


def groups_of_rows(dataset: Dataset, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return a number for the file of each held-out image, with what is nearly the same as it: (len(rows),)."""
    file = dataset.folder / "holdout-groups.npy"
    groups = np.load(file, allow_pickle=False)[rows] if file.exists() else rows
    return np.asarray(np.unique(groups, axis=0, return_inverse=True)[1].reshape(-1), np.int64)


def made_of(model: Published, given: Tensor, seeds: Sequence[int], labels: npt.NDArray[np.int64]) -> Pixels:
    """Return what the model makes of conditions (N, K, h, w), of the classes `labels` (N,): (N, H, W, C).

    Where there is a latent, each image has that of its seed.
    """
    return model.images_of(Inputs(latents(seeds, model.network.task.latent), torch.from_numpy(np.array(labels)), given))


def _measured(
    options: AnyTask, task: ImageTask, net: FeatureNet, made: Pixels, originals: Pixels, given: Tensor
) -> Measured:
    if made.shape[3] == 4:
        # By nets that were not trained on transparency, and by people.
        made, originals = pixels_over_grey(made), pixels_over_grey(originals)
    return Measured(
        squared_errors(made, originals),
        squared_errors(luma(made), luma(originals)),
        ssim(made, originals),
        perceptual_distance(net.net, made, originals),
        _special(options, task, made, originals, given),
        net.read(made).features,
    )


def _special(options: AnyTask, task: ImageTask, made: Pixels, originals: Pixels, given: Tensor) -> Values:
    match options:
        case SuperResolve():
            assert isinstance(task, SuperResolving)
            again = task.degrade(to_signed(torch.from_numpy(made)), torch.empty(len(made), 0))
            return squared_errors(to_pixels(again), to_pixels(given))
        case Inpaint():
            hole = given[:, -1].numpy() > 0
            errors = np.square(np.subtract(made, originals, dtype=np.float64)).mean(3)
            return np.asarray((errors * hole).sum((1, 2)) / hole.sum((1, 2)))
        case Colorize():
            return colourfulness(made)
    return np.zeros(len(made))


def _special_of_originals(options: AnyTask, originals: Pixels) -> Values:
    return colourfulness(originals) if isinstance(options, Colorize) else np.zeros(len(originals))


def _scores(
    options: AnyTask,
    net: FeatureNet,
    found: dict[Images, Measured],
    held: Values,
    special_of_originals: Values,
    groups: npt.NDArray[np.int64],
) -> Iterator[Score]:
    n = len(groups)
    yield score("kid", kernel_estimate(held, net.real), n, "floor", net.name)
    for name, each in found.items():
        yield score("kid", kernel_estimate(each.features, net.real), n, name, net.name)
        yield score("perceptual", over_groups(mean_of(each.perceptual), groups), n, name, net.name)
        if name != "samples":
            nearer = each.perceptual - found["samples"].perceptual
            yield score("perceptual_gain", over_groups(mean_of(nearer), groups), n, name, net.name)
        yield score("ssim", over_groups(mean_of(each.ssim), groups), n, name)
        yield score("psnr", over_groups(_pooled(each.squared), groups), n, name)
        yield score("psnr_y", over_groups(_pooled(each.squared_luma), groups), n, name)
        yield score("psnr_median", float(np.median([psnr(one) for one in each.squared[:, None]])), n, name)
        match options:
            case SuperResolve():
                yield score("consistency", over_groups(_pooled(each.special), groups), n, name)
            case Inpaint():
                yield score("psnr_hole", over_groups(_pooled(each.special), groups), n, name)
            case Colorize():
                ratio = _ratio(each.special, special_of_originals)
                yield score("colourfulness", over_groups(ratio, groups), n, name)


def over_groups(statistic: Statistic, groups: npt.NDArray[np.int64]) -> Estimate:
    """Return a statistic of rows, and its interval by leaving out some of the groups (N,) at a time (jackknife).

    Of fewer than three groups it has no ends.
    """
    numbers = np.random.default_rng(0).permutation(int(groups.max()) + 1)
    value = statistic(np.arange(len(groups)))
    if len(numbers) < 3:
        return Estimate(value, -np.inf, np.inf)
    fold_of = numbers % min(FOLDS, len(numbers))
    folds = fold_of[groups]
    return left_out(value, [statistic(np.flatnonzero(folds != fold)) for fold in np.unique(folds)])


def mean_of(values: Values) -> Statistic:
    return lambda rows: float(values[rows].mean())


def _pooled(squared: Values) -> Statistic:
    return lambda rows: psnr(squared[rows])


def _ratio(values: Values, others: Values) -> Statistic:
    return lambda rows: float(values[rows].mean() / max(others[rows].mean(), 1e-9))


def score(metric: str, found: Estimate | float, n: int, images: Images, features: str = "") -> Score:
    if not isinstance(found, Estimate):
        return Score(metric, found, n, features, "", images)
    ends = (found.low, found.high) if np.isfinite(found.high) else ()
    return Score(metric, found.value, n, features, "", images, *ends)
