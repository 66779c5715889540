import math

import torch
from torch import nn

from components.gan.losses import LOSSES, discriminator_non_saturating, generator_non_saturating, r1_penalty


def test_values_at_known_logits() -> None:
    zero = torch.zeros(3)
    assert torch.allclose(discriminator_non_saturating(zero, zero), torch.full((3,), 2 * math.log(2)))
    assert torch.allclose(generator_non_saturating(zero), torch.full((3,), math.log(2)))


def test_discriminator_loss_is_the_negative_log_likelihood_that_the_article_printed_without_its_sign() -> None:
    real, fake = torch.randn(100).double(), torch.randn(100).double()
    likelihood = torch.log(torch.sigmoid(real)) + torch.log(1 - torch.sigmoid(fake))
    assert torch.allclose(discriminator_non_saturating(real, fake), -likelihood)


def test_generator_loss_is_not_the_saturating_one() -> None:
    confident = torch.tensor([-6.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(generator_non_saturating(confident).sum(), confident)
    (saturating,) = torch.autograd.grad(torch.log(1 - torch.sigmoid(confident)).sum(), confident)
    # sigmoid(t) - 1 against -sigmoid(t): only the first still teaches where D is sure that an image is generated.
    assert gradient.item() < -0.99
    assert -0.01 < saturating.item() < 0


def test_each_player_gains_by_its_own_logits() -> None:
    for loss in LOSSES.values():
        real, fake = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
        to_real, to_fake = torch.autograd.grad(loss.discriminator(real, fake).sum(), (real, fake))
        assert to_real < 0 < to_fake
        (to_fake,) = torch.autograd.grad(loss.generator(fake).sum(), fake)
        assert to_fake < 0


def test_r1_against_a_closed_form() -> None:
    # D(x) = sum(w * x^2) has the gradient 2 w x.
    x = torch.randn(4, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    w = torch.randn(2, 3, 3, dtype=torch.float64)
    penalty = r1_penalty((w * x.square()).flatten(1).sum(1), x)
    assert torch.allclose(penalty, (2 * w * x).square().flatten(1).sum(1))


def test_r1_against_finite_differences_in_double_precision() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Softplus(), nn.Flatten(), nn.Linear(3 * 4, 1)).double()
    x = torch.randn(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    penalty = r1_penalty(net(x).squeeze(1), x)
    step, expected = 1e-5, torch.zeros(2, dtype=torch.float64)
    with torch.no_grad():
        for pixel in range(16):
            shift = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
            shift.view(-1)[pixel] = step
            expected += ((net(x + shift) - net(x - shift)).squeeze(1) / (2 * step)).square()
    assert torch.allclose(penalty, expected, rtol=1e-6)
