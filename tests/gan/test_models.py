"""Every network by its shapes, gradients and sizes. What one of them alone has is tested in `models/`."""

from typing import Any, get_args

import pytest
import torch
from torch import nn

from components.gan.errors import UserError
from components.gan.inputs import Inputs
from components.gan.models import build
from components.gan.models.layers import standing_statistics
from components.gan.network_options import ALL_NETWORKS, DCGAN, MLP, NETWORKS, BigGAN, NetworkOptions
from components.gan.options import ImageFormat

CLASSES = ("cat", "dog", "cow")
# Narrow, so that all of them are tested in seconds; a network that is not here is tested as it comes.
NARROW: dict[str, dict[str, Any]] = {
    "dcgan": {"generator_width": 8, "discriminator_width": 8},
    "biggan": {"width": 4, "latent": 10, "embedding": 8},
    "stylegan2": {"width": 4, "max_width": 8, "style": 8, "latent": 8, "mapping_layers": 2},
    "r3gan": {"width": 32, "blocks": 1, "group": 8, "latent": 8},
}
ALL = [
    options(**{**NARROW.get(name, {}), "conditional": conditional})
    for name, options in NETWORKS.items()
    for conditional in (True, False)
]


def named(network: NetworkOptions) -> str:
    return f"{network.name}-{'conditional' if network.conditional else 'unconditional'}"


def image_of(height: int, width: int | None = None, channels: int = 1) -> ImageFormat:
    return ImageFormat(height=height, width=width or height, channels=channels, classes=CLASSES)


def parameters(module: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(p.shape) for p in module.parameters()]


def test_the_table_of_networks_is_the_union() -> None:
    assert list(ALL_NETWORKS.values()) == list(get_args(get_args(NetworkOptions)[0]))
    assert all(network().name == name for name, network in ALL_NETWORKS.items())


def test_mlp_is_the_articles() -> None:
    G, D = build(MLP(), image_of(28))
    assert parameters(G) == [(128, 100), (128,), (64, 128), (64,), (784, 64), (784,)]
    assert parameters(D) == [(128, 784), (128,), (1, 128), (1,)]


@pytest.mark.parametrize("network", ALL, ids=named)
@pytest.mark.parametrize(
    "image",
    [image_of(28), image_of(32, channels=3), image_of(64, channels=4), image_of(32, 48), image_of(96)],
    ids=lambda i: f"{i.width}x{i.height}x{i.channels}",
)
def test_shapes_range_and_a_gradient_for_every_parameter(network: NetworkOptions, image: ImageFormat) -> None:
    torch.manual_seed(0)
    G, D = build(network, image)
    with torch.no_grad():
        for p in (*G.parameters(), *D.parameters()):
            # What starts at zero (residual branches, gains, noise) holds back the gradient of what is before it.
            p.add_(torch.randn_like(p) * 0.05)
    z, label = torch.randn(4, network.latent), torch.tensor([0, 1, 2, 0])
    images = G(Inputs(z, label))
    assert images.shape == (4, image.channels, image.height, image.width)
    assert images.isfinite().all()
    if network.name in ("mlp", "dcgan", "biggan"):
        assert images.abs().max() <= 1
    logits = D(images, Inputs(z, label))
    assert logits.shape == (4,)
    assert logits.dtype == torch.float32
    (logits * torch.randn(4)).sum().backward()
    for side, module in (("generator", G), ("discriminator", D)):
        for name, p in module.named_parameters():
            if side == "discriminator" or name != "constant":
                assert p.grad is not None, (side, name)
                assert p.grad.isfinite().all(), (side, name)
                assert p.grad.any(), (side, name)
    assert len(G.eval()(Inputs(z[:1], label[:1]))) == 1


@pytest.mark.parametrize("network", [n for n in ALL if n.conditional], ids=lambda n: n.name)
@pytest.mark.parametrize("side", [128, 256])
def test_makes_large_images(network: NetworkOptions, side: int) -> None:
    width = {"generator_width": 1, "discriminator_width": 1} if network.name == "dcgan" else {}
    G, D = build(network.model_copy(update=width), image_of(side, channels=3))
    with torch.no_grad():
        inputs = Inputs(torch.randn(2, network.latent), torch.tensor([0, 1]))
        images = G(inputs)
        assert images.shape == (2, 3, side, side)
        assert D(images, inputs).isfinite().all()


@pytest.mark.parametrize("network", ALL, ids=named)
def test_each_image_is_alone_and_has_its_class_if_conditional(network: NetworkOptions) -> None:
    torch.manual_seed(0)
    G, D = (n.eval() for n in build(network, image_of(28)))
    with torch.no_grad():
        for p in (*G.parameters(), *D.parameters()):
            p.add_(torch.randn_like(p) * 0.05)
        inputs = Inputs(torch.randn(4, network.latent), torch.tensor([0, 1, 2, 0]))
        together = G(inputs)
        assert torch.allclose(G(inputs[1:2]), together[1:2], atol=1e-4)
        other = Inputs(inputs.z, torch.tensor([1, 1, 2, 0]))
        assert torch.equal(G(other)[0], together[0]) is not network.conditional
        assert torch.equal(D(together, inputs)[0], D(together, other)[0]) is not network.conditional


@pytest.mark.parametrize("network", ALL, ids=named)
def test_truncation_makes_images_more_alike(network: NetworkOptions) -> None:
    torch.manual_seed(0)
    G, _ = build(network, image_of(32))
    with torch.no_grad():
        for p in G.parameters():
            p.add_(torch.randn_like(p) * 0.05)
    inputs = Inputs(torch.randn(100, network.latent), torch.zeros(100, dtype=torch.long))
    standing_statistics(G, inputs, batch=50)
    with torch.no_grad():
        whole, half, little = (G(inputs, truncation).var(0).mean() for truncation in (1.0, 0.5, 0.1))
    assert whole > half > little


@pytest.mark.parametrize("network", [n for n in ALL if n.name != "mlp"], ids=named)
def test_refuses_a_resolution_that_it_cannot_double_to(network: NetworkOptions) -> None:
    with pytest.raises(UserError, match=r"30x30.*preprocess.resolution"):
        build(network, image_of(30))


# What README and docs/networks.md promise: 4 to 7 times a power of two, of either side.
SIDES = sorted({start * 2**doublings for start in (4, 5, 6, 7) for doublings in range(1, 7)} & set(range(8, 257)))


@pytest.mark.parametrize("network", [*NETWORKS.values()], ids=lambda options: options().name)
def test_every_size_that_is_promised_works_by_default(network: type[NetworkOptions]) -> None:
    assert {28, 32, 48, 64, 96, 128, 160, 192, 224, 256} <= {*SIDES}
    for side in SIDES:
        # Without memory: which sizes work is told by the weights alone.
        with torch.device("meta"):
            assert all(parameters(player) for player in build(network(), image_of(side, side * 2, channels=3))), side


def test_wide_presets_have_the_papers_sizes() -> None:
    """Parameters at the widths of the papers and of public code: the networks are what they are called."""
    # Without memory: the weights of so wide a network take minutes to draw.
    with torch.device("meta"):
        dcgan, _ = build(DCGAN(conditional=False, generator_width=64, discriminator_width=64), image_of(64, channels=3))
        biggan, _ = build(BigGAN(width=96), image_of(128, channels=3))
    assert sum(p.numel() for p in dcgan.parameters()) == pytest.approx(3.58e6, rel=0.02)
    # 70 million with the paper's 1,000 classes.
    assert sum(p.numel() for p in biggan.parameters()) == pytest.approx(70e6, rel=0.1)
