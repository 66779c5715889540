"""Our loop against the same training written plainly, as far as rounding lets them go together."""

from pathlib import Path

import pytest
import torch

from components.gan.options import NETWORKS, Execution, ImageFormat, TrainingOptions
from components.gan.training_loop import training_loop
from tests.gan.plain_loop import CLASSES, plain_loop, random_split
from tests.gan.test_models import NARROW


@pytest.mark.parametrize("shortcuts", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_three_steps_in_fp32_are_those_of_the_plain_loop(name: str, shortcuts: bool, tmp_path: Path) -> None:
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
    fp32 = Execution(workers=1, threads=2, device="cpu", precision="fp32")
    plain = plain_loop(options, data, torch.device("cpu"))
    for progress in training_loop(options, data, fp32):
        ours, theirs = progress.state().tensors, next(plain)
        for weight, value in theirs.items():
            change = (ours[weight] - value).norm()
            assert change <= 0.01 * value.norm() + 1e-5, (progress.images, weight)
