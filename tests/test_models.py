import pytest
import torch

from components.gan.models import build
from components.gan.options import DCGAN, MLP, ImageFormat, NetworkOptions, UserError

CLASSES = ("cat", "dog", "cow")


def parameters(module: torch.nn.Module) -> list[tuple[int, ...]]:
    return [tuple(p.shape) for p in module.parameters()]


def test_mlp_is_the_articles() -> None:
    G, D = build(MLP(), ImageFormat(height=28, width=28, channels=1, classes=CLASSES))
    assert parameters(G) == [(128, 100), (128,), (64, 128), (64,), (784, 64), (784,)]
    assert parameters(D) == [(128, 784), (128,), (1, 128), (1,)]


@pytest.mark.parametrize("network", [MLP(), MLP(conditional=True), DCGAN(generator_width=16, discriminator_width=16)])
@pytest.mark.parametrize("resolution", [28, 32, 48, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_and_range(network: NetworkOptions, resolution: int, channels: int) -> None:
    G, D = build(network, ImageFormat(height=resolution, width=resolution, channels=channels, classes=CLASSES))
    z, label = torch.randn(5, network.latent), torch.tensor([0, 1, 2, 0, 1])
    images = G(z, label, None)
    assert images.shape == (5, channels, resolution, resolution)
    assert images.abs().max() <= 1
    assert D(images, label, None).shape == (5,)
    assert len(G.eval()(z[:1], label[:1], None)) == 1


def test_a_conditional_network_listens_to_the_class_and_an_unconditional_one_does_not() -> None:
    image = ImageFormat(height=28, width=28, channels=1, classes=CLASSES)
    for network in (MLP(), MLP(conditional=True), DCGAN(), DCGAN(conditional=False)):
        G, D = (n.eval() for n in build(network, image))
        for p in G.parameters():
            p.data.normal_(0, 0.1)
        z = torch.randn(1, network.latent)
        cat, dog = (G(z, torch.tensor([label]), None) for label in (0, 1))
        assert torch.equal(cat, dog) is not network.conditional
        x = torch.rand(1, 1, 28, 28)
        assert torch.equal(D(x, torch.tensor([0]), None), D(x, torch.tensor([1]), None)) is not network.conditional


def test_dcgan_refuses_a_resolution_that_it_cannot_double_to() -> None:
    with pytest.raises(UserError, match=r"30x30.*preprocess.resolution"):
        build(DCGAN(), ImageFormat(height=30, width=30, channels=1, classes=CLASSES))
