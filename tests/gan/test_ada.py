"""Adaptive augmentation: each transform against what it must do to an image, and its probability against the paper."""

import math
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from components.gan.ada import SYM6, UNIFORMS, UPDATE_EVERY, AugmentationProbability, adapt, numbers_for
from components.gan.options import ADA, TRANSFORMS, Ramp, TrainingOptions, Transform

ALL = get_args(Transform)


def numbers(transform: Transform, *values: float, size: int = 1) -> Tensor:
    """Uniform numbers of `transform` after the one that lets it happen."""
    u = torch.full((size, UNIFORMS), 0.5)
    first = UNIFORMS // len(ALL) * ALL.index(transform)
    u[:, first] = 0
    u[:, first + 1 : first + 1 + len(values)] = torch.tensor(values)
    return u


def of_normal(z: float) -> float:
    return (1 + math.erf(z / math.sqrt(2))) / 2


@pytest.mark.parametrize("shape", [(2, 1, 28, 28), (2, 3, 32, 24), (2, 4, 64, 64), (2, 5, 9, 14)])
def test_nothing_happens_at_probability_zero(shape: tuple[int, ...]) -> None:
    image = torch.rand(shape).contiguous(memory_format=torch.channels_last) * 2 - 1
    for probability in (0.0, torch.tensor(0.0)):
        same = adapt(image, torch.rand(2, UNIFORMS), probability, ALL)
        assert torch.equal(same, image)
        assert same.is_contiguous(memory_format=torch.channels_last)


def test_computes_in_fp32_under_autocast_and_stays_finite() -> None:
    image, u = torch.rand(2, 3, 16, 16), torch.tensor([0.0, 1 - 2**-24])[:, None].expand(-1, UNIFORMS)
    with torch.autocast("cpu", torch.bfloat16):
        within = adapt(image, u, 1.0, ALL)
    assert torch.equal(within, adapt(image, u, 1.0, ALL))
    assert within.isfinite().all()


@pytest.mark.parametrize(
    "transforms", [("flip", "shift"), ("scale",), ("rotate", "stretch"), ("hue", "saturation"), ALL]
)
def test_is_differentiable_twice(transforms: tuple[Transform, ...]) -> None:
    torch.manual_seed(0)
    image = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    u = torch.rand(2, UNIFORMS, dtype=torch.float64)
    assert torch.autograd.gradgradcheck(lambda x: adapt(x, u, 1.0, transforms).square(), (image,), fast_mode=True)


def test_pixels_that_fall_on_pixels_are_exact() -> None:
    image = torch.randn(1, 3, 16, 16)
    assert torch.equal(adapt(image, numbers("flip", 0.7), 1.0, ("flip",)), image.flip(3))
    assert torch.equal(adapt(image, numbers("flip", 0.3), 1.0, ("flip",)), image)
    for quarters in range(4):
        turned = adapt(image, numbers("rotate90", quarters / 4 + 0.1), 1.0, ("rotate90",))
        assert torch.equal(turned, image.rot90(-quarters, (2, 3)))
    moved = adapt(image, numbers("shift", 0.999, 0.25), 1.0, ("shift",))
    assert torch.equal(moved[..., :-1, 2:], image.roll((-1, 2), (2, 3))[..., :-1, 2:])
    assert torch.equal(moved[..., :-1, :2], image[..., 1:, 1:3].flip(3))  # reflected about the outermost pixel


