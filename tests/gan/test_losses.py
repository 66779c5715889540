"""Losses by their values and gradients, and penalties by closed forms and finite differences."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from components.gan.losses import LOSSES, gradient_penalty, orthogonal_penalty, path_lengths, wgan_gp
from components.gan.models import build
from components.gan.network_options import NETWORKS, BigGAN, StyleGAN2
from components.gan.options import ImageFormat
from components.workspace.params import Train


@pytest.mark.parametrize(
    ("name", "discriminator", "generator"),
    [
        ("non_saturating", 2 * math.log(2), math.log(2)),
        ("saturating", 2 * math.log(2), -math.log(2)),
        ("hinge", 2, 0),
        ("least_squares", 0.5, 0.5),
        ("wasserstein", 0, 0),
        ("relativistic", math.log(2), math.log(2)),
    ],
)
def test_values_and_gradients_at_logits_of_zero(name: str, discriminator: float, generator: float) -> None:
    loss, zero = LOSSES[name], torch.zeros(3)
    assert torch.allclose(loss.discriminator(zero, zero), torch.full((3,), float(discriminator)))
    assert torch.allclose(loss.generator(zero, zero), torch.full((3,), float(generator)))
    # Each player gains by its own logits.
    real, fake = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    to_real, to_fake = torch.autograd.grad(loss.discriminator(real, fake).sum(), (real, fake), allow_unused=True)
    assert to_real < 0
    # The targets of least squares are 1 and 0: a generated image with a logit of 0 is right.
    assert to_fake == 0 if name == "least_squares" else to_fake > 0
    (to_fake,) = torch.autograd.grad(loss.generator(real, fake).sum(), fake)
    assert to_fake < 0


def test_least_squares_pulls_to_its_targets() -> None:
    loss = LOSSES["least_squares"]
    assert loss.discriminator(torch.ones(1), torch.zeros(1)) == loss.generator(torch.zeros(1), torch.ones(1)) == 0


def test_discriminator_loss_is_the_articles_negative_log_likelihood() -> None:
    """The article prints it without its minus sign."""
    real, fake = torch.randn(100).double(), torch.randn(100).double()
    likelihood = torch.log(torch.sigmoid(real)) + torch.log(1 - torch.sigmoid(fake))
    assert torch.allclose(LOSSES["non_saturating"].discriminator(real, fake), -likelihood)


def test_the_articles_generator_losses_differ_where_d_is_sure() -> None:
    confident = torch.tensor([-6.0], requires_grad=True)
    gradients = {}
    for name in ("non_saturating", "saturating"):
        (gradient,) = torch.autograd.grad(LOSSES[name].generator(confident, confident).sum(), confident)
        gradients[name] = gradient.item()
    # sigmoid(t) - 1 against -sigmoid(t): only the first still teaches where D is sure that an image is generated.
    assert gradients["non_saturating"] < -0.99
    assert -0.01 < gradients["saturating"] < 0
    t = torch.randn(50).double()
    assert torch.allclose(LOSSES["saturating"].generator(t, t), torch.log(1 - torch.sigmoid(t)))


def test_relativistic_loss_sees_pairs_alone() -> None:
    real, fake = torch.randn(5), torch.randn(5)
    for player in (LOSSES["relativistic"].discriminator, LOSSES["relativistic"].generator):
        assert torch.allclose(player(real, fake), player(real + 3, fake + 3), atol=1e-6)


def test_accuracy_counts_right_answers() -> None:
    real, fake = torch.tensor([2.0, -1.0, 0.4]), torch.tensor([-1.0, -2.0, 0.3])
    assert LOSSES["hinge"].accuracy(real, fake).tolist() == [1, 0.5, 0.5]
    assert LOSSES["least_squares"].accuracy(real, fake).tolist() == [1, 0.5, 0.5]
    assert LOSSES["relativistic"].accuracy(real, fake).tolist() == [1, 1, 1]


def test_only_a_logistic_loss_makes_its_logits_probabilities() -> None:
    """Its optimum at data where a share p is real is the logit of p, which moves with an offset of all logits."""
    logits = torch.linspace(-6, 6, 1201, dtype=torch.float64)
    for name, loss in LOSSES.items():
        expected = 0.8 * loss.discriminator(logits, torch.zeros_like(logits))
        expected = expected + 0.2 * loss.discriminator(torch.zeros_like(logits), logits)
        best = float(logits[expected.argmin()])
        assert loss.logistic == (abs(best - math.log(0.8 / 0.2)) < 0.01 and loss.boundary == 0.0), name


def test_gradient_penalty_against_a_closed_form() -> None:
    # D(x) = sum(w * x^2) has the gradient 2 w x.
    x = torch.randn(4, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    w = torch.randn(2, 3, 3, dtype=torch.float64)
    penalty = gradient_penalty((w * x.square()).flatten(1).sum(1), x)
    assert torch.allclose(penalty.double(), (2 * w * x).square().flatten(1).sum(1))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.Softplus(), nn.Flatten(), nn.Linear(3 * 4, 1), nn.Flatten(0)).double()


def slopes(net: nn.Module, x: Tensor) -> Tensor:
    """The gradient of `net` at `x` by finite differences in double precision, (B, pixels)."""
    step, found = 1e-5, []
    with torch.no_grad():
        for pixel in range(16):
            shift = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
            shift.view(-1)[pixel] = step
            found.append((net(x + shift) - net(x - shift)) / (2 * step))
    return torch.stack(found, 1)


def test_gradient_penalty_against_finite_differences() -> None:
    net = network()
    x = torch.randn(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.allclose(gradient_penalty(net(x), x).double(), slopes(net, x).square().sum(1), rtol=1e-6)


def test_wgan_gp_against_finite_differences() -> None:
    net, u = network(), torch.tensor([[0.0], [0.25]], dtype=torch.float64)
    real, fake = (torch.randn(2, 1, 4, 4, dtype=torch.float64) for _ in range(2))
    between = torch.stack((real[0], 0.75 * real[1] + 0.25 * fake[1]))
    expected = (slopes(net, between).norm(dim=1) - 1).square()
    assert torch.allclose(wgan_gp(net, real, fake, u).double(), expected, rtol=1e-5)


def test_path_length_of_a_linear_map_against_its_matrix() -> None:
    layers, size, height, width = 3, 5, 4, 2
    matrix = torch.randn(layers, size, 3 * height * width)
    styles = torch.randn(6, layers, size, requires_grad=True)
    image = torch.einsum("bls,lsp->bp", styles, matrix).view(6, 3, height, width)
    y = torch.randn(6, 3, height, width)
    # Of each layer's Jacobian; squares are averaged over layers.
    norms = torch.einsum("lsp,bp->bls", matrix, y.flatten(1)).square().sum(2).mean(1).sqrt() / (height * width) ** 0.5
    assert torch.allclose(path_lengths(image, styles, y), norms, rtol=1e-5)


def test_orthogonal_penalty_has_twice_the_gradient_of_biggan_pytorchs() -> None:
    """2 (W W^T * (1 - I)) W for every weight of two axes and more but the embedding of classes."""
    torch.manual_seed(0)
    G = build(BigGAN(width=2, latent=10, embedding=4), ImageFormat(height=32, width=32, channels=1, classes=("a", "b")))
    G = G.generator.double()
    named = {name: p for name, p in G.named_parameters() if p.ndim > 1 and name != "embedding.weight"}
    assert any(p.shape[0] > p[0].numel() for p in named.values()) and any(p.ndim == 2 for p in named.values())
    orthogonal_penalty(G).backward()
    assert G.embedding.weight.grad is None
    for name, p in named.items():
        w = p.detach().flatten(1)
        reference = 2 * (w @ w.T * (1 - torch.eye(len(w)))) @ w
        assert torch.allclose(p.grad.flatten(1), 2 * reference, rtol=1e-6, atol=1e-9), name


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "stylegan2"])
def test_orthogonal_penalty_has_an_effect_on_every_network_that_may_have_it(name: str) -> None:
    image = ImageFormat(height=32, width=32, channels=1, classes=("a", "b"))
    torch.manual_seed(0)
    G, _ = build(NETWORKS[name](), image)
    with torch.no_grad():
        for p in G.parameters():
            p.add_(torch.randn_like(p) * 0.05)
    assert orthogonal_penalty(G) > 0
    with pytest.raises(ValidationError, match="orthogonal_weight needs a network"):
        Train(network=StyleGAN2(), orthogonal_weight=1e-4)


def test_orthogonal_penalty_vanishes_for_orthogonal_filters_alone() -> None:
    conv, transposed = nn.Conv2d(4, 3, 3, bias=False).double(), nn.ConvTranspose2d(3, 4, 2, bias=False).double()
    for layer in (conv, transposed):
        nn.init.orthogonal_(layer.weight)
    with torch.no_grad():
        conv.weight *= torch.tensor([1.0, 5.0, 0.1]).view(3, 1, 1, 1)
    assert orthogonal_penalty(conv).item() == pytest.approx(0, abs=1e-8)
    with torch.no_grad():
        conv.weight[1] = conv.weight[0]
    # Both off-diagonal products are ||w||^2 = 1.
    assert orthogonal_penalty(nn.Sequential(conv, nn.ReLU())).item() == pytest.approx(2)
    filters = transposed.weight.transpose(0, 1).flatten(1)
    products = filters @ filters.T
    assert orthogonal_penalty(transposed).item() == pytest.approx(
        (products - products.diag().diag()).square().sum().item()
    )
