"""What networks share, by the equations: resampling, convolutions, spectral norm, batch statistics."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from components.gan.inputs import Inputs
from components.gan.models import second_order
from components.gan.models.layers import BatchNorm, Downsample, Generator, SpectralConv2d, standing_statistics, upsample
from components.gan.models.second_order import conv2d, leaky_relu


def test_resampling_is_the_filter_1_3_3_1() -> None:
    taps = torch.tensor([1.0, 3, 3, 1])
    kernel = torch.outer(taps, taps).expand(2, 1, 4, 4) / 64
    x = torch.randn(3, 2, 8, 6)
    assert torch.allclose(Downsample()(x), F.conv2d(x, kernel, stride=2, padding=1, groups=2), atol=1e-6)
    inside = (..., slice(1, -1), slice(1, -1))
    up = F.conv_transpose2d(x, kernel * 4, stride=2, padding=1, groups=2)
    assert torch.allclose(upsample(x)[inside], up[inside], atol=1e-6)


@pytest.mark.parametrize(
    "geometry",
    [{"stride": (2, 1)}, {"padding": (0, 2)}, {"dilation": (1, 2)}, {"stride": (1, 3), "padding": (2, 1), "groups": 3}],
    ids=str,
)
def test_a_convolution_of_any_geometry_equals_torchs_twice_derived(geometry: dict[str, Any]) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 6, 6, 7, dtype=torch.float64, requires_grad=True)
    ours = second_order.Conv2d(6, 3, (2, 3), **geometry).double()
    theirs = nn.Conv2d(6, 3, (2, 3), **geometry).double()
    theirs.load_state_dict(ours.state_dict())
    found = [layer(x) for layer in (ours, theirs)]
    assert torch.allclose(*found)
    seconds = []
    for y, layer in zip(found, (ours, theirs), strict=True):
        (gradient,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        seconds.append(torch.autograd.grad(gradient.square().sum(), (x, *layer.parameters())))
    assert all(torch.allclose(a, b) for a, b in zip(*seconds, strict=True))


@pytest.mark.parametrize("options", [{"padding_mode": "reflect", "padding": 1}, {"padding": "same"}])
def test_a_convolution_with_padding_that_it_does_not_know_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="padding"):
        second_order.Conv2d(2, 2, 3, **options)


@pytest.mark.parametrize("groups", [1, 3])
def test_convolution_and_leaky_relu_equal_torch_twice_derived(groups: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 6, 5, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 6 // groups, 3, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(3, dtype=torch.float64, requires_grad=True)

    def ours(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return leaky_relu(conv2d(x, weight, bias, stride=1, padding=1, groups=groups), 0.2)

    assert torch.autograd.gradcheck(ours, (x, weight, bias))
    assert torch.autograd.gradgradcheck(ours, (x, weight, bias))
    theirs = F.leaky_relu(F.conv2d(x, weight, bias, padding=1, groups=groups), 0.2)
    assert torch.allclose(ours(x, weight, bias), theirs)


def test_spectral_norm_against_svd() -> None:
    torch.manual_seed(0)
    layer = SpectralConv2d(5, 7, 3)
    with torch.no_grad():
        for _ in range(200):
            layer.norm(layer.weight)
        found = layer.norm(layer.weight)
    sigma = torch.linalg.svdvals(layer.weight.flatten(1))[0]
    assert torch.allclose(found * sigma, layer.weight, rtol=1e-4)
    kept = layer.norm.u.clone()
    layer.eval()
    layer.norm(layer.weight)
    assert torch.equal(layer.norm.u, kept)


def test_standing_statistics_are_averages_over_many_batches() -> None:
    torch.manual_seed(0)

    class Normalised(Generator):
        def __init__(self) -> None:
            super().__init__()
            self.norm = BatchNorm(3)

        def forward(self, inputs: Inputs, truncation: float = 1.0) -> torch.Tensor:
            return self.norm(inputs.z)

    G = Normalised()
    norm, inputs = G.norm, Inputs(torch.randn(500, 3) * 2 + 1, torch.zeros(500, dtype=torch.long))
    x = inputs.z
    norm.running_mean.fill_(100)
    standing_statistics(G, inputs)
    assert torch.allclose(norm.running_mean, x.mean(0), atol=1e-5)
    assert torch.allclose(norm.running_var, torch.stack([part.var(0) for part in x.split(125)]).mean(0), rtol=1e-5)
    # And then evaluation uses them.
    assert G(inputs).mean().item() == pytest.approx(0, abs=1e-4)