def test_smooth_images_move_as_functions_do() -> None:
    size, middle = 32, 15.5
    x, y = torch.arange(size) - middle, (torch.arange(size) - middle)[:, None]

    def scene(x: Tensor, y: Tensor) -> Tensor:
        return (torch.sin(x / 4) * torch.cos(y / 5 + 1))[None, None]

    image, inside = scene(x, y), slice(8, -8)
    cos, sin = math.cos(0.5), math.sin(0.5)
    expected = {
        ("scale", of_normal(2.0)): scene(x / 2**0.4, y / 2**0.4),
        ("stretch", of_normal(-2.0)): scene(x * 2**0.4, y / 2**0.4),
        ("rotate", 0.5 + 0.25 / math.pi): scene(cos * x + sin * y, cos * y - sin * x),
    }
    for (transform, number), moved in expected.items():
        u = numbers(transform, number)  # type: ignore[arg-type]
        u[:, UNIFORMS // len(ALL) * ALL.index("rotate") + 2] = 0.999  # not a second rotation
        result = adapt(image, u, 0.99, (transform,))  # type: ignore[arg-type]
        # The stretch by less than 1 looks beyond the edges, which is why only the interior counts.
        assert (result - moved)[..., inside, inside].abs().max() < 0.02, transform


def test_colours_follow_their_formulas() -> None:
    image = torch.rand(2, 3, 8, 8) * 2 - 1
    luma = image.mean(1, keepdim=True)

    def change(transform: Transform, number: float, image: Tensor = image) -> Tensor:
        return adapt(image, numbers(transform, number, size=2), 1.0, (transform,))

    assert torch.allclose(change("brightness", of_normal(1)), image + 0.2, atol=1e-5)
    assert torch.allclose(change("contrast", of_normal(1)), image * 2**0.5, atol=1e-5)
    assert torch.allclose(change("luma_flip", 0.9), image - 2 * luma, atol=1e-5)
    assert torch.allclose(change("saturation", of_normal(1)), luma + (image - luma) * 2, atol=1e-5)
    assert torch.allclose(change("hue", 0.8).mean(1, keepdim=True), luma, atol=1e-5)
    assert torch.allclose(change("hue", 0.5 + 1 / 3), image.roll(1, 1), atol=1e-5)  # by 120 degrees
    # Grey is RGB with equal channels.
    grey = image[:, :1]
    for transform in ALL[6:11]:
        rgb = change(transform, 0.8, grey.expand(-1, 3, -1, -1))
        assert torch.allclose(change(transform, 0.8, grey).expand_as(rgb), rgb, atol=1e-5)
    # Alpha stays, and channels that are no colours have no luma.
    alpha = torch.cat((image, grey), 1)
    assert torch.equal(change("brightness", 0.8, alpha)[:, 3:], grey)
    assert torch.equal(change("luma_flip", 0.9, image[:, :2]), image[:, :2])
    assert torch.allclose(change("brightness", of_normal(1), image[:, :2]), image[:, :2] + 0.2, atol=1e-5)


def test_a_shift_by_fractions_moves_as_a_function_does() -> None:
    x, y = torch.arange(32.0), torch.arange(24.0)[:, None]

    def scene(x: Tensor, y: Tensor) -> Tensor:
        return (torch.sin(x / 4) * torch.cos(y / 5 + 1))[None, None]

    numbers_of_it = numbers("fractional_shift", of_normal(0.3), of_normal(-0.4))
    moved = adapt(scene(x, y), numbers_of_it, 1.0, ("fractional_shift",))
    expected = scene(x - 0.3 * 32 / 8, y + 0.4 * 24 / 8)
    assert (moved - expected)[..., 8:-8, 8:-8].abs().max() < 0.02
    # Of all geometry it comes last, so that a rotation does not turn it.
    turned = numbers("rotate90", 0.6)
    first = UNIFORMS // len(ALL) * ALL.index("fractional_shift")
    turned[:, first : first + 3] = numbers_of_it[:, first : first + 3]
    both = adapt(scene(x, y), turned, 1.0, ("rotate90", "fractional_shift"))
    one = adapt(scene(x, y).rot90(-2, (2, 3)), numbers_of_it, 1.0, ("fractional_shift",))
    assert (both - one)[..., 8:-8, 8:-8].abs().max() < 0.03


def test_cutout_is_a_rectangle_of_half_the_size_centred_anywhere() -> None:
    image = torch.rand(4000, 2, 16, 12, generator=torch.Generator().manual_seed(0)) + 1
    u = torch.rand(4000, UNIFORMS, generator=torch.Generator().manual_seed(1))
    hole = adapt(image, u, 0.5, ("cutout",)) == 0
    assert torch.equal(adapt(image, u, 0.5, ("cutout",))[~hole], image[~hole])
    assert hole.flatten(1).any(1).float().mean().item() == pytest.approx(0.5, abs=0.03)
    some = hole[hole.flatten(1).any(1), 0]
    rows, columns = some.any(2), some.any(1)
    assert torch.equal(some, rows[:, :, None] & columns[:, None, :])
    assert (rows.sum(1).max(), columns.sum(1).max()) == (8, 6)
    # 3.5 of 16 pixels at either end are so near it that part of the hole lies beyond.
    assert (rows.sum(1) < 8).float().mean().item() == pytest.approx(7 / 16, abs=0.04)


def test_colours_have_their_share_of_the_probability() -> None:
    image = torch.rand(4000, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    u = torch.rand(4000, UNIFORMS, generator=torch.Generator().manual_seed(1))
    for transform, often in (("brightness", 0.2), ("cutout", 0.4), ("flip", 0.2)):
        changed = adapt(image, u, 0.4, (transform,), color_share=0.5) != image  # type: ignore[arg-type]
        assert changed.flatten(1).any(1).float().mean().item() == pytest.approx(often, abs=0.03), transform


def test_the_first_transforms_draw_what_they_always_drew() -> None:
    assert numbers_for(TRANSFORMS) == numbers_for(("flip",)) == numbers_for(()) == 44
    assert numbers_for(ALL) == UNIFORMS == 52
    image, u = torch.rand(5, 3, 8, 8), torch.rand(5, UNIFORMS)
    assert torch.equal(adapt(image, u[:, :44], 0.5, TRANSFORMS), adapt(image, u, 0.5, TRANSFORMS))


def test_brightness_comes_before_contrast() -> None:
    image = torch.zeros(1, 3, 4, 4)
    u = numbers("brightness", of_normal(1)) + numbers("contrast", of_normal(2)) - 0.5
    assert torch.allclose(adapt(image, u, 1.0, ("brightness", "contrast")), torch.tensor(0.4), atol=1e-5)


def test_acts_on_each_image_alone_and_on_each_with_its_own_numbers() -> None:
    torch.manual_seed(0)
    image, u = torch.randn(3, 3, 16, 16), torch.rand(3, UNIFORMS)
    together = adapt(image, u, 0.8, ALL)
    for i in range(3):
        assert torch.allclose(adapt(image[i : i + 1], u[i : i + 1], 0.8, ALL), together[i : i + 1], atol=1e-5)


@pytest.mark.parametrize("transform", ["brightness", "scale", "rotate"])
def test_happens_as_often_as_asked(transform: Transform) -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 1, 4, 4, generator=generator).expand(4000, -1, -1, -1)
    changed = adapt(image, torch.rand(4000, UNIFORMS, generator=generator), torch.tensor(0.3), (transform,)) != image
    assert changed.flatten(1).any(1).float().mean() == pytest.approx(0.3, abs=0.03)


def test_the_filter_is_orthonormal_and_has_six_vanishing_moments() -> None:
    taps = torch.tensor(SYM6, dtype=torch.float64)
    for shift in range(0, 12, 2):
        assert (taps[shift:] @ taps[: 12 - shift]).item() == pytest.approx(float(shift == 0), abs=1e-11)
    index = torch.arange(12, dtype=torch.float64)
    for moment in range(6):
        assert ((-1) ** index * (index - 5) ** moment) @ taps == pytest.approx(0, abs=1e-8)


def controller(**ada: Any) -> AugmentationProbability:
    return AugmentationProbability(TrainingOptions(images=8_000, ada=ADA(**ada)))


def test_the_probability_rises_and_falls_at_the_papers_speed() -> None:
    sure = controller()
    for _ in range(2):
        for _ in range(UPDATE_EVERY):
            sure.observe(torch.full((64,), 3.0))
        sure.update(0)
    assert sure.probability.item() == pytest.approx(2 * 4 * 64 / 500_000)
    restored = controller()
    sure.observe(torch.full((64,), -1.0))
    restored.load_state_dict(sure.state_dict())
    for p in (sure, restored):
        p.observe(torch.tensor([1.0] * 32 + [-1.0] * 32))  # r_t = -1/2, below the target
        p.update(0)
    assert sure.probability.item() == restored.probability.item() == pytest.approx((512 - 128) / 500_000)
    sure.update(0)  # with nothing seen since, it stays
    assert sure.probability == restored.probability
    for _ in range(5):
        sure.observe(torch.full((128,), -1.0))
        sure.update(0)
        restored.observe(torch.full((600_000,), 1.0))
        restored.update(0)
    assert (sure.probability, restored.probability) == (0, 1)


def test_overfitting_is_measured_from_the_boundary_of_the_loss() -> None:
    """Real images at 0.5 are where least squares draws them to from neither side."""
    options = TrainingOptions(images=8_000, ada=ADA(), loss="least_squares")
    unsure = AugmentationProbability(options)
    unsure.observe(torch.linspace(0.3, 0.7, 64))
    unsure.update(0)
    assert unsure.probability.item() == 0
    unsure.observe(torch.full((64,), 0.9))
    unsure.update(0)
    assert unsure.probability.item() == pytest.approx(64 / 500_000)


def test_the_probability_follows_a_schedule() -> None:
    ramp = controller(probability=Ramp(start=0.0, end=0.8, shape="linear"))
    ramp.observe(torch.ones(64))
    ramp.update(2_000)
    assert ramp.probability.item() == pytest.approx(0.2)


class _Waits(TorchDispatchMode):
    """Fails where the host would wait for the device, or copies from it, or shapes depend on values."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        assert not any(bad in name for bad in ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero")), name
        return func(*args, **(kwargs or {}))


def test_nothing_waits_for_the_device() -> None:
    p = controller()
    image, u = torch.randn(2, 3, 8, 8, requires_grad=True), torch.rand(2, UNIFORMS)
    with _Waits():
        adapt(image, u, p.probability, ALL).sum().backward()
        p.observe(torch.randn(2))
        p.update(0)
