"""Our loop against the same training written plainly: the same steps, but for float64's rounding."""

from pathlib import Path
from typing import Any

import pytest
import torch

from components.gan.network_options import NETWORKS
from components.gan.options import Execution, ImageFormat, TrainingOptions
from components.gan.training_loop import training_loop
from tests.gan.plain_loop import CLASSES, plain_loop, random_split
from tests.gan.test_models import NARROW
from tests.harness.float64 import in_float64

# What a training may be asked for besides, of the network that takes least.
CHANGES: dict[str, dict[str, Any]] = {
    "wgan_gp at augmented images": {
        "wgan_gp_weight": 10,
        "r1_gamma": 0,
        "penalty_every": 1,
        "augment": ["color", "translation", "cutout"],
    },
    "relativistic and augmented": {"loss": "relativistic", "r2_gamma": 1, "augment": ["translation", "cutout"]},
    "balanced, with several averages": {"sampling": "balanced", "ema_half_lives": [8, 20]},
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_training_may_have_is_as_in_the_plain_loop(change: str, tmp_path: Path) -> None:
    same_as_the_plain_loop("dcgan", CHANGES[change], tmp_path)


@pytest.mark.parametrize("shortcuts", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_three_steps_are_those_of_the_plain_loop(name: str, shortcuts: bool, tmp_path: Path) -> None:
    same_as_the_plain_loop(name, {"shortcuts": shortcuts}, tmp_path)


def same_as_the_plain_loop(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    """Three steps of both loops end in the same weights."""
    data = random_split(tmp_path, ImageFormat(height=28, width=28, channels=1, classes=CLASSES), 100)
    network = {"name": name, **NARROW.get(name, {})}
    options = TrainingOptions.model_validate(
        # Plain rates of learning, so that Adam does not turn rounding into steps.
        {
            "network": network,
            "images": 48,
            "batch": 16,
            "log_every": 16,
            "d_steps": 1,
            "adam_betas": (0.9, 0.99),
            **changes,
        }
    )
    execution = Execution(workers=1, threads=2, device="cpu", precision="fp32")
    steps = 0
    with in_float64():
        plain = plain_loop(options, data, torch.device("cpu"))
        for progress in training_loop(options, data, execution):
            ours, theirs = progress.state().tensors, next(plain)
            steps += 1
            for weight, value in theirs.items():
                change = (ours[weight] - value).norm()
                assert change <= 1e-9 * value.norm() + 1e-12, (progress.images, weight)
    assert steps == 3
