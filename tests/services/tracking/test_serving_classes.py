"""A served model that carries pictures over: it is asked for a class, and has the channels that it learned."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from components.gan.options import ImageFormat
from components.gan.tasks.options import Restyle, SuperResolve
from components.gan.tasks.windows import in_windows
from components.pictures import metadata
from components.services.tracking.packing import SERVING_CODE, packed_code, signature
from components.workspace.artifacts import Model
from components.workspace.published import load_published, save_published
from tests.pictures.test_photo import saved
from tests.test_apply import workspace_with

CLASSES = ("fluent", "noto")


def served(folder: Path, task: Any, network: str, channels: int) -> tuple[Any, Path]:
    """A model as MLflow loads it, and the folder of the one that was packed."""
    image = ImageFormat(height=48, width=48, channels=channels, classes=CLASSES)
    model = Model.load(workspace_with(folder / "w", task, network, image).model)
    (folder / "files").mkdir()
    save_published(load_published(model.folder, "the model"), folder / "files")
    mlflow.pyfunc.save_model(
        folder / "packed",
        python_model=str(SERVING_CODE),
        artifacts={file.name: file.as_uri() for file in (folder / "files").iterdir()},
        code_paths=[str(packed_code(folder))],
        signature=signature(model),
        pip_requirements=[],
    )
    return mlflow.pyfunc.load_model(str(folder / "packed")), model.folder


def asked(model: Any, picture: Image.Image, **params: Any) -> Image.Image:
    (content,) = model.predict(pd.DataFrame({"image": [saved(picture)]}), params=params)["image"]
    return Image.open(io.BytesIO(content))


def picture(mode: str = "RGBA") -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 31, 4)).astype(np.uint8)).convert(mode)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_class_that_is_asked_for(tmp_path: Path, channels: int) -> None:
    model, folder = served(tmp_path, Restyle(), "unet", channels)
    for label, name in enumerate(CLASSES):
        made = asked(model, picture(), **{"class": name})
        white = Image.alpha_composite(Image.new("RGBA", (31, 20), "white"), picture())
        given = {1: white.convert("L"), 3: white.convert("RGB"), 4: picture()}[channels]
        expected = in_windows(load_published(folder, "it"), np.atleast_3d(np.asarray(given)), label=label)
        assert np.array_equal(np.atleast_3d(np.asarray(made)), expected)
        assert metadata.mark_in(made.info["XML:com.adobe.xmp"].encode()) == metadata.GENERATED
    with pytest.raises(mlflow.MlflowException, match="are to become: fluent, noto"):
        asked(model, picture())
    with pytest.raises(mlflow.MlflowException, match="there is no class 'apple'"):
        asked(model, picture(), **{"class": "apple"})


def test_other_tasks_have_no_such_parameters(tmp_path: Path) -> None:
    model, _ = served(tmp_path, SuperResolve(factor=2), "edsr", 3)
    assert asked(model, picture()).mode == "RGBA"
    assert [param.name for param in model.metadata.get_params_schema().params] == ["strength"]
