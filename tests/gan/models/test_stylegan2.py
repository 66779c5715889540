"""StyleGAN2: modulated convolutions, noise, styles and truncation."""

import pytest
import torch
from torch.nn import functional as F

from components.gan.inputs import Inputs
from components.gan.models import build
from components.gan.models.layers import standing_statistics
from components.gan.models.stylegan2 import ModulatedConv2d, hashed_normal, hashed_uniform, minibatch_std
from components.gan.network_options import StyleGAN2
from components.gan.options import STORED
from tests.gan.test_models import NARROW, image_of


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("demodulate", [False, True])
def test_modulated_convolution_against_a_loop_over_images(up: bool, demodulate: bool) -> None:
    torch.manual_seed(0)
    layer = ModulatedConv2d(4, 6, 3, 5, up=up, demodulate=demodulate)
    x, w = torch.randn(3, 4, 6, 6), torch.randn(3, 5)
    taps = torch.tensor([1.0, 3, 3, 1]) / 4
    blur = torch.outer(taps, taps).expand(6, 1, 4, 4)
    with torch.no_grad():
        together, s = layer(x, w), layer.style(w)
        for i in range(3):
            weight = layer.weight * layer.scale * s[i].view(1, 4, 1, 1)
            if demodulate:
                weight = weight * torch.rsqrt(weight.square().sum((1, 2, 3), keepdim=True) + 1e-8)
            if up:
                # The paper's: transposed convolution, then the filter.
                wide = F.conv_transpose2d(x[i : i + 1], weight.transpose(0, 1), stride=2)
                alone = F.conv2d(F.pad(wide, (1, 1, 1, 1)), blur, groups=6)
                inside = (..., slice(2, -2), slice(2, -2))
                assert torch.allclose(together[i : i + 1][inside], alone[inside], atol=1e-5)
            else:
                alone = F.conv2d(x[i : i + 1], weight, padding=1)
                assert torch.allclose(together[i : i + 1], alone, atol=1e-5)


def test_minibatch_std_by_hand() -> None:
    x = torch.randn(8, 3, 2, 2)
    found = minibatch_std(x, 4)
    for group in range(2):
        part = x[4 * group : 4 * group + 4]
        expected = part.var(0, unbiased=False).add(1e-8).sqrt().mean()
        assert torch.allclose(found[4 * group : 4 * group + 4], expected.expand(4, 1, 2, 2))


def test_noise_is_normal_and_a_function_of_the_latent() -> None:
    # Not normal numbers, which another processor may round otherwise: that would be another draw.
    z = torch.rand(400, 3, generator=torch.Generator().manual_seed(0))
    noise = hashed_normal(z, 1024, stream=2)
    assert noise.mean().item() == pytest.approx(0, abs=0.01)
    assert noise.var().item() == pytest.approx(1, abs=0.01)
    assert noise.pow(4).mean().item() == pytest.approx(3, abs=0.05)
    for other in (noise.roll(1, 1), noise.roll(1, 0), noise.roll(32, 1), hashed_normal(z, 1024, stream=3)):
        assert (noise * other).mean().item() == pytest.approx(0, abs=0.01)
    assert torch.equal(hashed_normal(z[7:8], 1024, stream=2), noise[7:8])


def test_no_two_streams_share_their_noise_at_any_shift() -> None:
    """Layers s and s + 8 had the same numbers, 200 pixels apart."""
    count, z = 4096, torch.rand(1, 4, generator=torch.Generator().manual_seed(0))
    spectra = torch.stack([torch.fft.rfft(hashed_normal(z, count, stream=s)[0], n=2 * count) for s in range(-2, 16)])
    correlations = torch.fft.irfft(spectra[:, None] * spectra.conj(), n=2 * count) / count
    correlations[torch.arange(18), torch.arange(18), 0] -= 1
    assert correlations.abs().max() < 7 / count**0.5


@pytest.mark.parametrize("place", [0, 1, 31])
def test_noise_depends_on_every_number_of_the_latent_and_on_its_sign(place: int) -> None:
    z = torch.rand(1, 32, generator=torch.Generator().manual_seed(0)) + 0.5
    noise = hashed_uniform(z, 4096, stream=2)
    for change in (-z[0, place], torch.nextafter(z[0, place], z.new_tensor(9.0)), z[0, place] * 2):
        other = z.clone()
        other[0, place] = change
        found = hashed_uniform(other, 4096, stream=2)
        assert torch.corrcoef(torch.cat((noise, found)))[0, 1].abs() < 0.08
    # The numbers are not only counted: their order counts too.
    assert not torch.equal(hashed_uniform(z.flip(1), 4096, stream=2), noise)


