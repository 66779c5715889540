"""Training for image tasks: as in the plain loop, resumed in the same bits, and the same on any number of ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from torch import Tensor

from components.gan import training_loop as loop
from components.gan.dataset import Split
from components.gan.inputs import Inputs
from components.gan.models.image_to_image import PatchDiscriminator
from components.gan.network_options import TASK_NETWORKS
from components.gan.options import ImageFormat, TrainingOptions
from components.gan.symptoms import symptom
from tests.gan.plain_loop import plain_task_loop
from tests.gan.tasks.test_networks import NARROW
from tests.gan.test_training_loop import FP32, GRADIENTS, states
from tests.harness.float64 import in_float64
from tests.harness.ranks import spawn

SIDE = 24
FORMAT = ImageFormat(height=SIDE, width=SIDE, channels=3, classes=("upper", "lower"), paired=True)
TASKS: dict[str, dict[str, Any]] = {
    "super_resolve": {"factor": 2},
    "inpaint": {},
    "colorize": {},
    "restore": {"contrast": [0.7, 1.0]},
    "translate": {"noise": 2},
    "restyle": {},
}
PAIRS = [(network, task) for network in TASK_NETWORKS for task in TASKS]
# The discriminator rests for half of the images.
ENDS: dict[str, Any] = {"adversarial_weight": {"start": 0, "end": 0.1, "rest": 0.4, "shape": "linear"}}


def options(network: str, task: str, **changes: Any) -> TrainingOptions:
    values = {
        "task": {"name": task, **TASKS[task]},
        "network": {"name": network, **NARROW[network]},
        "images": 48,
        "batch": 8,
        "log_every": 8,
        # Without originals there is nothing to learn while the discriminator rests.
        **(ENDS if task != "restyle" else {"adversarial_weight": 0.5}),
    }
    return TrainingOptions.model_validate({**values, **changes})


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training split of pieces of a photograph, each with its edges as its input."""
    folder = tmp_path_factory.mktemp("photos")
    whole = skimage.data.astronaut()
    places = [(y, x) for y in range(0, 488, 48) for x in range(0, 488, 48)]
    pieces = np.stack([whole[y : y + SIDE, x : x + SIDE] for y, x in places])
    np.save(folder / "training-00000.npy", pieces)
    np.save(folder / "training-input-00000.npy", np.abs(np.diff(pieces, axis=2, append=pieces[:, :, -1:])))
    np.save(folder / "training-labels.npy", np.arange(len(pieces)) * 2 // len(pieces))
    return folder


@pytest.fixture
def split(photos: Path) -> Split:
    return Split(photos, "training", FORMAT)


def same(state: loop.State, other: loop.State) -> bool:
    """Whether two states are the same to the bit."""
    assert state.tensors.keys() == other.tensors.keys()
    return all(torch.equal(other.tensors[name], tensor) for name, tensor in state.tensors.items())


@pytest.mark.parametrize(("network", "task"), PAIRS)
def test_steps_are_those_of_the_plain_loop(network: str, task: str, split: Split) -> None:
    # Plain rates of learning, so that Adam does not turn rounding into steps.
    chosen = options(network, task, mirror=False, adam_betas=(0.9, 0.99))
    with in_float64():
        plain = plain_task_loop(chosen, split, torch.device("cpu"))
        for progress in loop.training_loop(chosen, split, FP32):
            ours, theirs = progress.state().tensors, next(plain)
            for weight, value in theirs.items():
                change = (ours[weight] - value).norm()
                assert change <= 1e-9 * value.norm() + 1e-12, (progress.images, weight)
    assert progress.images == 48
    assert "discriminator_loss" in progress.metrics


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("network", "task"), PAIRS)
def test_a_resume_at_any_step_ends_in_the_same_bits(network: str, task: str, precision: str, split: Split) -> None:
    execution = FP32.model_copy(update={"precision": precision})
    chosen = options(network, task)
    whole = states(chosen, split, execution)
    assert [state.images for state in whole] == [8, 16, 24, 32, 40, 48]
    # It goes on from before the discriminator has learned anything, and from after.
    moments = [any(name.startswith("adam_discriminator/") for name in state.tensors) for state in whole]
    assert moments == ([False] * 3 if task != "restyle" else [True] * 3) + [True] * 3
    for state in whole[:-1]:
        assert same(states(chosen, split, execution, state)[-1], whole[-1])


@pytest.mark.parametrize(
    "changes",
    [
        {"augment": ("color", "translation", "cutout"), "mirror": True},
        {"ada": {"probability": 0.8}, "loss": "relativistic"},
        {"loss": "hinge", "r1_gamma": 1, "r2_gamma": 1, "penalty_every": 2},
        {"loss": "wasserstein", "wgan_gp_weight": 10, "penalty_every": 1, "adversarial_weight": 1},
        {"pixel_weight": 0, "feature_weight": 0, "adversarial_weight": 1, "shortcuts": False},
    ],
    ids=str,
)
def test_a_resume_is_exact_with_whatever_else_a_training_has(changes: dict[str, Any], split: Split) -> None:
    chosen = options("edsr", "super_resolve", **changes)
    whole = states(chosen, split)
    for state in whole[:-1:2]:
        assert same(states(chosen, split, FP32, state)[-1], whole[-1])
    assert all(tensor.isfinite().all() for tensor in whole[-1].tensors.values())


