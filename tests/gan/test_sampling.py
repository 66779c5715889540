"""Latents and labels are functions of their seeds and names alone."""

import numpy as np
import pytest
import torch

from components.gan.sampling import generator_for, labels_by_name, labels_like, latents


def test_an_image_has_its_own_latent_whatever_is_made_beside_it() -> None:
    many = latents(range(10), 16)
    assert torch.equal(latents([7], 16)[0], many[7])
    assert latents(range(4000), 16).std().item() == pytest.approx(1, abs=0.02)


def test_names_of_random_numbers_are_not_mixed_up() -> None:
    drawn = {
        torch.rand(1, generator=generator_for(*name)).item() for name in ((1, 23, "a"), (12, 3, "a"), (1, 23, "b"))
    }
    assert len(drawn) == 3


def test_labels_have_the_shares_of_the_data() -> None:
    shares = np.array([0.5, 0.0, 0.3, 0.2])
    assert np.bincount(labels_like(shares, 1000), minlength=4).tolist() == [500, 0, 300, 200]
    assert len(labels_like(np.full(3, 1 / 3), 1000)) == 1000


def test_classes_are_asked_for_by_name() -> None:
    assert labels_by_name(("cat", "dog"), "dog", 3).tolist() == [1, 1, 1]
    assert labels_by_name(("cat", "dog"), "", 3).tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match="choose one of cat, dog"):
        labels_by_name(("cat", "dog"), "cow", 3)