def test_a_model_made_before_keeps_its_noise() -> None:
    """The first numbers of two streams as 29edf2a drew them."""
    key = torch.tensor([[0.5, 1.0], [-0.25, 3.0]])
    old = StyleGAN2.model_validate({**NARROW["stylegan2"]}, context=STORED)
    assert old.noise == "shifted"
    G, _ = build(old, image_of(32))
    drawn = torch.cat([G.layers[0].uniform(key, 3, stream) for stream in (0, 11)], 1)
    assert (drawn * 2**23 - 0.5).long().tolist() == [
        [7892329, 1274359, 5594378, 4403614, 1950407, 4307808],
        [3071881, 7420574, 5992687, 349991, 3428153, 750374],
    ]


@pytest.mark.parametrize("classes", [1, 10, 1000])
def test_truncation_pulls_towards_the_mean_of_each_class_however_many_there_are(classes: int) -> None:
    torch.manual_seed(0)
    names = tuple(map(str, range(classes)))
    G, _ = build(StyleGAN2(**NARROW["stylegan2"]), image_of(32).model_copy(update={"classes": names}))
    # Of many classes most are in no batch, and the rarest in none of them.
    label = torch.zeros(1000, dtype=torch.long)
    standing_statistics(G, Inputs(torch.randn(1000, 8), label))
    for chosen in sorted({0, classes // 2, classes - 1}):
        z, label = torch.randn(5000, 8), torch.full((5000,), chosen)
        with torch.no_grad():
            w, pulled = G.mapping(z, label), G.mapping(z, label, 0.5)
            centre = 2 * pulled[0] - w[0]
            distance = (w - w.mean(0)).norm(dim=1).mean()
            assert (centre - w.mean(0)).norm() < 0.2 * distance
            assert torch.allclose(pulled, torch.lerp(centre, w, 0.5), atol=1e-5)


def test_a_class_that_had_no_latent_is_pulled_towards_the_mean_of_all() -> None:
    """Models made before had too few latents for rare classes, and pulled those towards zero."""
    torch.manual_seed(0)
    G, _ = build(StyleGAN2(**NARROW["stylegan2"]), image_of(32))
    with torch.no_grad():
        G.mapping.w_sum.copy_(torch.randn(3, 8) * 10)
        G.mapping.w_count.copy_(torch.tensor([10.0, 0.0, 30.0]))
        w = [G.mapping(torch.ones(1, 8), torch.tensor([1]), truncation) for truncation in (1.0, 0.75)]
    assert torch.allclose(w[1], torch.lerp(G.mapping.w_sum.sum(0) / 40, w[0], 0.75), atol=1e-5)


def test_an_image_has_one_style_more_than_layers_as_in_the_paper() -> None:
    """What a resolution adds to the image listens to the style of the next layer: 2 log2(side) - 2 of them in all."""
    torch.manual_seed(0)
    G, _ = build(StyleGAN2(**NARROW["stylegan2"]), image_of(64))
    z, label = torch.randn(2, 8), torch.tensor([0, 1])
    styles = G.eval().styles(z, label).detach().clone().requires_grad_()
    assert styles.shape[1] == 2 * 6 - 2
    with torch.no_grad():
        for layer in G.to_images[:-1]:
            layer.conv.weight.zero_()
    (gradient,) = torch.autograd.grad(G.synthesis(styles, z).square().sum(), styles)
    assert gradient.abs().sum((0, 2)).min() > 0
    with torch.no_grad():
        G.to_images[-1].conv.weight.zero_()
        G.to_images[0].conv.weight.fill_(1.0)
    styles.grad = None
    (gradient,) = torch.autograd.grad(G.synthesis(styles, z).square().sum(), styles)
    assert gradient.abs().sum((0, 2)).nonzero().flatten().tolist() == [0, 1]


def test_style_mixing_takes_later_layers_from_another_latent() -> None:
    torch.manual_seed(0)
    network = StyleGAN2(**NARROW["stylegan2"], style_mixing=0.5)
    G, _ = build(network, image_of(32))
    z = torch.randn(2000, network.latent)
    styles = G.styles(z, torch.zeros(2000, dtype=torch.long)).detach()
    changed = (styles != styles[:, :1]).any(2)
    assert changed.any(1).float().mean().item() == pytest.approx(0.5, abs=0.05)
    # Once changed, all later layers are; the first never is.
    assert not changed[:, 0].any()
    assert (changed[:, 1:] >= changed[:, :-1]).all()
    assert changed.float().mean(0)[1:].diff().min() > 0
    alike = G.eval().styles(z, torch.zeros(2000, dtype=torch.long))
    assert torch.equal(alike, alike[:, :1].expand_as(alike))
