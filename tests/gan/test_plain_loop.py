"""Our loop against the same training written plainly: the same steps, but for float64's rounding."""

from pathlib import Path

import pytest
import torch

from components.gan.options import NETWORKS, Execution, ImageFormat, TrainingOptions
from components.gan.training_loop import training_loop
from tests.gan.plain_loop import CLASSES, plain_loop, random_split
from tests.gan.test_models import NARROW
from tests.harness.float64 import in_float64


@pytest.mark.parametrize("shortcuts", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_three_steps_are_those_of_the_plain_loop(name: str, shortcuts: bool, tmp_path: Path) -> None:
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
            "shortcuts": shortcuts,
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
