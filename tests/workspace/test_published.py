"""Folders of published models: what is written is what is loaded, and nothing that was changed is."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from components.gan.errors import DamagedError, UserError
from components.gan.network_options import MLP
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


def safetensors_of(header: bytes, data: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + data


NOT_SAFETENSORS = {
    "empty": b"",
    "short": b"\0" * 5,
    "text": b"these are no weights" * 50,
    "no JSON": safetensors_of(b"[" * 1000),
    "long header": (2**62).to_bytes(8, "little") + b"{}",
    "no tensors": safetensors_of(b"{}"),
    "lying offsets": safetensors_of(b'{"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 999]}}'),
    "huge shape": safetensors_of(
        b'{"a": {"dtype": "F32", "shape": [99999999999, 9999], "data_offsets": [0, 4]}}', b"12"
    ),
    "strange type": safetensors_of(b'{"a": {"dtype": "X9", "shape": [1], "data_offsets": [0, 4]}}', b"1234"),
}


@pytest.mark.parametrize("content", NOT_SAFETENSORS.values(), ids=NOT_SAFETENSORS)
@pytest.mark.parametrize("player", ["generator", "discriminator"])
def test_weights_that_are_none_are_told_though_their_hash_fits(folder: Path, player: str, content: bytes) -> None:
    name = f"{player}.safetensors"
    (folder / name).write_bytes(content)
    described = unsealed((folder / "published.json").read_text())
    described["files"][name] = hashlib.sha256(content).hexdigest()
    (folder / "published.json").write_text(sealed(described))
    with pytest.raises(DamagedError) as told:
        model = load_published(folder, "it")
        # Well-formed ones of another network are told where it is built.
        getattr(model, player)()
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("change", ["another file", "no generator", "no files", "deep", "list", "NaN"])
def test_a_strange_manifest_is_told_though_its_seal_fits(folder: Path, change: str) -> None:
    described = unsealed((folder / "published.json").read_text())
    secret = folder.parent / "secret"
    secret.write_bytes(b"secret")
    if change == "another file":
        described["files"] |= {f"../{secret.name}": hashlib.sha256(b"secret").hexdigest()}
    elif change == "no generator":
        del described["files"]["generator.safetensors"]
    elif change == "no files":
        described["files"] = {}
    elif change == "list":
        described["network"] = []
    elif change == "NaN":
        described["image"]["height"] = float("nan")
    text = sealed(described)
    if change == "deep":
        text = text.replace('"network": {', f'"network": {"[" * 100_000}', 1)
    (folder / "published.json").write_text(text)
    with pytest.raises(DamagedError, match="it is damaged"):
        load_published(folder, "it")
