"""Image tasks from a folder of pictures to a published model, and what is refused about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skimage.data
import torch
from PIL import Image

from components.gan.dataset import Split, to_signed
from components.gan.errors import UserError
from components.gan.network_options import TASK_NETWORKS
from components.gan.options import Execution
from components.gan.sampling import conditions
from components.gan.tasks.image_tasks import task_of
from components.generate import GenerateRequest, generate
from components.measures.features import Classifier, EfficientNetLite0
from components.measures.fidelity import psnr, squared_errors
from components.measures.perceptual import perceptual_distance
from components.sweep import around
from components.training.scoring import scored_training
from components.workspace.artifacts import Dataset, Evaluation, Model
from components.workspace.params import Params, Preprocess, Train
from components.workspace.published import load_published
from components.workspace.workspace import Workspace
from flows.runner import run_stage
from tests.conftest import Pixels, ganflow, made_dataset, succeeded
from tests.gan.tasks.test_networks import NARROW

EXECUTION = Execution(workers=1, threads=1, device="cpu", precision="fp32")
PARAMS = """
preprocess: {resolution: 24, near_duplicates: false, development: 0.2}
train:
  task: {name: super_resolve, factor: 2}
  size: small
  images: 1024
  batch: 16
  log_every: 128
  checkpoint_every: 512
  adversarial_weight: {start: 0, end: 0.02, rest: 0.6}
"""


def write_pictures(folder: Path) -> None:
    """160 pieces of two photographs, in a folder for each."""
    for name in ("astronaut", "coffee"):
        whole = getattr(skimage.data, name)()
        (folder / name).mkdir(parents=True)
        for number in range(80):
            y, x = divmod(number, 10)
            piece = whole[48 * y : 48 * y + 48, 48 * x : 48 * x + 48]
            Image.fromarray(piece).save(folder / name / f"{number:03}.png")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of photographs, which `ganflow preprocess` has prepared."""
    root = tmp_path_factory.mktemp("workspace")
    write_pictures(root / "data")
    (root / "params.yaml").write_text(PARAMS)
    workspace = Workspace(root)
    run_stage("preprocess", Params.load(workspace.params), workspace)
    return root


@pytest.fixture(scope="module")
def model(root: Path) -> Model:
    """What `ganflow train` makes of them."""
    out = succeeded(ganflow(root, "train"))
    assert "of the baseline's" in out
    return Model.load(root / "artifacts" / "model")


def test_a_training_ends_in_a_model_that_makes_pictures_of_pictures(root: Path, model: Model) -> None:
    published = load_published(model.folder, "the model")
    assert published.task == model.training.task
    assert (published.network.scale, published.network.multiple) == (2, 1)
    assert published.network.receptive_field == 3 + 2 * 4
    split = Split(root / "artifacts" / "dataset", "holdout", model.image)
    originals = split.pixels(np.arange(len(split)))
    task = task_of(published.task)
    assert task is not None
    given = conditions(task, originals, range(len(originals)), model.image)
    made = published.transform(given)
    assert made.shape == (len(originals), 3, 24, 24)
    real = to_signed(torch.from_numpy(originals))
    assert (made - real).abs().mean() < (task.baseline(given) - real).abs().mean()
    # Of any size, not only that of the data set.
    assert published.transform(torch.zeros(1, 3, 31, 50)).shape == (1, 3, 62, 100)


def test_the_curves_say_what_was_learned_beside_the_baseline(root: Path, model: Model) -> None:
    history = pd.read_csv(model.folder / "history.csv")
    resting = history["images"] <= 600
    assert history.loc[resting, "discriminator_loss"].isna().all()
    assert history.loc[~resting, "discriminator_loss"].notna().all()
    assert (history["pixel_error"] > 0).all()
    scored = history.dropna(subset=["score"])
    assert list(scored["images"]) == [512, 1024]
    assert scored["baseline_psnr"].nunique() == scored["baseline_score"].nunique() == 1
    assert (scored["psnr"] > scored["baseline_psnr"]).all()
    assert model.score == scored["score"].min()
    assert scored["generalisation_gap"].notna().all()
    (last, *_) = sorted((root / ".ganflow" / "training").glob("*/samples/*1024.png"))
    # 12 images in rows of two: what is given, the baseline, what is made, the original.
    assert Image.open(last).size == (8 * 24, 6 * 24)


def test_an_evaluation_has_the_baselines_of_the_same_inputs_beside_its_scores(root: Path, model: Model) -> None:
    workspace = Workspace(root)
    evaluation = run_stage("evaluate", Params.load(workspace.params), workspace)
    assert isinstance(evaluation, Evaluation)
    n, scores = evaluation.samples, evaluation.metrics
    assert n == evaluation.holdout_images
    for metric in ("psnr", "psnr_y", "psnr_median", "ssim", "consistency"):
        for baseline in ("bicubic", "lanczos_sharpened"):
            assert scores[f"{metric}_{n}_{baseline}"] > 0
    assert scores[f"psnr_{n}"] > scores[f"psnr_{n}_bicubic"]
    assert scores[f"perceptual_classifier_{n}"] < scores[f"perceptual_classifier_{n}_bicubic"]
    assert {f"kid_classifier_{n}", f"kid_classifier_{n}_floor", f"kid_classifier_{n}_bicubic"} <= scores.keys()
    low, high = evaluation.intervals[f"psnr_{n}"]
    assert low < scores[f"psnr_{n}"] < high
    # The table and the pictures say the same, and what was shown is the small image in large pixels.
    table = pd.read_csv(evaluation.folder / "samples.csv")
    made, shown = (np.load(evaluation.folder / f"{name}.npy") for name in ("samples", "given"))
    originals = Split(workspace.dataset, "holdout", model.image).pixels(table["row"].to_numpy())
    assert squared_errors(made, originals) == pytest.approx(table["squared_error"].to_numpy())
    assert psnr(table["squared_error_bicubic"].to_numpy()) == pytest.approx(scores[f"psnr_{n}_bicubic"])
    assert np.array_equal(shown[:, ::2, ::2], shown[:, 1::2, 1::2])
    # And it is there already, the second time.
    assert run_stage("evaluate", Params.load(workspace.params), workspace).key == evaluation.key


