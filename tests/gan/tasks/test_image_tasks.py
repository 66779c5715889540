"""What tasks show of real images, against Pillow, SciPy and scikit-image, and what they make of a network's output."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import skimage.data
import torch
from PIL import Image
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter
from skimage.restoration import inpaint_biharmonic
from torch import Tensor

from components.gan.dataset import to_pixels, to_signed
from components.gan.errors import UserError
from components.gan.options import ImageFormat
from components.gan.tasks import holes, wear
from components.gan.tasks.image_task import SPECK, Carrying, Degrading, visible, without_hidden
from components.gan.tasks.image_tasks import Colorizing, Inpainting, Restoring, SuperResolving, task_of
from components.gan.tasks.options import TASKS, Colorize, HoleKind, Inpaint, Restore, Restyle, SuperResolve, Translate
from components.measures.transparency import pixels_over_grey

Levels = npt.NDArray[np.float64]
EVERY = (
    *(SuperResolve(factor=factor) for factor in (2, 3, 4)),
    Inpaint(kinds=("strokes", "boxes", "border")),
    Colorize(),
    Restore(darkness=(0.0, 0.5), contrast=(0.5, 1.0)),
)
OFF: dict[str, Any] = {"blur": (0, 0), "noise": (0, 0), "jpeg": None}


@pytest.fixture(scope="module")
def photo() -> Tensor:
    """Nine pieces of a photograph, (9, 3, 48, 60) in [-1, 1]."""
    astronaut = skimage.data.astronaut()
    pieces = [astronaut[y : y + 48, x : x + 60] for y in (60, 140, 300) for x in (100, 200, 300)]
    return to_signed(torch.from_numpy(np.stack(pieces)))


def image_of(images: Tensor) -> ImageFormat:
    _, channels, height, width = images.shape
    return ImageFormat(height=height, width=width, channels=channels, classes=("any",))


def uniforms(task: Degrading, images: Tensor) -> Tensor:
    return torch.rand(len(images), task.numbers(image_of(images)), generator=torch.Generator().manual_seed(1))


def made(options: Any) -> Degrading:
    task = task_of(options)
    assert isinstance(task, Degrading)
    return task


def levels(image: Tensor) -> Levels:
    found: Levels = ((image.double() + 1) * 127.5).numpy()
    return found


def test_every_task_but_generating_is_one_of_images() -> None:
    # Those that have their conditions from the data degrade nothing.
    assert {options.name for options in EVERY} | {"translate", "restyle"} == TASKS.keys() - {"generate"}
    assert all(isinstance(task_of(TASKS[name]()), Carrying) for name in ("translate", "restyle"))
    assert task_of(TASKS["generate"]()) is None


@pytest.mark.parametrize("options", EVERY, ids=str)
def test_a_condition_is_a_function_of_its_own_image_and_numbers(options: Any, photo: Tensor) -> None:
    task = made(options)
    u = uniforms(task, photo)
    together = task.degrade(photo, u)
    assert together.shape[1] == task.given(3)
    assert together.dtype == torch.float32
    assert together.abs().max() <= 1
    for row in (0, 5):
        assert torch.equal(task.degrade(photo[row : row + 1], u[row : row + 1])[0], together[row])
    # What a data set holds has whole levels, and so has what a user gives.
    whole = levels(together[:, :3])
    assert options.name == "inpaint" or np.abs(whole - whole.round()).max() < 1e-4
    assert torch.equal(task.hidden(together), together)


@pytest.mark.parametrize("options", EVERY, ids=str)
def test_an_output_of_nothing_is_the_baseline_to_the_bit(options: Any, photo: Tensor) -> None:
    task = made(options)
    condition = task.degrade(photo, uniforms(task, photo))
    nothing = torch.zeros(len(photo), task.corrected(3), *photo.shape[2:])
    baseline = task.baseline(condition)
    assert baseline.shape == photo.shape
    assert torch.equal(task.compose(nothing, condition), baseline)
    assert (task.difference(baseline, photo, condition) > 0).all()
    assert not task.difference(photo, photo, condition).any()


@pytest.mark.parametrize("options", EVERY, ids=str)
def test_any_output_makes_an_image_whose_gradient_goes_on_beyond_the_range(options: Any, photo: Tensor) -> None:
    task = made(options)
    condition = task.degrade(photo, uniforms(task, photo))
    output = 3 * torch.randn(len(photo), task.corrected(3), *photo.shape[2:])
    output.requires_grad_(True)
    image = task.compose(output, condition)
    assert image.abs().max() <= 1
    (gradient,) = torch.autograd.grad(image.sum(), output)
    changed = gradient.abs().sum(1) > 0
    assert torch.equal(changed, (condition[:, -1] > 0) if options.name == "inpaint" else torch.ones_like(changed))


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_shrinking_and_enlarging_are_pillows(factor: int, photo: Tensor) -> None:
    task = SuperResolving(factor)
    small = task.degrade(photo, torch.empty(len(photo), 0))
    large = task.baseline(small)

    def resized(channel: Levels, size: tuple[int, int]) -> Levels:
        # As floats, because of whole levels Pillow rounds and cuts between the two axes.
        picture = Image.fromarray(channel.astype(np.float32))
        return np.asarray(picture.resize(size, Image.Resampling.BICUBIC)).clip(0, 255)

    for whole, shrunk, enlarged in zip(
        *(levels(images.flatten(0, 1)) for images in (photo, small, large)), strict=True
    ):
        assert np.abs(resized(whole, (60 // factor, 48 // factor)) - shrunk).max() <= 0.501
        assert np.abs(resized(shrunk, (60, 48)) - enlarged).max() < 1e-3


def test_images_that_do_not_fit_a_task_are_refused() -> None:
    def image(side: int, channels: int) -> ImageFormat:
        return ImageFormat(height=side, width=side, channels=channels, classes=("any",))

    with pytest.raises(UserError, match=r"set preprocess\.resolution to a multiple of 3"):
        SuperResolving(3).check(image(32, 3))
    with pytest.raises(UserError, match="colours are learned from RGB images, and these have 1 channels"):
        Colorizing().check(image(32, 1))
    with pytest.raises(UserError, match=r"set preprocess\.channels to 1 or 3"):
        Restoring(Restore()).check(image(32, 4))
    with pytest.raises(UserError, match="takes a mask"):
        SuperResolving(2).condition(torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4))
    with pytest.raises(UserError, match="needs a mask"):
        Inpainting(Inpaint()).condition(torch.zeros(1, 3, 4, 4))


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("inpaint", {"share": (0.5, 0.2)}, "share is"),
        ("inpaint", {"share": (0, 0)}, "share must leave"),
        ("inpaint", {"kinds": ()}, "at least 1"),
        ("super_resolve", {"factor": 5}, "2, 3 or 4"),
        ("restore", {"jpeg": (0, 50)}, "between 1 and 100"),
        ("restore", {"contrast": (0.5, 1.5)}, "between 0.01 and 1"),
        ("restore", {"noise": (-1, 1)}, "between 0 and 255"),
    ],
)
def test_options_that_mean_nothing_are_refused(name: str, values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        TASKS[name](**values)


# --- repair ---


@pytest.mark.parametrize("kinds", [("strokes",), ("boxes",), ("border",), ("strokes", "boxes", "border")])
def test_holes_have_their_share_of_the_pixels(kinds: tuple[HoleKind, ...]) -> None:
    u = torch.rand(400, holes.NUMBERS)
    found = holes.holes(u, 40, 64, (0.05, 0.4), kinds)
    assert found.shape == (400, 1, 40, 64)
    assert set(found.unique().tolist()) == {0.0, 1.0}
    shares = found.mean((1, 2, 3))
    # Of pixels that lie equally deep all or none are taken: of a border up to a line on each of two sides.
    line = (40 + 64) / (40 * 64) if "border" in kinds else 0.02
    wanted = 0.05 + 0.35 * u[:, 0]
    assert (shares - wanted >= -1 / (40 * 64)).all()
    assert (shares - wanted <= line).all()
    assert shares.std() > 0.08
    # No place is never repaired.
    assert kinds == ("border",) or (found.mean(0) > 0).all()


def test_what_is_within_a_hole_is_hidden_and_what_is_around_is_kept(photo: Tensor) -> None:
    task = Inpainting(Inpaint())
    u = uniforms(task, photo)
    condition = task.degrade(photo, u)
    hole = condition[:, 3:] > 0
    other = torch.where(hole, torch.rand_like(photo), photo)
    assert not torch.equal(other, photo)
    assert torch.equal(task.degrade(other, u), condition)
    assert torch.equal(task.condition(other, hole.float()), condition)
    output = task.compose(torch.randn_like(photo), condition)
    assert torch.equal(torch.where(hole, photo, output), photo)


def test_the_fill_is_smooth_and_near_the_biharmonic_one(photo: Tensor) -> None:
    task = Inpainting(Inpaint(share=(0.2, 0.3)))
    condition = task.degrade(photo, uniforms(task, photo))
    fill, hole = condition[:, :3], condition[:, 3:] > 0
    errors: dict[str, list[float]] = {"ours": [], "theirs": [], "mean": []}
    for whole, ours, where in zip(photo, fill, hole, strict=True):
        picture, mask = whole.permute(1, 2, 0).double().numpy(), where[0].numpy()
        theirs = inpaint_biharmonic(picture, mask, channel_axis=2)
        mean = np.broadcast_to(picture[~mask].mean(0), picture.shape)
        for name, made in (("ours", ours.permute(1, 2, 0).numpy()), ("theirs", theirs), ("mean", mean)):
            errors[name].append(float(((made - picture)[mask] ** 2).mean()))
    ours_error, theirs_error, mean_error = (np.mean(errors[name]) for name in ("ours", "theirs", "mean"))
    assert ours_error < 1.2 * theirs_error
    assert ours_error < 0.5 * mean_error


def test_the_fill_of_one_colour_is_that_colour_and_of_nothing_grey() -> None:
    image = torch.full((2, 3, 17, 30), 0.25)
    hole = torch.ones(2, 1, 17, 30)
    hole[0, :, 3, 4] = 0
    fill = holes.filled(image, hole)
    assert torch.allclose(fill[0], image[0], atol=1e-6)
    assert not fill[1].any()


# --- colour ---


def test_colouring_keeps_the_brightness_whatever_the_output(photo: Tensor) -> None:
    task = Colorizing()
    condition = task.degrade(photo, torch.empty(len(photo), 0))
    image = task.compose(2 * torch.randn(len(photo), 2, *photo.shape[2:]), condition)
    luma = 0.299 * image[:, :1] + 0.587 * image[:, 1:2] + 0.114 * image[:, 2:]
    assert (luma - condition).abs().max() < 1e-5
    theirs = np.stack([np.asarray(Image.fromarray(pixels).convert("L")) for pixels in to_pixels(photo)])
    assert np.abs(levels(condition)[:, 0] - theirs).max() < 1.01


def test_the_colours_of_an_image_make_that_image_again(photo: Tensor) -> None:
    task = Colorizing()
    luma = task.condition(photo)
    colours = wear.mixed(photo, wear.YCC[1:])
    assert torch.allclose(task.compose(colours, luma), photo, atol=1e-5)
    assert torch.equal(task.condition(luma), luma)


# --- wear ---


def test_without_wear_nothing_changes(photo: Tensor) -> None:
    task = Restoring(Restore(**OFF))
    assert torch.equal(task.degrade(photo, uniforms(task, photo)), photo)


@pytest.mark.parametrize("deviation", [0.4, 1.5, 3.0])
def test_blur_is_scipys_away_from_the_edges(deviation: float, photo: Tensor) -> None:
    whole = wear.to_levels(photo[:1])
    ours = wear.blurred(whole, torch.tensor([deviation]))
    theirs = gaussian_filter(whole[0].numpy(), (0, deviation, deviation), truncate=4.0)
    edge = 13
    inside = slice(edge, -edge)
    assert np.abs(ours[0].numpy() - theirs)[:, inside, inside].max() < 1e-6
    # A picture of one colour stays as it is up to the edges.
    assert torch.allclose(
        wear.blurred(torch.full_like(whole, 77), torch.tensor([deviation])), torch.full_like(whole, 77)
    )


def test_noise_has_the_deviation_that_is_asked_for() -> None:
    grey = torch.full((4, 3, 64, 64), 127.0, dtype=torch.float64)
    found = wear.noisy(grey, torch.tensor([0.0, 2.0, 5.0, 12.0]), torch.rand(4, 3 * 64 * 64))
    assert (found - grey).flatten(1).std(1).tolist() == pytest.approx([0, 2, 5, 12], rel=0.05)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("quality", [10, 40, 75, 95])
def test_jpeg_loses_what_pillows_loses(quality: int, channels: int) -> None:
    # Not a multiple of 16.
    whole = skimage.data.astronaut()[:205, 100:303]
    whole = whole if channels == 3 else np.asarray(Image.fromarray(whole).convert("L"))[:, :, None]
    packed = io.BytesIO()
    Image.fromarray(whole.squeeze()).save(packed, "JPEG", quality=quality, subsampling=2)
    theirs = np.asarray(Image.open(packed)).reshape(whole.shape).astype(float)
    given = torch.from_numpy(whole.copy()).permute(2, 0, 1).double()[None]
    ours = wear.jpeg(given, torch.tensor([quality]))[0].permute(1, 2, 0).numpy()
    lost, theirs_lost = (np.sqrt(((made - whole) ** 2).mean()) for made in (ours, theirs))
    # Pillow's smooths the colours that it brings back.
    assert lost == pytest.approx(theirs_lost, rel=0.12)
    assert np.sqrt(((ours - theirs) ** 2).mean()) < 0.5 + (0.15 if channels == 1 else 0.5) * theirs_lost


def test_darkness_and_contrast_are_what_is_lost(photo: Tensor) -> None:
    dark = Restoring(Restore(**OFF, darkness=(0.5, 0.5)))
    flat = Restoring(Restore(**OFF, contrast=(0.5, 0.5)))
    u = uniforms(dark, photo)
    assert np.abs(levels(dark.degrade(photo, u)) - levels(photo) / 2).max() <= 0.51
    assert np.abs(levels(flat.degrade(photo, u)) - (levels(photo) + 127.5) / 2).max() <= 0.51


def test_what_a_network_hardly_changes_stays_to_the_bit(photo: Tensor) -> None:
    clear = torch.cat((photo, torch.full_like(photo[:, :1], -1)), 1)
    for images in (photo, clear):
        task = task_of(Translate())
        assert task is not None and task.corrected(images.shape[1]) == images.shape[1] + 1
        specks = (torch.rand(images.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1) * SPECK
        kept = torch.zeros_like(images[:, :1])
        assert torch.equal(task.compose(torch.cat((specks, kept), 1), images), task.baseline(images))
        # And yet it learns: the gradient is that of the correction itself.
        specks.requires_grad_()
        task.compose(torch.cat((specks, kept), 1), images * 0.5).sum().backward()
        assert specks.grad is not None and torch.equal(specks.grad, torch.ones_like(specks))


def test_what_is_taken_away_leaves_nothing_of_the_input(photo: Tensor) -> None:
    task = task_of(Restyle())
    assert task is not None
    wanted, taken = photo.flip(3) * 0.9, torch.ones_like(photo[:, :1])
    output = torch.cat((wanted + SPECK * wanted.sign(), taken), 1)
    assert (task.compose(output, photo) - wanted).abs().max() < 1e-5
    half = task.compose(torch.cat((torch.zeros_like(photo), taken / 2), 1), photo)
    assert (half - photo / 2).abs().max() < 1e-6


def test_beneath_what_is_transparent_is_nothing_to_see(photo: Tensor) -> None:
    alpha = torch.where(photo[:, :1] > 0, 1.0, -1.0)
    one, other = torch.cat((photo, alpha), 1), torch.cat((torch.where(alpha > 0, photo, -photo), alpha), 1)
    assert torch.equal(visible(one), visible(other)) and torch.equal(without_hidden(one), without_hidden(other))
    assert torch.equal(visible(photo), photo) and torch.equal(without_hidden(photo), photo)
    for pixels in (to_pixels(one), to_pixels(without_hidden(one))):
        # It looks the same.
        assert (pixels_over_grey(pixels) == pixels_over_grey(to_pixels(one))).all()
