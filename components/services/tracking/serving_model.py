"""The registered model as code: MLflow runs this file where the model is loaded or served.

Only `gan/` is packed with it, under a name that tells its code from that of every other version: a process may load
several of them, and have a module `gan` of its own. So it imports nothing else of the project.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import mlflow

MAX_IMAGES = 10_000


class Generator(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Images by the parameters n, seed, truncation and class; the input is not used."""

    def load_context(self, context: Any) -> None:
        # Beside the folder of the artifacts MLflow keeps the code, which it has made importable.
        (folder,) = Path(next(iter(context.artifacts.values()))).parents[1].glob("code/ganflow_*")
        package = folder.name
        published = import_module(f"{package}.published")
        self._labels_by_name = import_module(f"{package}.sampling").labels_by_name
        described = json.loads(Path(context.artifacts[published.MANIFEST]).read_text())
        described.pop("seal")
        manifest = published.Manifest.model_validate(described)
        weights = {name: manifest.check(name, Path(context.artifacts[name]).read_bytes()) for name in manifest.files}
        self._model = published.Published(manifest, weights)

    # Without type hints, which MLflow would take for the schema of the input.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """(n, H, W, C) uint8: image i has the seed `seed + i`, and the class asked for or the classes in turn.

        Raises:
            MlflowException: a parameter is out of its range (answered as 400 by a server).
        """
        given = {"n": 1, "seed": 0, "truncation": 1.0, "class": "", **(params or {})}
        n, seed, truncation = int(given["n"]), int(given["seed"]), float(given["truncation"])
        if not 1 <= n <= MAX_IMAGES:
            raise _invalid(f"n = {n} must be from 1 to {MAX_IMAGES}")
        if not 0 < truncation <= 1:
            raise _invalid(f"truncation = {truncation} must be above 0 and at most 1")
        try:
            labels = self._labels_by_name(self._model.image.classes, str(given["class"]), n)
        except ValueError as error:
            raise _invalid(str(error)) from None
        return self._model.sample(range(seed, seed + n), labels, truncation)


def _invalid(message: str) -> Exception:
    return mlflow.MlflowException.invalid_parameter_value(message)  # type: ignore[no-any-return]


mlflow.models.set_model(Generator())