def test_a_model_of_a_task_generates_nothing(root: Path, model: Model) -> None:
    workspace = Workspace(root)
    request = GenerateRequest(model="workspace", out=str(root / "out"))
    with pytest.raises(
        UserError,
        match="by the task super_resolve, and none of noise: `ganflow apply` gives it photos",
    ):
        generate(request, Params.load(workspace.params), workspace)
    with pytest.raises(UserError, match="it makes none of noise"):
        load_published(model.folder, "the model").sample([0], np.zeros(1, np.int64))


def test_sizes_are_refused_before_images_are_prepared(root: Path) -> None:
    workspace = Workspace(root)
    odd = Params.load(workspace.params, ["preprocess.resolution=25"])
    with pytest.raises(UserError, match=r"25x25 .* multiple of 2"):
        run_stage("preprocess", odd, workspace)
    wrong = r"train\.task\.super_resolve\.factor = 5 is not allowed: input should be 2, 3 or 4"
    with pytest.raises(UserError, match=wrong):
        Params.load(workspace.params, ["train.task={name: super_resolve, factor: 5}"])


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the net that scores is kept."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("dataset")
    write_pictures(folder / "data")
    return made_dataset(folder, Preprocess(resolution=24, development=0.2, near_duplicates=False))


@pytest.mark.parametrize("network", TASK_NETWORKS)
@pytest.mark.parametrize("task", ["super_resolve", "inpaint", "colorize", "restore"])
def test_scores_are_the_same_after_a_resume(network: str, task: str, dataset: Dataset, state: Path) -> None:
    factor = {"factor": 2} if task == "super_resolve" else {}
    values: dict[str, Any] = {
        "task": {"name": task, **factor},
        "network": {"name": network, **NARROW[network]},
        **{"images": 64, "batch": 16, "log_every": 16, "checkpoint_every": 32},
    }
    options = Train.model_validate(values).loop
    states, rows = [], []
    for progress, row, _ in scored_training(options, dataset, EXECUTION, state):
        states.append(progress.state())
        rows.append(row)
    assert ["score" in row for row in rows] == [False, True, False, True]
    again = [row for _, row, _ in scored_training(options, dataset, EXECUTION, state, states[1])]
    assert again == rows[2:]


# --- what scores are made of ---


def test_the_error_in_decibels_is_that_of_all_images_together(digits: tuple[Pixels, Pixels]) -> None:
    real = digits[0][:4, :, :, None]
    made = real.copy()
    made[0] = 255 - made[0]
    squared = squared_errors(made, real)
    assert (squared[1:] == 0).all()
    error = float(((made.astype(float) - real) ** 2).mean())
    assert psnr(squared) == pytest.approx(10 * np.log10(255**2 / error))
    assert psnr(squared[1:]) == 100


@pytest.mark.parametrize("net", ["classifier", "efficientnet_lite0"])
def test_a_perceptual_distance_is_none_to_itself_and_grows_with_blur(net: str, dataset: Dataset) -> None:
    if net == "efficientnet_lite0":
        pytest.importorskip("efficientnet_lite_pytorch")
    torch.manual_seed(0)
    feature_net = (Classifier(dataset.image) if net == "classifier" else EfficientNetLite0()).eval()
    whole = skimage.data.astronaut()[:256, :256]
    real = np.stack([whole[y : y + 64, x : x + 64] for y in range(0, 256, 64) for x in range(0, 256, 64)])
    assert not perceptual_distance(feature_net, real, real).any()

    def blurred(factor: int) -> Pixels:
        side = 64 // factor
        small = [Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC) for image in real]
        return np.stack([np.asarray(image.resize((64, 64), Image.Resampling.BICUBIC)) for image in small])

    some, more = (perceptual_distance(feature_net, blurred(factor), real) for factor in (2, 4))
    assert (some > 0).all()
    assert (more > some).all()
    # Each image is alone, but for the order of sums.
    alone = perceptual_distance(feature_net, blurred(4)[3:4], real[3:4])
    assert alone == pytest.approx(more[3:4], rel=1e-3)


@pytest.mark.parametrize("shape", [(8, 8), (24, 31), (32, 32), (64, 100), (65, 65)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_of_any_size_have_a_perceptual_distance(shape: tuple[int, int], channels: int) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    net = EfficientNetLite0().eval()
    made, real = np.random.default_rng(0).integers(0, 256, (2, 2, *shape, channels), dtype=np.uint8)
    distance = perceptual_distance(net, made, real)
    assert distance.shape == (2,)
    assert (distance > 0).all()


def test_a_sweep_of_a_task_varies_what_trades_errors_for_texture() -> None:
    keys = {
        key for choices in around(Train.model_validate({"task": {"name": "inpaint"}})) for v in choices for key in v
    }
    assert keys == {"train.adversarial_weight", "train.feature_weight"}
    assert "train.adversarial_weight" not in {key for choices in around(Train()) for v in choices for key in v}
