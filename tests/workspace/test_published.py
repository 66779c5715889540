"""Folders of published models: what is written is what is loaded, and nothing that was changed is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from components.gan.errors import UserError
from components.gan.options import MLP
from components.workspace.files import sealed, unsealed
from components.workspace.published import load_published, save_published
from tests.conftest import unpack_old_workspace
from tests.gan.test_published import published


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_published(published(MLP()), tmp_path)
    return tmp_path


def test_what_was_saved_is_loaded(folder: Path) -> None:
    model, found = published(MLP()), load_published(folder, "it")
    assert found == model
    assert found.id == model.id
    assert np.array_equal(found.sample([3], np.array([1])), model.sample([3], np.array([1])))
    assert {file.name for file in folder.iterdir()} == {
        "published.json",
        "generator.safetensors",
        "discriminator.safetensors",
    }


@pytest.mark.parametrize("name", ["published.json", "generator.safetensors", "discriminator.safetensors"])
@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_a_damaged_file_is_noticed(folder: Path, name: str, damage: str) -> None:
    file = folder / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(content if damage == "changed" else content[:-1])
    with pytest.raises(UserError, match=r"^version 3 of it is damaged: `ganflow verify` says what mends it$"):
        load_published(folder, "version 3 of it")


def test_a_way_to_latents_that_is_not_known_is_refused(folder: Path) -> None:
    file = folder / "published.json"
    described = unsealed(file.read_text()) | {"latents": "dice"}
    file.write_text(sealed(described))
    with pytest.raises(UserError, match="is damaged"):
        load_published(folder, "it")


def test_early_champions_have_a_generator_and_the_first_latents(tmp_path: Path) -> None:
    """Of 29edf2a, whose versions hold `model.json` and the generator alone."""
    root = unpack_old_workspace(tmp_path)
    registered = sorted({file.parent for file in (root / "mlruns").rglob("artifacts/model.json")})
    assert len(registered) == 2
    for folder in registered:
        described = json.loads((folder / "model.json").read_text())
        model = load_published(folder, "it")
        assert model.manifest.latents == "torch-mt19937"
        assert model.manifest.precision == described["execution"]["precision"]
        assert list(model.manifest.files) == list(model.weights) == ["generator.safetensors"]
        with pytest.raises(KeyError):
            model.discriminator()
    own = load_published(root / "artifacts" / "model", "it")
    assert list(own.weights) == ["generator.safetensors", "discriminator.safetensors"]
    assert own.discriminator() is not None
