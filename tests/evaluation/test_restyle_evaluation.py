"""Pictures that are carried into another class, from two folders to a verdict, and what they are measured by."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skimage.data
import torch
from PIL import Image
from skimage.color import rgb2lab

from components.evaluation.nearest import Nearest
from components.evaluation.recolouring import Recoloured
from components.evaluation.restyle_evaluation import measured_again, net_for, to_wanted
from components.gan.dataset import Split, to_signed
from components.gan.options import ImageFormat
from components.gan.tasks.image_task import held_back
from components.measures.directions import classes_wanted
from components.measures.distances import kernel_distance
from components.measures.perceptual import perceptual_distance
from components.measures.transparency import over_grey, pixels_over_grey
from components.workspace.artifacts import Dataset, Evaluation, Gallery, Model
from components.workspace.chosen_nets import load_nets
from components.workspace.params import Params
from components.workspace.published import load_published
from components.workspace.workspace import Workspace
from flows.cli.run import _next as next_steps
from flows.runner import run_gate, run_stage
from tests.conftest import ganflow, succeeded

SIDE = 24
PARAMS = """
preprocess: {resolution: 24, near_duplicates: false, hidden_pairs: true}
train:
  task: {name: restyle}
  size: small
  images: 64
  batch: 16
  log_every: 32
  checkpoint_every: 32
postprocess: {images: 4}
register: {name: day-and-night}
"""


def write_domains(data: Path) -> None:
    """Pieces of a photograph as they are, and those of another one at night, in CycleGAN's folders."""
    for domain, name in (("A", "astronaut"), ("B", "coffee")):
        whole = getattr(skimage.data, name)() if domain == "A" else getattr(skimage.data, name)() // 3
        for number in range(80):
            y, x = divmod(number, 10)
            folder = data / f"{'test' if number % 4 == 0 else 'train'}{domain}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(whole[48 * y : 48 * y + 48, 48 * x : 48 * x + 48]).save(folder / f"{number:03}.png")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which a model that has hardly learned was trained, measured and shown."""
    root = tmp_path_factory.mktemp("restyle")
    write_domains(root / "data")
    (root / "params.yaml").write_text(PARAMS)
    workspace, params = Workspace(root), Params.load(root / "params.yaml")
    run_stage("preprocess", params, workspace)
    succeeded(ganflow(root, "train"))
    for stage in ("evaluate", "postprocess", "register"):
        run_stage(stage, params, workspace)
    return root


def test_pictures_of_each_class_are_measured_in_the_other(root: Path) -> None:
    dataset, evaluation = Dataset.load(root / "artifacts/dataset"), Evaluation.load(root / "artifacts/evaluation")
    assert dataset.image.classes == ("A", "B") and dataset.splits["holdout"] == 40
    table = pd.read_csv(evaluation.folder / "samples.csv")
    assert (table["label"] != table["source"]).all() and len(table) == 40
    name = next(name for name in evaluation.metrics if name.startswith("kid_wanted_eff"))
    # A mean over the classes, of which each counts alike.
    assert evaluation.metrics[name] == pytest.approx(table["kid_wanted"].mean())
    assert {f"{name}_input", f"{name}_reinhard", f"{name}_floor"} <= evaluation.metrics.keys()
    assert evaluation.metrics[f"{name}_floor"] < evaluation.metrics[f"{name}_input"]
    assert {"agreement_40", "agreement_40_floor"} <= evaluation.metrics.keys()
    history = pd.read_csv(Model.load(root / "artifacts/model").folder / "history.csv")
    assert {"cycle_error", "identity_error", "score", "baseline_score"} <= set(history)


