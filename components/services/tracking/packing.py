"""What is packed with a registered model: code, packages and signature, and how its files are known again."""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
from pathlib import Path
from typing import Any

from packaging.version import Version

from ...gan.tasks.options import AnyTask, Restyle, Translate
from ...workspace.artifacts import Model
from ...workspace.files import sha256_of

SERVING_CODE = Path(__file__).with_name("serving_model.py")
PACKED_CODE = Path(__file__).parents[2] / "gan"
# Whenever MLflow loads a model it writes into this file as what. It is hashed as after loading by the model's own id,
# which is how a version's files are read when it is registered.
_LOADED_AS, _LOADED_BY_ID = Path("registered_model_meta"), b"model_name: null\nmodel_version: null\n"
_REQUIREMENTS = ("mlflow", "numpy", "pandas", "pydantic", "safetensors", "torch")


def files_hash(folder: Path) -> str:
    """Hash of the names and bytes of all files of a logged model, however it was loaded last.

    Raises:
        FileNotFoundError: there are none.
    """
    # Python leaves its caches beside code that it loads.
    files = [file.relative_to(folder) for file in folder.rglob("*") if file.is_file() and file.suffix != ".pyc"]
    if not files:
        raise FileNotFoundError(f"there are none in {folder}")
    hashes = {file: sha256_of(folder / file) for file in files}
    hashes[_LOADED_AS] = hashlib.sha256(_LOADED_BY_ID).hexdigest()
    described = [f"{file.as_posix()}\0{sha256}\n" for file, sha256 in sorted(hashes.items())]
    return hashlib.sha256("".join(described).encode()).hexdigest()


def packed_code(folder: Path) -> Path:
    """Copy the code that makes images into `folder`, as a package whose name says which code it is."""
    package = folder / f"ganflow_{files_hash(PACKED_CODE)[:16]}"
    for file in PACKED_CODE.rglob("*.py"):
        copy = package / file.relative_to(PACKED_CODE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        # Not with its mode: as open to others as the user's umask says.
        shutil.copyfile(file, copy)
    return package


def requirements(task: AnyTask) -> list[str]:
    """Return the packages that a model of the task needs, in versions that everybody can install."""
    needed = _REQUIREMENTS if task.name == "generate" else (*_REQUIREMENTS, "pillow")
    # A build such as 2.13.0+cpu is the version 2.13.0.
    return [f"{package}=={Version(importlib.metadata.version(package)).public}" for package in sorted(needed)]


def signature(model: Model) -> Any:
    """Return MLflow's signature: images from nothing but parameters, or pictures from pictures, as bytes of files."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec

    if model.training.task.name != "generate":
        picture, mask = ColSpec(DataType.binary, "image"), ColSpec(DataType.binary, "mask", required=False)
        params = [ParamSpec("strength", DataType.double, 1.0)]
        if isinstance(model.training.task, Translate | Restyle):
            params += [ParamSpec("class", DataType.string, ""), ParamSpec("seed", DataType.long, 0)]
        return ModelSignature(
            inputs=Schema([picture, mask]),
            outputs=Schema([picture]),
            params=ParamSchema(params),
        )
    return ModelSignature(
        outputs=Schema([TensorSpec(np.dtype("uint8"), (-1, *model.image.shape))]),
        params=ParamSchema(
            [
                ParamSpec("n", DataType.long, 1),
                ParamSpec("seed", DataType.long, 0),
                ParamSpec("truncation", DataType.double, 1.0),
                ParamSpec("class", DataType.string, ""),
            ]
        ),
    )
