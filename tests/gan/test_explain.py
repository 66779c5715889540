"""Latent directions by the singular vectors that they must be, saliency by the gradients of known functions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from components.gan.explain import DRAWN, latent_directions, latent_walk, principal_directions, saliency
from components.gan.inputs import Inputs
from components.gan.models import biggan, build, stylegan2
from components.gan.models.layers import Generator
from components.gan.network_options import DCGAN, NetworkOptions, StyleGAN2
from components.gan.sampling import latents, sample, seeded
from tests.gan.test_models import ALL, image_of, named
from tests.harness.float64 import in_float64


def same_directions(a: Tensor, b: Tensor) -> bool:
    """Equal but for their signs."""
    return torch.allclose((a * b).sum(1).abs(), torch.ones(len(a)), atol=1e-4)


def networks(network: NetworkOptions) -> tuple[Generator, nn.Module]:
    """Untrained, but far from where all images are grey."""
    torch.manual_seed(0)
    generator, discriminator = build(network, image_of(32, channels=3))
    with torch.no_grad():
        for p in (*generator.parameters(), *discriminator.parameters()):
            p.add_(torch.randn_like(p) * 0.1)
    return generator.eval(), discriminator.eval()


def test_principal_directions_are_the_first_right_singular_vectors() -> None:
    a = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    found = principal_directions(a, 3)
    assert torch.allclose(found @ found.T, torch.eye(3), atol=1e-5)
    assert same_directions(found, torch.linalg.svd(a).Vh[:3])
    assert torch.equal(found, principal_directions(-a, 3))
    assert (found.gather(1, found.abs().argmax(1, keepdim=True)) > 0).all()


def response(generator: nn.Module, latent: int) -> Tensor:
    """How all layers that read the latent answer to a unit of each of its entries, by running the network."""
    if isinstance(generator, stylegan2.Generator):
        readers = [m.style for m in generator.modules() if isinstance(m, stylegan2.ModulatedConv2d)]
        size = generator.mapping.size
    else:
        readers = [m for m in generator.modules() if isinstance(m, biggan.SpectralLinear)]
        readers = readers or [next(m for m in generator.modules() if isinstance(m, nn.Linear))]
        size = latent
    heard: list[Tensor] = []
    hooks = [reader.register_forward_hook(lambda _m, _i, out: heard.append(out.flatten(1))) for reader in readers]
    x, label = torch.cat((torch.zeros(1, size), torch.eye(size))), torch.zeros(size + 1, dtype=torch.long)
    with torch.no_grad():
        if isinstance(generator, stylegan2.Generator):
            generator.synthesis(x[:, None].expand(-1, generator.style_count, -1), torch.zeros(len(x), latent))
        else:
            generator(Inputs(x, label))
    for hook in hooks:
        hook.remove()
    answers = torch.cat(heard, dim=1)
    return (answers[1:] - answers[0]).T


@pytest.mark.parametrize("network", ALL, ids=named)
def test_directions_are_those_the_first_layers_answer_to_most(network: NetworkOptions) -> None:
    generator, _ = networks(network)
    found = latent_directions(generator, network.latent, 3)
    answer = response(generator, network.latent)
    _, strengths, vectors = torch.linalg.svd(answer, full_matrices=False)
    assert torch.allclose(found @ found.T, torch.eye(3), atol=1e-5)
    # Where strengths are nearly equal any mixture of their directions is right.
    assert torch.allclose((answer @ found.T).norm(dim=0), strengths[:3], rtol=1e-3)
    assert strengths[0] > 1.001 * strengths[1], "another seed is needed, for these two may change places"
    assert same_directions(found[:1], vectors[:1])


@pytest.mark.parametrize("network", ALL, ids=named)
def test_a_walk_has_the_sample_in_its_middle(network: NetworkOptions) -> None:
    generator, _ = networks(network)
    inputs = seeded(range(2), np.array([0, 2]), network.latent)
    directions = latent_directions(generator, network.latent, 2)
    walk = latent_walk(generator, inputs, directions, (-3.0, 0.0, 3.0))
    assert walk.shape == (2, 2, 3, 32, 32, 3)
    middle = sample(generator, inputs).astype(int)
    for along in walk:
        # Another batch may round otherwise.
        assert np.abs(along[:, 1].astype(int) - middle).max() <= 1
        assert (along[:, 0] != along[:, 1]).any((1, 2, 3)).all()
        assert (along[:, 2] != along[:, 0]).any((1, 2, 3)).all()


def test_a_step_in_w_is_a_standard_deviation_of_that_label() -> None:
    class Shown(stylegan2.Generator):
        def synthesis(self, styles: Tensor, z: Tensor) -> Tensor:
            return (styles[:, 0] * 0.05)[:, :, None, None]

    network = StyleGAN2(width=4, max_width=8, style=8, latent=8, mapping_layers=2)
    generator, _ = networks(network)
    generator.__class__ = Shown
    direction = torch.eye(8)[3:4]
    walk = latent_walk(generator, seeded([5], np.array([1]), 8), direction, (0.0, 2.0))
    with torch.no_grad():
        w = generator.mapping(latents(range(DRAWN), 8), torch.ones(DRAWN, dtype=torch.long))
    moved = (walk[0, 0, 1].astype(int) - walk[0, 0, 0]).flatten() / 127.5 / 0.05
    assert moved[3] == pytest.approx(2 * w[:, 3].std().item(), abs=0.4)
    assert not moved[[0, 1, 2, 4, 5, 6, 7]].any()


class Toy(Generator):
    """A linear generator that does not say which layer reads the latent."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(6, 48)

    def forward(self, inputs: Inputs, truncation: float = 1.0) -> Tensor:
        image: Tensor = self.map(inputs.z).view(-1, 3, 4, 4)
        return image


