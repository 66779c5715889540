"""Differentiable augmentation: what each policy does to an image, and to its gradient."""

import pytest
import torch

from components.gan.augmentation import POLICIES, UNIFORMS, augment, color, cutout, translation
from components.gan.options import Policy


def test_neutral_numbers_leave_images_unchanged() -> None:
    image = torch.randn(3, 3, 16, 16)
    half = torch.full((3, 3), 0.5)
    assert torch.allclose(color(image, half), image, atol=1e-6)
    assert torch.equal(translation(image, half), image)
    assert augment(image, torch.rand(3, UNIFORMS), ()) is image


def test_translation_moves_whole_pixels_and_fills_with_grey() -> None:
    image = torch.arange(64.0).view(1, 1, 8, 8) + 1
    moved = translation(image, torch.tensor([[0.99, 0.5, 0.0]]))
    assert torch.equal(moved[0, 0, :-1], image[0, 0, 1:])
    assert not moved[0, 0, -1].any()


def test_cutout_removes_at_most_a_square_of_half_the_size() -> None:
    hole = cutout(torch.ones(200, 1, 16, 16), torch.rand(200, 3)) == 0
    assert hole.flatten(1).sum(1).min() > 0
    assert hole.flatten(1).sum(1).max() <= 64
    assert hole.any(2).sum(2).max() <= 8


@pytest.mark.parametrize("policy", list(POLICIES))
def test_is_differentiable_twice_and_acts_on_each_image_alone(policy: Policy) -> None:
    torch.manual_seed(0)
    image = torch.randn(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    u = torch.rand(2, UNIFORMS, dtype=torch.float64)
    assert torch.autograd.gradgradcheck(lambda x: augment(x, u, (policy,)).square(), (image,))
    alone = augment(image[1:], u[1:], (policy,))
    assert torch.allclose(augment(image, u, (policy,))[1:], alone)