def test_what_training_was_not_told_is_measured_by(root: Path) -> None:
    dataset, evaluation = Dataset.load(root / "artifacts/dataset"), Evaluation.load(root / "artifacts/evaluation")
    table = pd.read_csv(evaluation.folder / "samples.csv")
    training, holdout = (Split(dataset.folder, name, dataset.image) for name in ("training", "holdout"))
    net = load_nets(net_for("auto"), training, dataset.content, Workspace(root)).main
    # Of each class in the order of its files.
    partner = np.concatenate([np.flatnonzero(holdout.labels == label) for label in (1, 0)])
    sources = np.load(evaluation.folder / "given.npy")
    expected = perceptual_distance(net.net, sources, holdout.pixels(partner[table["row"]]))
    assert table["truth_input"].to_numpy() == pytest.approx(expected, rel=1e-4)
    assert evaluation.metrics["truth_efficientnet_lite0_40_input"] == pytest.approx(table["truth_input"].mean())
    assert "Perceptual distance to the hidden partner" in (root / "artifacts/gallery/report.html").read_text()


def test_each_direction_is_told(root: Path) -> None:
    evaluation = Evaluation.load(root / "artifacts/evaluation")
    directions = pd.read_csv(evaluation.folder / "directions.csv")
    assert directions["class"].tolist() == ["A", "B"] and directions["pictures"].tolist() == [20, 20]
    for ending in ("", "_input", "_reinhard"):
        mean = evaluation.metrics[f"kid_wanted_efficientnet_lite0_40{ending}"]
        assert directions[f"kid{ending}"].mean() == pytest.approx(mean)
    page = re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", (root / "artifacts/gallery/report.html").read_text()))
    assert "Into each class" in page


def test_the_report_and_the_gate_speak_of_classes_and_not_of_originals(root: Path) -> None:
    page = re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", (root / "artifacts/gallery/report.html").read_text()))
    for words in ("Carried back", "Distance to the classes wanted", "pictures of other classes"):
        assert words in page
    assert "the original, which" not in page
    assert len(Gallery.load(root / "artifacts/gallery").pictures) == 4
    verdict = run_gate(Params.load(root / "params.yaml"), Workspace(root))
    assert verdict.measure == "kid_wanted"
    assert {"finite", "baseline", "unseen files"} <= {check.name for check in verdict.checks}
    assert "class" in next(check.words for check in verdict.checks if check.name == "baseline")
    assert "carried into another class" in (root / "mlruns/verdict/verdict.html").read_text()


def test_what_to_do_next_names_a_class(root: Path) -> None:
    # Without one the model does not know what pictures are to become.
    assert "ganflow apply --model 1 --to A photo.jpg" in dict(next_steps(Workspace(root)))["apply"]


def test_the_gate_measures_what_the_evaluation_measured(root: Path) -> None:
    dataset, evaluation = Dataset.load(root / "artifacts/dataset"), Evaluation.load(root / "artifacts/evaluation")
    training = Split(dataset.folder, "training", dataset.image)
    net = load_nets(net_for("auto"), training, dataset.content, Workspace(root)).main
    # One of each class would have no distance of its own.
    at, model = np.array([0, 39]), load_published(root / "artifacts/model", "the model")
    found = measured_again(evaluation, dataset, net, at, {"challenger": model})
    table = pd.read_csv(evaluation.folder / "samples.csv").iloc[at]
    for name, column in (("challenger", "kid_wanted"), ("input", "kid_wanted_input")):
        assert found[name][0] == pytest.approx(table[column].to_numpy(), rel=1e-4, abs=1e-6)
    assert found["challenger"][1] == pytest.approx(table["squared_error"].to_numpy(), rel=1e-4)


def test_what_could_not_be_judged_is_not_trained(tmp_path: Path) -> None:
    write_domains(tmp_path / "data")
    for number in range(4, 80, 4):
        (tmp_path / f"data/testB/{number:03}.png").unlink()
    (tmp_path / "params.yaml").write_text(PARAMS)
    run_stage("preprocess", Params.load(tmp_path / "params.yaml"), Workspace(tmp_path))
    result = ganflow(tmp_path, "train")
    assert result.returncode and "1 held-out pictures are B, and two are needed" in result.stderr
    assert not (tmp_path / ".ganflow/training").exists()


