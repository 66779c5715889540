"""BigGAN: self-attention by its equations, and truncation."""

import pytest
import torch
from torch.nn import functional as F

from components.gan.inputs import Inputs
from components.gan.models import build
from components.gan.models.biggan import Attention, threshold_of, truncated
from components.gan.models.layers import standing_statistics
from components.gan.network_options import BigGAN
from components.gan.options import STORED
from tests.gan.test_models import NARROW, image_of


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
