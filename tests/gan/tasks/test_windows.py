"""A picture that is made in windows is that which is made at once."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from components.gan.dataset import to_pixels, to_signed
from components.gan.errors import UserError
from components.gan.network_options import TASK_NETWORKS
from components.gan.options import ImageFormat
from components.gan.published import FILES, Manifest, Published
from components.gan.tasks.options import Colorize, Inpaint, Restore, Restyle, SuperResolve, Translate
from components.gan.tasks.windows import in_windows
from tests.gan.tasks.test_networks import NARROW, generator_of

TASKS = (
    *(SuperResolve(factor=2), SuperResolve(factor=3), Inpaint(), Colorize(), Restore()),
    *(Translate(noise=3), Restyle()),
)
PAIRS = [pytest.param(network, task, id=f"{network}-{task.name}") for network in TASK_NETWORKS for task in TASKS]
SIZES = ((1, 1), (5, 3), (40, 64), (37, 91))


def published(network: str, task: Any, channels: int = 3, nudged: bool = True) -> Published:
    image = ImageFormat(height=48, width=48, channels=channels, classes=("day", "night"), paired=True)
    weights = safetensors.torch.save(
        {name: value.contiguous() for name, value in generator_of(network, task, image, nudged).state_dict().items()}
    )
    manifest = Manifest(
        network=TASK_NETWORKS[network](**NARROW[network]),
        task=task,
        image=image,
        precision="fp32",
        latents="torch-mt19937",
        files={FILES["generator"]: hashlib.sha256(weights).hexdigest()},
    )
    return Published(manifest, {FILES["generator"]: weights})


def picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, channels)).astype(np.uint8)


def mask_for(task: Any, height: int, width: int) -> np.ndarray | None:
    if not isinstance(task, Inpaint):
        return None
    mask = np.zeros((height, width), np.uint8)
    mask[height // 3 : height // 3 + 9, width // 2 : width // 2 + 20] = 1
    return mask


@pytest.mark.parametrize(("network", "task"), PAIRS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_windows_are_the_whole_picture(network: str, task: Any, size: tuple[int, int]) -> None:
    model = published(network, task)
    scale = model.network.scale
    given, mask = picture(*size), mask_for(task, *size)
    made = in_windows(model, given, mask, side=16)
    whole = in_windows(model, given, mask, side=4096)
    assert made.shape == (scale * size[0], scale * size[1], 3) and made.dtype == np.uint8
    # The order of sums may turn a level at a tie.
    assert np.abs(made.astype(int) - whole).max() <= 1
    if mask is not None:
        assert (made[mask == 0] == given[mask == 0]).all()


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_without_strength_it_is_the_baseline(task: Any) -> None:
    model, given = published("edsr", task), picture(33, 20)
    mask = mask_for(task, 33, 20)
    made = in_windows(model, given, mask, side=16, strength=0)
    start = in_windows(published("edsr", task, nudged=False), given, mask, side=16)
    assert np.abs(made.astype(int) - start).max() <= 1


def test_grey_pictures_stay_grey_and_colours_go_through_a_grey_model() -> None:
    grey = picture(20, 20, 1)
    assert in_windows(published("edsr", SuperResolve(factor=2)), grey).shape == (40, 40, 1)
    assert (in_windows(published("unet", Inpaint()), grey, np.zeros((20, 20), np.uint8)) == grey).all()
    assert in_windows(published("edsr", Colorize()), grey).shape == (20, 20, 3)
    model, given = published("unet", Restore(), channels=1), picture(20, 20)
    made = in_windows(model, given)
    for channel in range(3):
        alone = in_windows(model, given[:, :, channel : channel + 1])
        assert np.abs(made[:, :, channel].astype(int) - alone[:, :, 0]).max() <= 1


def test_brightness_is_kept_by_colours() -> None:
    given = picture(30, 40)
    made = in_windows(published("unet", Colorize()), given, side=16)
    luma = np.array([0.299, 0.587, 0.114])
    # Three channels are rounded to whole levels, and so was the brightness.
    assert np.abs(made @ luma - given @ luma).max() <= 1


@pytest.mark.parametrize("times", [3, 7])
def test_colours_are_made_at_the_size_they_were_learned_at(times: int) -> None:
    """A network that learned from pictures of 48 pixels sees a large one as small as that."""
    model, given = published("unet", Colorize()), picture(48, 64).mean(2, keepdims=True).astype(np.uint8)
    made = in_windows(model, given)
    larger = in_windows(model, given.repeat(times, 0).repeat(times, 1))
    assert larger.shape == (48 * times, 64 * times, 3)
    # Blue less red, in the middle of each pixel: brightness counts in neither.
    middle = larger[times // 2 :: times, times // 2 :: times].astype(int)
    colour, enlarged = (np.diff(image[..., [0, 2]], axis=2).astype(float) for image in (made.astype(int), middle))
    assert np.ptp(colour) > 20
    assert np.corrcoef(colour.ravel(), enlarged.ravel())[0, 1] > 0.95
    grey = in_windows(model, given.repeat(times, 0).repeat(times, 1), strength=0)
    assert (grey == given.repeat(times, 0).repeat(times, 1)).all()


@pytest.mark.parametrize("task", [Restore(), Colorize()], ids=lambda task: task.name)
def test_every_pixel_is_told(task: Any) -> None:
    told: list[int] = []
    in_windows(published("unet", task), picture(37, 91), side=16, done=told.append)
    in_windows(published("unet", task), picture(300, 91), side=64, done=told.append)
    assert sum(told) == (37 + 300) * 91


@pytest.mark.parametrize("channels", [1, 4])
def test_a_class_and_a_seed_count_in_every_window(channels: int) -> None:
    model, given = published("unet", Translate(noise=3), channels), picture(37, 91, 3 if channels == 1 else 4)
    results = [in_windows(model, given, side=16, label=label, seed=seed) for label, seed in ((0, 0), (1, 0), (1, 7))]
    for made, (label, seed) in zip(results, ((0, 0), (1, 0), (1, 7)), strict=True):
        whole = in_windows(model, given, side=4096, label=label, seed=seed)
        assert np.abs(made.astype(int) - whole).max() <= 1
    for one, other in ((0, 1), (1, 2)):
        changed = np.abs(results[one].astype(int) - results[other]).max(2)
        assert changed[:16, :16].any() and changed[-16:, -16:].any()


def test_a_mask_is_asked_for_and_refused() -> None:
    with pytest.raises(UserError, match="mask"):
        in_windows(published("unet", Inpaint()), picture(8, 8))
    with pytest.raises(UserError, match="takes a mask"):
        in_windows(published("unet", Restore()), picture(8, 8), np.ones((8, 8), np.uint8))


def test_pixels_come_back_as_they_were() -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1)
    assert (to_pixels(to_signed(levels)) == levels.numpy()).all()