# --- what it is made of ---


def test_the_parts_of_a_distance_are_its_mean_over_the_classes() -> None:
    rng = np.random.default_rng(0)
    features, wanted = rng.normal(size=(30, 8)), np.repeat([0, 2], [10, 20])
    real = {0: rng.normal(size=(40, 8)) + 1, 2: rng.normal(size=(50, 8))}
    parts = to_wanted(features, wanted, real)
    each = [kernel_distance(features[wanted == label], real[label]) for label in (0, 2)]
    assert parts.mean() == pytest.approx(np.mean(each))


def test_every_other_class_is_wanted_equally_often_and_never_its_own() -> None:
    labels = np.repeat([0, 3, 5], [8, 9, 4])
    wanted = classes_wanted(labels, np.array([0, 3, 5]))
    assert (wanted != labels).all() and set(wanted) == {0, 3, 5}
    for label in (0, 3, 5):
        counts = np.unique(wanted[labels == label], return_counts=True)[1]
        assert len(counts) == 2 and np.ptp(counts) <= 1


def test_a_picture_gets_the_colours_of_others() -> None:
    dark, light = skimage.data.coffee()[:64, :64] // 3, skimage.data.astronaut()[:64, :64]
    image = ImageFormat(height=64, width=64, channels=3, classes=("any",))
    colours = Recoloured.like(Split.of(light[None], np.zeros(1, np.int64), image))
    made = colours.given(to_signed(torch.from_numpy(dark[None])))
    wanted, before, after = (rgb2lab(pixels).reshape(-1, 3).mean(0) for pixels in (light, dark, made[0]))
    # But for what no screen shows.
    assert np.abs(after - wanted).max() < 0.2 * np.abs(before - wanted).max()
    clear = np.dstack((dark, np.full((64, 64), 7, np.uint8)))
    assert (colours.of(clear[None])[..., 3] == 7).all()


def test_the_nearest_pair_is_that_whose_input_is_nearest() -> None:
    rng = np.random.default_rng(0)
    inputs, images = (rng.integers(0, 256, (20, 32, 32, 3), np.uint8) for _ in range(2))
    image = ImageFormat(height=32, width=32, channels=3, classes=("any",), paired=True)
    nearest = Nearest(Split.of(images, np.zeros(20, np.int64), image, inputs))
    noisy = np.clip(inputs[::-1].astype(int) + rng.integers(-9, 10, inputs.shape), 0, 255).astype(np.uint8)
    assert (nearest.given(to_signed(torch.from_numpy(noisy))) == images[::-1]).all()


def test_what_is_transparent_is_grey() -> None:
    clear, solid = np.full((1, 2, 2, 4), 255, np.uint8), np.full((1, 2, 2, 4), 255, np.uint8)
    clear[..., 3] = 0
    assert (np.abs(pixels_over_grey(clear).astype(int) - 127.5) <= 0.5).all()
    assert (pixels_over_grey(solid) == 255).all()
    images = torch.rand(3, 4, 5, 5) * 2 - 1
    levels = ((images + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    seen = (over_grey(to_signed(torch.from_numpy(levels))) + 1) * 127.5
    assert (seen.permute(0, 2, 3, 1) - torch.from_numpy(pixels_over_grey(levels)).float()).abs().max() <= 0.51


def test_beyond_the_range_only_what_leads_back_is_learned() -> None:
    made = torch.tensor([-2.0, -2.0, 0.3, 2.0, 2.0], requires_grad=True)
    wanted = torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0])
    kept = held_back(made)
    assert kept.tolist() == pytest.approx([-1, -1, 0.3, 1, 1])
    # Descent goes against the gradient: a negative one makes larger.
    (kept * -wanted).sum().backward()
    assert made.grad is not None and made.grad.tolist() == [-1, 0, -1, 0, 1]
