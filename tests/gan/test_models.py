"""Every network by its shapes, gradients and sizes, and its layers by their equations."""

from typing import Any, get_args

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from components.gan.errors import UserError
from components.gan.inputs import Inputs
from components.gan.losses import gradient_penalty
from components.gan.models import build, layers, r3gan, second_order
from components.gan.models.biggan import Attention, threshold_of, truncated
from components.gan.models.layers import (
    BatchNorm,
    Downsample,
    Generator,
    SpectralConv2d,
    standing_statistics,
    upsample,
)
from components.gan.models.second_order import conv2d, leaky_relu
from components.gan.models.stylegan2 import ModulatedConv2d, hashed_normal, hashed_uniform, minibatch_std
from components.gan.network_options import ALL_NETWORKS, DCGAN, MLP, NETWORKS, R3GAN, BigGAN, NetworkOptions, StyleGAN2
from components.gan.options import STORED, ImageFormat

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


# --- layers ---


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


def test_self_attention_against_its_equations() -> None:
    torch.manual_seed(0)
    layer = Attention(16).eval()
    with torch.no_grad():
        layer.gain.fill_(0.7)
        x = torch.randn(2, 16, 6, 4)
        f = layer.query(x)
        g, h = (F.max_pool2d(part(x), 2).flatten(2) for part in (layer.key, layer.value))
        out = torch.zeros(2, h.shape[1], 6, 4)
        for b in range(2):
            for i in range(6):
                for j in range(4):
                    weights = torch.softmax(g[b].T @ f[b, :, i, j], 0)
                    out[b, :, i, j] = h[b] @ weights
        assert torch.allclose(layer(x), x + 0.7 * layer.out(out), atol=1e-5)


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


def test_truncated_normal_is_that_of_drawing_again() -> None:
    z = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    inside = truncated(z, 1.0)
    assert inside.abs().max() <= 1
    assert inside.std().item() == pytest.approx(z[z.abs() <= 1].std().item(), rel=0.01)
    assert (inside[z.argsort()].diff() >= 0).all()
    assert torch.allclose(truncated(z, 6.0), z, atol=1e-2)


@pytest.mark.parametrize("deviation", [1e-4, 0.1, 0.54, 0.88, 0.99, 0.999, 1 - 1e-9])
def test_biggans_truncation_is_the_deviation_that_is_left(deviation: float) -> None:
    z = torch.randn(200_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inside = truncated(z / z.std(), threshold_of(deviation))
    assert inside.std().item() == pytest.approx(deviation, rel=0.005)


def test_biggans_images_do_not_jump_where_truncation_begins() -> None:
    torch.manual_seed(0)
    changes = {}
    inputs = Inputs(torch.randn(50, 10), torch.zeros(50, dtype=torch.long))
    for options in (BigGAN(**NARROW["biggan"]), BigGAN.model_validate(NARROW["biggan"], context=STORED)):
        G, _ = build(options, image_of(32))
        standing_statistics(G, inputs, batch=50)
        with torch.no_grad():
            whole = G(inputs)
            changes[options.truncation] = [
                (G(inputs, truncation) - whole).std() / whole.std() for truncation in (0.99999, 0.5)
            ]
    assert changes["deviation"][0] < 0.01 < changes["deviation"][1]
    # Those that were registered before keep their pictures.
    assert changes["threshold"][0] > 0.02


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


def test_wide_presets_have_the_papers_sizes() -> None:
    """Parameters at the widths of the papers and of public code: the networks are what they are called."""
    # Without memory: the weights of so wide a network take minutes to draw.
    with torch.device("meta"):
        dcgan, _ = build(DCGAN(conditional=False, generator_width=64, discriminator_width=64), image_of(64, channels=3))
        biggan, _ = build(BigGAN(width=96), image_of(128, channels=3))
    assert sum(p.numel() for p in dcgan.parameters()) == pytest.approx(3.58e6, rel=0.02)
    # 70 million with the paper's 1,000 classes.
    assert sum(p.numel() for p in biggan.parameters()) == pytest.approx(70e6, rel=0.1)
