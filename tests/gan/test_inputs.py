"""Inputs of an image, and that its input image goes wherever the image goes: joined, cut, mirrored and augmented."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from components.gan import ada, augmentation, training_loop
from components.gan.dataset import Split, TrainingBatch
from components.gan.draws import Draws
from components.gan.inputs import Inputs
from components.gan.models.layers import Generator, NetworkPair
from components.gan.options import ADA, Execution, TrainingOptions
from components.gan.views import view


def numbered(count: int, first: int = 0) -> Inputs:
    """Inputs of which every part says its row."""
    rows = torch.arange(first, first + count)
    return Inputs(rows[:, None].float(), rows, rows.view(-1, 1, 1, 1).expand(-1, 2, 3, 3).float())


def rows(inputs: Inputs) -> list[int]:
    """The numbers of the rows, which all parts must agree on."""
    assert inputs.condition is not None
    assert torch.equal(inputs.z[:, 0].long(), inputs.label)
    assert torch.equal(inputs.condition[:, 1, 2, 0].long(), inputs.label)
    return inputs.label.tolist()


def test_the_parts_of_an_image_stay_together() -> None:
    inputs = numbered(7)
    assert len(inputs) == 7
    assert rows(inputs[2:5]) == [2, 3, 4]
    assert rows(inputs[torch.tensor([5, 5, 0])]) == [5, 5, 0]
    assert [rows(part) for part in inputs.split(3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert rows(Inputs.cat((numbered(2), numbered(3, first=8)))) == [0, 1, 8, 9, 10]
    assert Inputs.cat(list(Inputs(torch.zeros(4, 2), torch.arange(4)).split(3))).condition is None
    assert Inputs.without_latent(torch.arange(3)).z.shape == (3, 0)


def test_a_mirrored_image_takes_its_input_image_along() -> None:
    real = torch.randn(4, 1, 5, 6)
    which = torch.tensor([True, False, True, False])[:, None]
    batch = TrainingBatch(real, torch.arange(4), torch.cat((real, -real), dim=1)).mirrored(which)
    assert torch.equal(batch.real[::2], real[::2].flip(3))
    assert torch.equal(batch.real[1::2], real[1::2])
    assert batch.condition is not None
    assert torch.equal(batch.condition, torch.cat((batch.real, -batch.real), dim=1))
    assert TrainingBatch(real, torch.arange(4)).mirrored(which).condition is None


@pytest.mark.parametrize("moving", [True, False])
def test_augmentation_moves_an_input_image_and_does_not_colour_it(moving: bool) -> None:
    policies = [name for name in augmentation.POLICIES if (name in augmentation.MOVING) is moving]
    transforms = [name for name in ADA().transforms if (name in ada.MOVING) is moving]
    assert policies
    assert transforms
    options = TrainingOptions(augment=policies, ada=ADA(transforms=transforms))
    draws = Draws(seed=0, batch=16, share=slice(0, 16), device=torch.device("cpu"))
    image = torch.randn(16, 3, 12, 16)
    inputs = Inputs(torch.randn(16, 2), torch.arange(16), torch.cat((image, image), dim=1))
    seen, given = view(image, inputs, options, torch.tensor(0.9), draws, "test")
    assert not torch.allclose(seen, image, atol=0.1)
    assert given.condition is not None
    expected = seen if moving else image
    assert torch.allclose(given.condition, torch.cat((expected, expected), dim=1), atol=1e-5)


class Copies(Generator):
    """Returns the input image, but for as much noise as it has learned to add."""

    def __init__(self) -> None:
        super().__init__()
        self.noise = nn.Parameter(torch.zeros(()))

    def forward(self, inputs: Inputs, truncation: float = 1.0) -> Tensor:
        assert inputs.condition is not None
        return inputs.condition + self.noise * inputs.z.mean(1).view(-1, 1, 1, 1)


class Compares(nn.Module):
    """Insists on seeing each image beside the input image that it belongs to."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, 28, 28, generator=torch.Generator().manual_seed(0)))
        self.seen: list[int] = []

    def forward(self, image: Tensor, inputs: Inputs) -> Tensor:
        assert inputs.condition is not None
        assert torch.allclose(image, inputs.condition, atol=1e-4)
        self.seen.append(len(image))
        return (image * self.weight).square().flatten(1).sum(1)


class Twins(Split):
    """Every image has itself as its input image."""

    def batch(self, index: npt.NDArray[np.int64], device: torch.device) -> TrainingBatch:
        batch = super().batch(index, device)
        return batch._replace(condition=batch.real.clone())


@pytest.mark.parametrize(
    "changes",
    [
        {"r1_gamma": 0},
        {"r1_gamma": 1, "r2_gamma": 1, "penalty_every": 1},
        {"r1_gamma": 0, "wgan_gp_weight": 10, "penalty_every": 1},
        {"r1_gamma": 0, "loss": "relativistic"},
        {"d_steps": 3},
        {"augment": ("translation", "cutout"), "r1_gamma": 0},
        {"ada": ADA(transforms=ada.MOVING, probability=0.8), "loss": "relativistic", "penalty_every": 2},
    ],
    ids=str,
)
def test_an_input_image_travels_with_its_image_through_a_training(
    changes: dict[str, Any], split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = NetworkPair(Copies(), Compares())
    monkeypatch.setattr(training_loop, "build", lambda *_: pair)
    # Too slow to part the images from their input images.
    slow = {"learning_rate_generator": 1e-12, "learning_rate_discriminator": 1e-12}
    values = {"images": 48, "batch": 8, "log_every": 8, "mirror": True, **slow, **changes}
    data = Twins.of(split.pixels(np.arange(100)), split.labels[:100], split.image)
    execution = Execution(workers=1, threads=2, device="cpu", precision="fp32")
    loop: Iterator[training_loop.Progress] = training_loop.training_loop(
        TrainingOptions.model_validate(values), data, execution
    )
    assert [progress.images for progress in loop][-1] == 48
    assert set(pair.discriminator.seen) <= {8, 16}
    assert len(pair.discriminator.seen) >= 6
