"""Images of a published model: a function of seed, class and truncation, whatever is made beside them and how."""

from __future__ import annotations

import hashlib
import pickle

import numpy as np
import pytest
import safetensors.torch
import torch

from components.gan.dataset import Pixels
from components.gan.models import build
from components.gan.network_options import DCGAN, MLP, R3GAN, BigGAN, NetworkOptions, StyleGAN2
from components.gan.options import ImageFormat
from components.gan.published import FILES, Manifest, Published

IMAGE = ImageFormat(height=16, width=16, channels=3, classes=("a", "b", "c"))
NETWORKS = (
    MLP(),
    DCGAN(generator_width=16, discriminator_width=8),
    # Of 168 inputs and 128 outputs: oneDNN adds these products up in another order where rows are few.
    BigGAN(width=64),
    StyleGAN2(width=8, style=32, mapping_layers=2),
    R3GAN(width=32, blocks=1, full_width_to=8),
)


def published(network: NetworkOptions, precision: str = "bf16") -> Published:
    """A model with the weights that its network begins with, and with biases that tell its images apart."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        networks = build(network, IMAGE)
        for parameter in networks.generator.parameters():
            if parameter.ndim <= 1:
                parameter.data += 0.1 * torch.randn_like(parameter)
    players = zip(FILES.values(), networks, strict=True)
    weights = {name: safetensors.torch.save(dict(player.state_dict())) for name, player in players}
    return Published(
        Manifest(
            network=network,
            image=IMAGE,
            precision=precision,
            latents="torch-mt19937",
            files={name: hashlib.sha256(content).hexdigest() for name, content in weights.items()},
        ),
        weights,
    )


@pytest.fixture(scope="module", params=NETWORKS, ids=lambda network: network.name)
def network(request: pytest.FixtureRequest) -> NetworkOptions:
    chosen: NetworkOptions = request.param
    return chosen


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("truncation", [1.0, 0.5])
def test_an_image_is_the_same_alone_and_among_a_thousand(
    network: NetworkOptions, precision: str, truncation: float
) -> None:
    model = published(network, precision)
    labels = np.arange(1000) % 3
    many = model.sample(range(1000), labels, truncation)
    assert many.shape == (1000, *IMAGE.shape)
    assert len(np.unique(many.reshape(1000, -1), axis=0)) == 1000

    def some(*seeds: int) -> Pixels:
        return model.sample(seeds, labels[list(seeds)], truncation)

    for seed in (0, 58, 222, 999):
        assert np.array_equal(some(seed)[0], many[seed])
    assert np.array_equal(some(7, 300, 11), many[[7, 300, 11]])
    assert np.array_equal(some(*range(500, 560)), many[500:560])


def test_neither_threads_nor_the_way_here_change_an_image(network: NetworkOptions) -> None:
    model = published(network)
    labels = np.arange(30) % 3
    torch.set_num_threads(1)
    one = model.sample(range(30), labels)
    torch.set_num_threads(2)
    assert np.array_equal(model.sample(range(30), labels), one)
    assert torch.get_num_threads() == 2
    packed = pickle.dumps(model)
    assert len(packed) < sum(map(len, model.weights.values())) + 10_000
    assert np.array_equal(pickle.loads(packed).sample(range(30), labels), one)


def test_its_images_are_those_of_its_generator_in_batches_of_250(network: NetworkOptions) -> None:
    """In fp32, to what sums of numbers in another order may differ by: no rounding decides about a whole image."""
    model = published(network, "fp32")
    labels = np.arange(250) % 3
    with torch.inference_mode():
        made = model.generator()(model.inputs(range(250), labels)).permute(0, 2, 3, 1)
    off = np.abs(model.sample(range(250), labels) - ((made.numpy() + 1) * 127.5).clip(0, 255))
    assert off.max() < 0.6


def test_other_bytes_are_not_taken_for_weights() -> None:
    model = published(MLP())
    content = model.weights["generator.safetensors"]
    assert model.manifest.check("generator.safetensors", content) is content
    with pytest.raises(ValueError, match="does not have the recorded hash"):
        model.manifest.check("generator.safetensors", content[:-1] + b"\x00")


def test_models_that_make_other_images_have_other_ids() -> None:
    model = published(MLP())
    other = Published(model.manifest.model_copy(update={"precision": "fp32"}), model.weights)
    assert model.id == published(MLP()).id != other.id
