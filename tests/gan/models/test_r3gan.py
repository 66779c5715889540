"""R3GAN: its widths, its embeddings, and the gradient of its penalty."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from components.gan.errors import UserError
from components.gan.inputs import Inputs
from components.gan.losses import gradient_penalty
from components.gan.models import build, layers, r3gan, second_order
from components.gan.network_options import R3GAN
from components.gan.options import STORED
from tests.gan.test_models import NARROW, SIDES, image_of, parameters


def test_r3gans_penalty_has_the_gradient_of_torchs_own_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    _, D = build(R3GAN(**NARROW["r3gan"]), image_of(28))
    with torch.no_grad():
        for p in D.parameters():
            p.add_(torch.randn_like(p) * 0.05)
    inputs, x = Inputs.without_latent(torch.tensor([0, 1, 2, 0])), torch.randn(4, 1, 28, 28)

    def gradients() -> list[torch.Tensor]:
        image = x.clone().requires_grad_()
        logits = D(image, inputs)
        loss = gradient_penalty(logits, image).sum() + logits.sum()
        return list(torch.autograd.grad(loss, list(D.parameters())))

    ours = gradients()
    for module in (second_order, layers):
        monkeypatch.setattr(module, "conv2d", F.conv2d)
    monkeypatch.setattr(r3gan, "leaky_relu", F.leaky_relu)
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in zip(ours, gradients(), strict=True))


@pytest.mark.parametrize("size", ["small", "large"])
def test_r3gan_has_every_size_that_is_promised_in_every_width(size: str) -> None:
    for side in SIDES:
        with torch.device("meta"):
            assert all(parameters(player) for player in build(R3GAN(**R3GAN.sizes[size]), image_of(side))), side


def test_r3gans_stages_are_halved_at_each_doubling_and_divide_into_groups() -> None:
    widths = {side: r3gan.stage_widths(R3GAN(), layers.pyramid("r3gan", image_of(side)).sides) for side in SIDES}
    assert widths[64] == [96, 96, 96, 96, 48]
    assert widths[96] == [96, 96, 96, 48, 24]
    assert widths[160] == [96, 96, 96, 48, 24, 16]
    assert widths[224] == [96, 96, 96, 48, 24, 16]
    # 96 / 8 channels would be one group and a half.
    assert widths[256] == [96, 96, 96, 96, 48, 24, 16]
    # As the paper's, and as all models of a size that is 4, 5 or 7 times a power of two where each divides.
    paper = R3GAN(width=768)
    assert r3gan.stage_widths(paper, [4, 8, 16, 32, 64, 128, 256]) == [768, 768, 768, 768, 384, 192, 96]
    before = paper.model_copy(update={"halving": "by_side"})
    for sides in ([4, 8, 16, 32, 64, 128, 256], [7, 14, 28]):
        assert r3gan.stage_widths(before, sides) == r3gan.stage_widths(paper, sides)
    assert r3gan.stage_widths(R3GAN.model_validate({}, context=STORED), [6, 12, 24, 48, 96]) == [96, 96, 96, 96, 32]


@pytest.mark.parametrize("classes", [10, 1000])
def test_r3gans_embeddings_start_as_released_if_asked_for(classes: int) -> None:
    torch.manual_seed(0)
    image = image_of(32).model_copy(update={"classes": tuple(map(str, range(classes)))})
    G, D = build(R3GAN(**NARROW["r3gan"], embedding_start="released", embedding=256), image)
    assert G.embedding.weight.std().item() == pytest.approx(classes**-0.5, rel=0.05)
    assert D.embedding.weight.std().item() == pytest.approx((classes * 256) ** -0.5, rel=0.05)
    x = torch.randn(4, 1, 32, 32)
    inputs = Inputs.without_latent(torch.arange(4))
    with torch.no_grad():
        features = D.head(D.basis(_last(D, x)).flatten(1))
        assert torch.allclose(D(x, inputs), (features * D.embedding(inputs.label)).sum(1), rtol=1e-4, atol=1e-6)


def _last(D: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What r3gan's discriminator has at its smallest size."""
    x = D.stages[0](D.from_image(x))
    for transition, stage in zip(D.transitions, D.stages[1:], strict=True):
        x = stage(transition(D.downsample(x)))
    return x


def test_r3gan_refuses_a_width_that_does_not_divide_into_groups() -> None:
    with pytest.raises(UserError, match="groups of 16"):
        build(R3GAN(width=20), image_of(32))