def test_an_unknown_network_is_described_by_its_linear_fit() -> None:
    torch.manual_seed(0)
    toy = Toy()
    assert same_directions(latent_directions(toy, 6, 3), torch.linalg.svd(toy.map.weight).Vh[:3])
    walk = latent_walk(toy, seeded([0], np.array([0]), 6), torch.eye(6)[:1], (0.0, 1.0))
    assert walk.shape == (1, 1, 2, 4, 4, 3)


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0)))

    def forward(self, image: Tensor, inputs: Inputs) -> Tensor:
        return (image * self.weight[inputs.label]).sum((1, 2, 3)) + 7


def test_saliency_of_a_linear_discriminator_are_its_weights() -> None:
    linear, label = Linear(), torch.tensor([1, 0, 1])
    found = saliency(linear, torch.rand(3, 3, 5, 4), Inputs.without_latent(label))
    assert torch.allclose(found, linear.weight[label].abs().sum(1))
    assert linear.weight.grad is None


def test_saliency_is_how_much_a_pixel_moves_the_logit() -> None:
    with in_float64():
        torch.manual_seed(0)
        discriminator = build(DCGAN(generator_width=8, discriminator_width=8), image_of(28)).discriminator
        image, inputs = torch.rand(1, 1, 28, 28), Inputs.without_latent(torch.tensor([1]))
        found = saliency(discriminator, image, inputs)
        for row, column in ((0, 0), (13, 7), (27, 20)):
            moved = image.clone()
            moved[0, 0, row, column] += 1e-6
            change = (discriminator(moved, inputs) - discriminator(image, inputs)).abs().item() / 1e-6
            assert found[0, row, column].item() == pytest.approx(change, rel=1e-3)


@pytest.mark.parametrize("network", ALL, ids=named)
def test_every_discriminator_can_be_asked(network: NetworkOptions) -> None:
    _, discriminator = networks(network)
    inputs = Inputs.without_latent(torch.tensor([0, 1, 2, 0]))
    found = saliency(discriminator, torch.rand(4, 3, 32, 32) * 2 - 1, inputs)
    assert found.shape == (4, 32, 32)
    assert found.isfinite().all()
    assert (found.flatten(1).max(1).values > 0).all()