def test_a_discriminator_that_rests_is_not_run_and_stays_as_it_is(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    features = PatchDiscriminator.features

    def counted(self: PatchDiscriminator, image: Tensor, inputs: Inputs) -> list[Tensor]:
        calls.append(len(image))
        return features(self, image, inputs)

    monkeypatch.setattr(PatchDiscriminator, "features", counted)
    before: dict[str, Tensor] = {}
    for progress in loop.training_loop(options("unet", "inpaint"), split, FP32):
        now = {name: t for name, t in progress.state().tensors.items() if name.startswith("discriminator/")}
        rests = progress.images <= 24
        assert bool(calls) is not rests
        assert ("discriminator_loss" in progress.metrics) is not rests
        if before:
            assert all(torch.equal(now[name], t) for name, t in before.items()) is rests
        before = now


def test_what_is_learned_is_nearer_to_the_originals_than_the_baseline(split: Split) -> None:
    chosen = options("edsr", "super_resolve", images=1_600, log_every=400, adversarial_weight=0, feature_weight=0)
    *_, last = loop.training_loop(chosen, split, FP32)
    assert last.metrics["pixel_error"] < 0.98 * last.metrics["baseline_error"]


def test_the_error_of_a_repair_is_that_within_the_holes(split: Split) -> None:
    (first, *_) = loop.training_loop(options("unet", "inpaint", learning_rate_generator=1e-12), split, FP32)
    assert first.metrics["pixel_error"] == pytest.approx(first.metrics["baseline_error"], rel=1e-5)


# --- several ranks ---


def _trained(network: str, task: str, split: Split) -> dict[str, Tensor]:
    """The state and the metrics after steps of both players, in float64."""
    steady = {"r1_gamma": 1, "penalty_every": 1, "adversarial_weight": 0.5, "images": 32, "batch": 16, "log_every": 16}
    with in_float64():
        *_, last = loop.training_loop(options(network, task, **GRADIENTS, **steady), split, FP32)
    return {**last.state().tensors, "metrics": torch.tensor(list(last.metrics.values()), dtype=torch.float64)}


def _train_rank(rank: int, ranks: int, folder: Path, out: Path) -> None:
    for network, task in PAIRS:
        torch.save(_trained(network, task, Split(folder, "training", FORMAT)), out / f"{network}-{task}-{rank}.pt")


@pytest.mark.parametrize("ranks", [2, 3])
def test_any_number_of_ranks_computes_the_gradients_of_one_process(ranks: int, photos: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    # 16 images over 3 ranks are unequal shares.
    spawn(_train_rank, ranks, photos, tmp_path)
    for network, task in PAIRS:
        alone = _trained(network, task, Split(photos, "training", FORMAT))
        found = [torch.load(tmp_path / f"{network}-{task}-{rank}.pt", weights_only=True) for rank in range(ranks)]
        for name, tensor in alone.items():
            assert all(torch.equal(found[0][name], other[name]) for other in found[1:]), name
            assert (found[0][name] - tensor).norm() <= 1e-9 * tensor.norm() + 1e-15, (network, task, name)


def _resume_rank(rank: int, ranks: int, folder: Path, out: Path) -> None:
    split = Split(folder, "training", FORMAT)
    chosen = options("unet", "restore")
    whole = states(chosen, split)
    resumed = [same(states(chosen, split, FP32, state)[-1], whole[-1]) for state in whole[:-1]]
    (out / str(rank)).write_text(str(resumed))


def test_a_resume_of_several_ranks_ends_in_the_same_bits(photos: Path, tmp_path: Path) -> None:
    spawn(_resume_rank, 2, photos, tmp_path)
    assert [file.read_text() for file in tmp_path.iterdir()] == [str([True] * 5)] * 2


# --- what goes wrong ---


def test_curves_without_a_discriminator_have_no_symptoms_of_one() -> None:
    resting = [{"images": i, "generator_loss": 0.1, "pixel_error": 0.1, "baseline_error": 0.12} for i in range(30)]
    assert symptom(resting) is None
    lost = [{**row, "pixel_error": 0.3} for row in resting]
    assert "2.5 times as far from their originals" in str(symptom(lost))


def test_weights_that_teach_nothing_at_some_time_are_refused() -> None:
    falling = {"start": 1, "end": 0, "images": 10}
    with pytest.raises(ValueError, match="both 0 at some time"):
        options("edsr", "restore", pixel_weight=falling)
    assert options("edsr", "restore", pixel_weight=falling, adversarial_weight={"start": 0.1, "end": 1})


@pytest.mark.parametrize("task", ["translate", "restyle"])
def test_colours_that_nobody_sees_teach_nothing(task: str) -> None:
    rng = np.random.default_rng(0)
    images, inputs = rng.integers(0, 256, (2, 16, SIDE, SIDE, 4), np.uint8)
    for pixels in (images, inputs):
        # A third of all pixels is wholly transparent.
        pixels[rng.random(pixels.shape[:3]) < 1 / 3, 3] = 0
    labels = np.arange(16) % 2
    image = FORMAT.model_copy(update={"channels": 4})
    ends = []
    for hidden in (0, 200):
        seen = [
            np.where(pixels[..., 3:] == 0, [hidden, 255 - hidden, hidden, 0], pixels) for pixels in (images, inputs)
        ]
        split = Split.of(seen[0].astype(np.uint8), labels, image, seen[1].astype(np.uint8))
        ends.append(states(options("unet", task, augment=("color", "translation")), split)[-1])
    assert same(*ends)
