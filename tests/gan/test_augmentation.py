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


@pytest.mark.parametrize("size", [4, 7, 8, 28, 30, 32])
def test_translation_and_cutout_reach_as_far_as_the_papers(size: int) -> None:
    """Zhao et al.: int(size / 8 + 0.5) pixels either way; a square of int(size / 2 + 0.5), wherever it fits in part."""
    u = torch.linspace(0, 1 - 2**-24, 4001)[:, None].expand(-1, 3)
    reach, half = int(size / 8 + 0.5), int(size / 2 + 0.5)
    image = (torch.arange(float(size)) + 1).view(1, 1, 1, size).expand(4001, 1, size, size)
    moved = translation(image, torch.cat((torch.full_like(u[:, :1], 0.5), u[:, :2]), 1))[:, 0, size // 2, size // 2]
    shifts, counts = (moved - size // 2 - 1).unique(return_counts=True)
    assert shifts.tolist() == [*range(-reach, reach + 1)]
    assert counts.max() - counts.min() <= 1 + 4001 // len(counts) // 100
    hole = cutout(torch.ones(4001, 1, size, size), u)[:, 0] == 0
    rows = hole.any(2)
    expected = {
        tuple(range(max(0, first), min(size, first + half)))
        for first in range(-(half // 2), size + 1 - half % 2 - half // 2)
    }
    assert {tuple(row.nonzero().flatten().tolist()) for row in rows} == expected
    assert torch.equal(hole, rows[:, :, None] & rows[:, None, :])


def test_colours_leave_transparency_alone() -> None:
    image, u = torch.randn(5, 4, 8, 8), torch.rand(5, 3)
    changed = color(image, u)
    assert torch.equal(changed[:, 3], image[:, 3])
    assert torch.equal(changed[:, :3], color(image[:, :3], u))


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
