"""The networks of image tasks: they begin with the baseline, see as far as they say, and know no tiles."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import Any, cast

import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional as F

from components.gan.errors import UserError
from components.gan.inputs import Inputs
from components.gan.models import build
from components.gan.models.image_to_image import ImageGenerator, PatchDiscriminator
from components.gan.network_options import EDSR, MLP, TASK_NETWORKS, UNet
from components.gan.options import ImageFormat, TrainingOptions
from components.gan.published import FILES, Manifest, Published
from components.gan.tasks.image_task import Degrading
from components.gan.tasks.image_tasks import ImageTask, Restoring, task_of
from components.gan.tasks.options import Colorize, Inpaint, Restore, Restyle, SuperResolve, Translate

# Narrow, so that all of them are tested in seconds.
NARROW: dict[str, dict[str, Any]] = {
    "edsr": {"width": 8, "blocks": 2, "discriminator_width": 4},
    "unet": {"width": 6, "max_width": 12, "halvings": 2, "blocks": 1, "discriminator_width": 4},
}
TASKS = (
    SuperResolve(factor=2),
    SuperResolve(factor=3),
    Inpaint(),
    Colorize(),
    Restore(jpeg=(50, 90)),
    Translate(noise=2),
    Restyle(),
)
PAIRS = [pytest.param(network, task, id=f"{network}-{task}") for network in TASK_NETWORKS for task in TASKS]
IMAGE = ImageFormat(height=48, width=48, channels=3, classes=("day", "night"), paired=True)


def generator_of(network: str, task: Any, image: ImageFormat = IMAGE, nudged: bool = True) -> ImageGenerator:
    """A generator of which, nudged, no layer is 0."""
    torch.manual_seed(0)
    generator = build(TASK_NETWORKS[network](**NARROW[network]), image, task).generator
    if nudged:
        with torch.no_grad():
            for p in generator.parameters():
                p.add_(torch.randn_like(p) * 0.05)
    return cast(ImageGenerator, generator)


def condition_of(task: Any, height: int, width: int, count: int = 1) -> tuple[ImageTask, Tensor]:
    """Conditions (count, K, height, width), of noise."""
    found = task_of(task)
    assert found is not None
    large = height * found.scale, width * found.scale
    image = ImageFormat(height=large[0], width=large[1], channels=3, classes=("any",))
    real = torch.randint(0, 256, (count, 3, *large)) / 127.5 - 1
    if not isinstance(found, Degrading):
        return found, real
    return found, found.degrade(real, torch.rand(count, found.numbers(image)))


def inputs(condition: Tensor, latent: int = 0) -> Inputs:
    """Inputs with a condition, of the classes in turn, and latents that are not 0."""
    return Inputs(torch.ones(len(condition), latent), torch.arange(len(condition)) % 2, condition)


@pytest.mark.parametrize(("network", "options"), PAIRS)
def test_a_new_network_makes_the_baseline_to_the_bit(network: str, options: Any) -> None:
    task, condition = condition_of(options, 24, 24, 3)
    generator = generator_of(network, options, nudged=False)
    assert torch.equal(generator(inputs(condition, task.latent)), task.baseline(condition))


@pytest.mark.parametrize(("network", "options"), PAIRS)
def test_every_parameter_gets_a_gradient(network: str, options: Any) -> None:
    torch.manual_seed(0)
    pair = build(TASK_NETWORKS[network](**NARROW[network]), IMAGE, options)
    with torch.no_grad():
        for p in (*pair.generator.parameters(), *pair.discriminator.parameters()):
            p.add_(torch.randn_like(p) * 0.05)
    task, condition = condition_of(options, 24, 24, 2)
    images = pair.generator(inputs(condition, task.latent))
    logits = pair.discriminator(images, inputs(condition))
    assert logits.shape == (2, images.shape[2] * images.shape[3] // 16)
    assert logits.dtype == torch.float32
    (logits * torch.randn_like(logits)).sum().backward()
    for player in pair:
        for name, p in player.named_parameters():
            assert p.grad is not None, name
            assert p.grad.isfinite().all(), name
            assert p.grad.any(), name


@pytest.mark.parametrize(("network", "options"), PAIRS)
def test_a_pixel_is_seen_as_far_as_the_receptive_field_and_no_farther(network: str, options: Any) -> None:
    generator = generator_of(network, options).double()
    field, scale, multiple = generator.receptive_field, generator.scale, generator.multiple
    side = multiple * ((2 * field + 4) // multiple + 2)
    _, condition = condition_of(options, side, side)
    # The same class and latent everywhere.
    condition = F.pad(condition.double(), (0, 0, 0, 0, 0, generator.seen - condition.shape[1]))
    farthest = 0
    with torch.no_grad():
        whole = generator.correction(condition)
        for place in range(side // 2, side // 2 + multiple):
            changed = condition.clone()
            changed[:, :, place, place] += 1
            rows, columns = (whole != generator.correction(changed)).any(1)[0].nonzero().unbind(1)
            # Of the condition's pixels those that the changed pixels lie in.
            apart = torch.stack((rows, columns)).div(scale, rounding_mode="floor").sub(place).abs()
            farthest = max(farthest, int(apart.max()))
    assert farthest == field


@pytest.mark.parametrize(("network", "options"), PAIRS)
def test_any_multiple_is_a_size(network: str, options: Any) -> None:
    generator = generator_of(network, options)
    for height, width in ((4, 7), (9, 5)):
        height, width = height * generator.multiple, width * generator.multiple
        task, condition = condition_of(options, height, width)
        with torch.no_grad():
            image = generator(inputs(condition, task.latent))
        assert image.shape == (1, 3, height * task.scale, width * task.scale)


def published(network: str, task: Any, precision: str = "fp32") -> Published:
    weights = {FILES["generator"]: safetensors.torch.save(dict(generator_of(network, task).state_dict()))}
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in weights.items()}
    manifest = {
        "network": {"name": network, **NARROW[network]},
        "task": task,
        "image": IMAGE,
        "precision": precision,
        "latents": "torch-mt19937",
        "files": hashes,
    }
    return Published(Manifest.model_validate(manifest), weights)


@pytest.mark.parametrize(("network", "options"), PAIRS)
def test_windows_make_the_picture_that_the_whole_makes(network: str, options: Any) -> None:
    model = published(network, options)
    generator = model.network
    assert model.task == options
    multiple, scale = generator.multiple, generator.scale
    halo = -(-generator.receptive_field // multiple) * multiple
    height, width, side = 11 * multiple, 13 * multiple + 2 * halo, 3 * multiple
    _, condition = condition_of(options, height, width)
    whole = model.transform(condition)
    assert whole.abs().max() <= 1
    made = torch.full_like(whole, torch.nan)
    for top in range(0, height, side):
        for left in range(0, width, side):
            first = max(0, top - halo), max(0, left - halo)
            window = condition[:, :, first[0] : top + side + halo, first[1] : left + side + halo]
            found = model.transform(window, hidden=True)
            inside = found[:, :, (top - first[0]) * scale :, (left - first[1]) * scale :][
                ..., : side * scale, : side * scale
            ]
            made[:, :, top * scale : (top + side) * scale, left * scale : (left + side) * scale] = inside
    assert (made - whole).abs().max() < 1e-4


def test_a_published_repair_hides_what_it_is_given_within_the_holes() -> None:
    model = published("unet", Inpaint())
    _, condition = condition_of(Inpaint(), 32, 32)
    other = condition.clone()
    other[:, :3] = torch.where(condition[:, 3:] > 0, torch.rand(1, 3, 32, 32), condition[:, :3])
    assert not torch.equal(other, condition)
    assert torch.equal(model.transform(other), model.transform(condition))
    # A mask of -1 and 1 says the same as one of 0 and 1.
    other[:, 3:] = 2 * other[:, 3:] - 1
    assert torch.equal(model.transform(other), model.transform(condition))


def test_a_model_that_makes_images_of_noise_takes_no_pictures() -> None:
    image = ImageFormat(height=8, width=8, channels=1, classes=("any",))
    weights = {FILES["generator"]: safetensors.torch.save(dict(build(MLP(), image).generator.state_dict()))}
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in weights.items()}
    manifest = Manifest(network=MLP(), image=image, precision="fp32", latents="torch-mt19937", files=hashes)
    with pytest.raises(UserError, match="makes images of noise"):
        Published(manifest, weights).transform(torch.zeros(1, 1, 8, 8))
    assert "task" not in manifest.hashed


def test_sizes_that_a_network_cannot_make_are_refused() -> None:
    image = ImageFormat(height=36, width=48, channels=3, classes=("any",))
    with pytest.raises(UserError, match=r"unet cannot make .* multiple of 16"):
        build(UNet(), image, SuperResolve(factor=2))
    with pytest.raises(UserError, match="multiple of 3"):
        build(EDSR(), IMAGE.model_copy(update={"width": 32}), SuperResolve(factor=3))
    assert build(EDSR(), image, SuperResolve(factor=3)).generator


def test_the_default_network_is_that_of_the_task() -> None:
    def network(**values: Any) -> str:
        return TrainingOptions.model_validate(values).network.name

    assert network() == "dcgan"
    assert network(task={"name": "super_resolve"}) == "edsr"
    assert {network(task={"name": name}) for name in ("inpaint", "colorize", "restore")} == {"unet"}
    assert network(task={"name": "restore"}, network={"name": "edsr"}) == "edsr"
    for wrong in (
        {"network": {"name": "unet"}},
        {"task": {"name": "restore"}, "network": {"name": "dcgan"}},
        {"pixel_weight": 1},
        {"adversarial_weight": 0},
        {"task": {"name": "restore"}, "d_steps": 2},
        {"task": {"name": "restore"}, "pixel_weight": 0, "adversarial_weight": 0},
    ):
        with pytest.raises(ValueError, match=r"needs|must be|both 0"):
            network(**wrong)


@pytest.mark.parametrize("norm", ["spectral", "none"])
@pytest.mark.parametrize(("halvings", "reach"), [(1, 5), (2, 3), (3, 3)])
def test_patches_are_judged_by_what_lies_around_them(halvings: int, reach: int, norm: str) -> None:
    torch.manual_seed(0)
    options = UNet.model_validate(
        {"discriminator_width": 4, "discriminator_halvings": halvings, "discriminator_norm": norm}
    )
    discriminator = PatchDiscriminator(options, IMAGE, Restoring(Restore())).eval()
    image, side = torch.randn(1, 3, 64, 64), 64 // 2**halvings
    before = discriminator(image, inputs(image)).view(side, side)
    image[:, :, 0, 0] += 1
    changed = (discriminator(image, inputs(image)).view(side, side) != before).nonzero()
    assert len(changed)
    assert changed.max() <= reach


def test_a_discriminator_that_halves_too_often_is_refused() -> None:
    image = IMAGE.model_copy(update={"height": 24, "width": 24})
    with pytest.raises(UserError, match="discriminator_halvings"):
        PatchDiscriminator(UNet(discriminator_halvings=5), image, Restoring(Restore()))


def test_each_size_of_a_network_is_larger_than_the_one_before() -> None:
    for network in TASK_NETWORKS.values():
        counts = [
            [sum(p.numel() for p in player.parameters()) for player in build(network(**values), IMAGE, Restore())]
            for values in network.sizes.values()
        ]
        assert all(a < b for smaller, larger in pairwise(counts) for a, b in zip(smaller, larger, strict=True))


def test_a_unet_learns_again_after_a_step_that_was_too_large() -> None:
    """Without a slope below 0 no gradient comes back once all that the last layer sees is negative."""
    image = ImageFormat(height=16, width=16, channels=3, classes=("any",))
    options = TrainingOptions.model_validate({"task": {"name": "restore"}, "network": {"name": "unet", "width": 4}})
    network = build(options.network, image, options.task).generator
    with torch.no_grad():
        network.ups[-1].bias.fill_(-100)  # type: ignore[index, union-attr, operator]
        network.tail.conv.weight.fill_(0.01)  # type: ignore[union-attr, operator]
    network.correction(torch.rand(1, 3, 16, 16)).sum().backward()  # type: ignore[operator]
    gradient = network.ups[-1].weight.grad  # type: ignore[index, union-attr]
    assert isinstance(gradient, torch.Tensor) and gradient.abs().max() > 0
