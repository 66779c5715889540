"""What image tasks are measured by: baselines of the same inputs, and intervals by file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import skimage.data
from PIL import Image

from components.evaluation.baselines import baselines, colours_by_brightness
from components.evaluation.task_evaluation import evaluate_task, over_groups
from components.gan.dataset import Split
from components.gan.errors import UserError
from components.gan.models import build
from components.gan.network_options import TASK_NETWORKS
from components.gan.options import Execution, ImageFormat, TrainingOptions
from components.gan.sampling import conditions
from components.gan.tasks.image_tasks import task_of
from components.measures.fidelity import colourfulness, luma, psnr, ssim
from components.measures.metrics import mean
from components.training.publish import parameter_counts
from components.workspace.artifacts import Dataset, Key, Model
from components.workspace.files import staging
from components.workspace.params import Evaluate, Preprocess
from components.workspace.workspace import Workspace
from tests.conftest import Pixels, made_dataset
from tests.gan.tasks.test_networks import NARROW
from tests.training.test_image_tasks import write_pictures

KEY = Key(options="a", inputs="b", code="c")
FORMAT = ImageFormat(height=32, width=32, channels=3, classes=("any",))
TASKS: dict[str, tuple[str, dict[str, Any], set[str]]] = {
    "super_resolve": ("consistency", {"factor": 2}, {"bicubic", "lanczos_sharpened"}),
    "inpaint": ("psnr_hole", {}, {"fill"}),
    "colorize": ("colourfulness", {}, {"grey", "brightness_colours"}),
    "restore": ("psnr", {}, {"input", "sharpened"}),
}


@pytest.fixture(scope="module")
def pieces() -> Split:
    """100 pieces of a photograph, 32x32."""
    whole = skimage.data.astronaut()
    images = np.stack([whole[48 * y : 48 * y + 32, 48 * x : 48 * x + 32] for y in range(10) for x in range(10)])
    return Split.of(images, np.zeros(100, np.int64), FORMAT)


def made_by(name: str, values: dict[str, Any], pieces: Split) -> tuple[Pixels, dict[str, Pixels]]:
    """Originals, and what each baseline makes of them."""
    options = TrainingOptions.model_validate({"task": {"name": name, **values}}).task
    task = task_of(options)
    assert task is not None
    originals = pieces.pixels(np.arange(len(pieces)))
    given = conditions(task, originals, range(len(pieces)), FORMAT)
    return originals, {key: make(given) for key, make in baselines(options, task, pieces).items()}


@pytest.mark.parametrize("task", TASKS)
def test_each_task_has_its_baselines(task: str, pieces: Split) -> None:
    _, values, names = TASKS[task]
    originals, found = made_by(task, values, pieces)
    assert found.keys() == names
    assert all(pixels.shape == originals.shape and pixels.dtype == np.uint8 for pixels in found.values())


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_arrays_of_any_channels_are_enlarged(channels: int) -> None:
    image = ImageFormat(height=16, width=16, channels=channels, classes=("any",))
    arrays = np.random.default_rng(0).integers(0, 256, (3, 16, 16, channels), dtype=np.uint8)
    options = TrainingOptions.model_validate({"task": {"name": "super_resolve", "factor": 2}}).task
    task = task_of(options)
    assert task is not None
    given = conditions(task, arrays, range(3), image)
    split = Split.of(arrays, np.zeros(3, np.int64), image)
    made = {name: make(given) for name, make in baselines(options, task, split).items()}
    assert all(pixels.shape == arrays.shape for pixels in made.values())
    assert ("lanczos_sharpened" in made) is (channels in (1, 4))


def test_what_is_sharpened_is_sharper_and_what_is_coloured_is_nearer(pieces: Split) -> None:
    originals, enlarged = made_by("super_resolve", {"factor": 2}, pieces)
    edges = {name: np.abs(np.diff(luma(pixels), axis=2)).mean() for name, pixels in enlarged.items()}
    assert edges["bicubic"] < edges["lanczos_sharpened"] <= 1.1 * np.abs(np.diff(luma(originals), axis=2)).mean()
    originals, coloured = made_by("colorize", {}, pieces)
    errors = {name: np.square(pixels - originals.astype(float)).mean() for name, pixels in coloured.items()}
    assert errors["brightness_colours"] < errors["grey"]
    assert np.abs(luma(coloured["brightness_colours"]) - luma(originals)).max() <= 2


def test_a_grey_image_has_no_colours_by_brightness() -> None:
    grey = np.repeat(np.arange(0, 256, dtype=np.uint8).reshape(1, 16, 16, 1), 3, axis=3)
    table = colours_by_brightness(Split.of(grey, np.zeros(1, np.int64), FORMAT))
    assert table.shape == (64, 2)
    assert np.abs(table).max() < 1e-6
    assert colourfulness(grey).tolist() == [0]


def test_structure_and_colour_are_as_published(pieces: Split) -> None:
    images = pieces.pixels(np.arange(20))
    assert ssim(images, images).tolist() == [1] * 20
    assert (ssim(255 - images, images) < 0.5).all()
    # Red and green in halves: rg = +-255, yb = 127.5 (eq. 7).
    halves = np.zeros((1, 8, 8, 3), np.uint8)
    halves[:, :4, :, 0] = halves[:, 4:, :, 1] = 255
    assert colourfulness(halves)[0] == pytest.approx(255 + 0.3 * 127.5)
    theirs = np.asarray(Image.fromarray(images[0]).convert("L"))
    assert np.abs(luma(images[:1])[0, :, :, 0] - theirs).max() < 1


def test_intervals_leave_out_files_and_not_pieces() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 25)
    # Pieces of one file are alike.
    values = rng.normal(size=40)[groups] + 0.1 * rng.normal(size=1000)

    def statistic(rows: np.ndarray) -> float:
        return float(values[rows].mean())

    found, naive = over_groups(statistic, groups), mean(values)
    by_file = mean([values[groups == group].mean() for group in range(40)])
    assert found.value == pytest.approx(naive.value)
    assert found.high - found.low == pytest.approx(by_file.high - by_file.low, rel=0.4)
    assert found.high - found.low > 3 * (naive.high - naive.low)
    assert over_groups(statistic, np.zeros(1000, np.int64)).high == np.inf


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("workspace")
    write_pictures(root / "data")
    return made_dataset(root, Preprocess(resolution=24, near_duplicates=False))


def beside(dataset: Dataset, root: Path) -> Workspace:
    """A workspace that has the net which measures the data set, once it was made."""
    workspace = Workspace(root)
    kept = dataset.folder.parents[1] / ".ganflow"
    kept.mkdir(exist_ok=True)
    workspace.state.symlink_to(kept)
    return workspace


def untrained(task: str, dataset: Dataset, out: Path) -> Model:
    """A model that makes the baseline."""
    values = {"task": {"name": task, **TASKS[task][1]}, "network": {"name": "edsr", **NARROW["edsr"]}}
    training = TrainingOptions.model_validate(values)
    pair = build(TASK_NETWORKS["edsr"](**NARROW["edsr"]), dataset.image, training.task)
    counts = parameter_counts(training.network, dataset.image, training.task)
    with staging(out) as folder:
        for name, player in zip(("generator", "discriminator"), pair, strict=True):
            safetensors.torch.save_file(dict(player.state_dict()), folder / f"{name}.safetensors")
        Model.describe(
            folder,
            KEY,
            training=training,
            image=dataset.image,
            execution=Execution(workers=1, threads=1, device="cpu", precision="fp32"),
            images=0,
            score=0.0,
            generator_parameters=counts.generator,
            discriminator_parameters=counts.discriminator,
            dataset=dataset.content,
        )
    return Model.load(out)


@pytest.mark.parametrize("task", TASKS)
def test_a_model_that_learned_nothing_scores_as_its_baseline_does(task: str, dataset: Dataset, tmp_path: Path) -> None:
    special, _, names = TASKS[task]
    workspace = beside(dataset, tmp_path)
    model = untrained(task, dataset, workspace.model)
    evaluation = evaluate_task(Evaluate(), model, dataset, KEY, workspace)
    n, first = (
        evaluation.samples,
        {"super_resolve": "bicubic", "inpaint": "fill", "colorize": "grey", "restore": "input"},
    )
    metrics = ("psnr", "psnr_y", "psnr_median", "ssim", "perceptual_classifier", "kid_classifier", special)
    for metric in metrics:
        assert evaluation.metrics[f"{metric}_{n}"] == evaluation.metrics[f"{metric}_{n}_{first[task]}"]
        assert {f"{metric}_{n}_{name}" for name in names} <= evaluation.metrics.keys()
    table = pd.read_csv(evaluation.folder / "samples.csv")
    assert psnr(table["squared_error"].to_numpy()) == pytest.approx(evaluation.metrics[f"psnr_{n}"])
    if task == "colorize":
        assert (
            evaluation.metrics[f"colourfulness_{n}"]
            < 0.05
            < evaluation.metrics[f"colourfulness_{n}_brightness_colours"]
        )


def test_a_net_that_shows_no_layers_is_refused(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from components.evaluation import task_evaluation
    from components.workspace.chosen_nets import load_nets

    def own_net(*arguments: Any) -> Any:
        nets = load_nets("auto", *arguments[1:])
        return nets._replace(main=nets.main._replace(net=object()))

    monkeypatch.setattr(task_evaluation, "load_nets", own_net)
    workspace = beside(dataset, tmp_path)
    model = untrained("restore", dataset, workspace.model)
    with pytest.raises(UserError, match="image tasks are measured by what the layers of a net see"):
        evaluate_task(Evaluate(), model, dataset, KEY, workspace)
