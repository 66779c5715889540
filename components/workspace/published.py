"""A published model as files: every byte is checked before it is used, and what is registered is what was loaded."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError

from ..gan.errors import DamagedError
from ..gan.options import STORED
from ..gan.published import FILES, MANIFEST, Manifest, Published
from .artifacts import Model
from .files import sealed, unsealed


def load_published(folder: Path, called: str) -> Published:
    """Return the model in `folder`, a stage's or a registered one, which a user knows as `called`.

    Raises:
        DamagedError: a file is missing, or is not what was written.
    """
    try:
        manifest = _manifest(folder)
        if FILES["generator"] not in manifest.files or manifest.files.keys() - FILES.values():
            raise ValueError("it names other files than weights")
        weights = {name: manifest.check(name, (folder / name).read_bytes()) for name in manifest.files}
        for content in weights.values():
            # Their hash says that they are what was written, not that this is what it should be.
            safetensors.torch.load(content)
        return Published(manifest, weights)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError):
        raise DamagedError(f"{called} is damaged: `ganflow verify` says what mends it") from None


def save_published(model: Published, folder: Path) -> None:
    """Write the model into `folder`, as `load_published` reads it."""
    for name, content in model.weights.items():
        (folder / name).write_bytes(content)
    (folder / MANIFEST).write_text(sealed(model.manifest.model_dump(mode="json")))


def _manifest(folder: Path) -> Manifest:
    """Return the manifest of what was registered, else by the description of the stage `train`.

    That description lies beside the weights of champions from before there were manifests too; of their networks the
    generator alone was registered, and how their latents are made they do not say.
    """
    if (folder / MANIFEST).exists():
        return Manifest.model_validate(unsealed((folder / MANIFEST).read_text()), context=STORED)
    described = unsealed((folder / Model.manifest).read_text())
    there = [name for name in FILES.values() if name == FILES["generator"] or (folder / name).exists()]
    manifest = {
        "network": described["training"]["network"],
        "task": described["training"].get("task", {"name": "generate"}),
        "image": described["image"],
        "precision": described["execution"]["precision"],
        "latents": described.get("latents", "torch-mt19937"),
        "files": {name: described["files"][name]["sha256"] for name in there},
    }
    return Manifest.model_validate(manifest, context=STORED)
