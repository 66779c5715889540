"""Reconstruction: what a generator learned by heart it makes from some latent, and what it never saw it does not."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import safetensors.torch
import torch
from torch.nn import functional as F

from components.gan.dataset import to_signed
from components.gan.inputs import Inputs
from components.gan.models import build
from components.gan.network_options import MLP, NetworkOptions
from components.gan.options import ImageFormat
from components.gan.published import FILES, Manifest, Published
from components.measures import intervals, reconstruction
from tests.conftest import Pixels
from tests.gan.test_published import IMAGE, NETWORKS, published

DIGITS = ImageFormat(height=28, width=28, channels=1, classes=tuple("0123456789"))
COUNT = 32


def memorised(pixels: Pixels, labels: np.ndarray, steps: int = 800) -> Published:
    """A tiny generator that was trained on these images alone: each latent makes one of those of its class."""
    network = MLP(conditional=True, latent=4, generator_widths=(128, 128), discriminator_widths=(8,))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator, discriminator = build(network, DIGITS)
        adam = torch.optim.Adam(generator.parameters(), 5e-3)
        known, places = to_signed(torch.from_numpy(pixels)), F.normalize(torch.randn(len(pixels), 4))
        of_class = torch.from_numpy(labels)
        for _ in range(steps):
            z, label = torch.randn(128, 4), of_class[torch.randint(len(labels), (128,))]
            nearness = (z @ places.T).masked_fill(label[:, None] != of_class, -torch.inf)
            target = known[nearness.argmax(1)]
            error = (generator(Inputs(z, label)) - target).square().mean()
            adam.zero_grad()
            error.backward()
            adam.step()
    weights = {
        FILES["generator"]: safetensors.torch.save(dict(generator.state_dict())),
        FILES["discriminator"]: safetensors.torch.save(dict(discriminator.state_dict())),
    }
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in weights.items()}
    manifest = Manifest(network=network, image=DIGITS, precision="fp32", latents="torch-mt19937", files=hashes)
    return Published(manifest, weights)


def test_what_was_learned_by_heart_is_told_from_what_was_not(digits: tuple[Pixels, Pixels]) -> None:
    pixels, labels = digits[0][:, :, :, None], digits[1].astype(np.int64)
    seen, unseen, other = reconstruction.evenly([labels[:300], labels[300:600], labels[600:900]], COUNT)
    sets = [(pixels[index], labels[index]) for index in (seen, unseen + 300, other + 600)]
    model = memorised(*sets[0])
    errors = [reconstruction.reconstruction_errors(model, *each) for each in sets]
    learned = intervals.auc_estimate(errors[1], errors[0])
    assert learned.value > 0.95
    assert learned.low > 0.8
    # Two sets that it never saw.
    fair = intervals.auc_estimate(errors[2], errors[1])
    assert fair.low < 0.5 < fair.high


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_every_network_comes_nearer_with_each_image_for_itself(
    network: NetworkOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = published(network, "fp32")
    labels = np.arange(4) % 3
    pixels = model.sample(range(100, 104), labels)
    monkeypatch.setattr(reconstruction, "FIRST_STEPS", 1)
    monkeypatch.setattr(reconstruction, "STEPS", 1)
    begun = reconstruction.reconstruction_errors(model, pixels, labels)
    monkeypatch.setattr(reconstruction, "STEPS", 40)
    found = reconstruction.reconstruction_errors(model, pixels, labels)
    # Down to what rounding to grey levels costs.
    assert (found < begun).all() and found.mean() < max(0.9 * begun.mean(), 1 / 12)
    monkeypatch.setattr(reconstruction, "STEPS", 1)
    monkeypatch.setattr(reconstruction, "MAX_PIXELS", IMAGE.height * IMAGE.width)
    assert reconstruction.reconstruction_errors(model, pixels, labels) == pytest.approx(begun, rel=0.02)


def test_both_sets_have_the_same_classes() -> None:
    """Some classes are easier to make than others."""
    some, others = np.repeat([0, 1, 2], [50, 3, 20]), np.repeat([0, 2, 3], [9, 40, 40])
    first, second = reconstruction.evenly([some, others], 32)
    assert (some[first] == others[second]).all()
    assert np.bincount(some[first]).tolist() == [9, 0, 20]
    assert len({*first}) == len(first)
    few, _ = reconstruction.evenly([np.arange(300) % 3, np.arange(90) % 3], 32)
    assert np.bincount(few % 3).tolist() == [11, 11, 10]
