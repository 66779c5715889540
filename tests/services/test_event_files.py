"""`ganflow tensorboard`: event files with the curves and grids of trainings, as TensorBoard reads them."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.services.event_files import EventFiles
from components.training.checkpoints import TrainingFolder
from components.workspace.artifacts import Model
from components.workspace.workspace import Workspace
from tests.conftest import ganflow, refused, succeeded


def values_of(folder: Path) -> dict[tuple[str, int], Any]:
    """What event files hold, by tag and step: a number, or the bytes of a picture."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for file in folder.iterdir():
        for record in records_of(file.read_bytes()):
            event = Event.FromString(record)
            for value in event.summary.value:
                shown = value.image.encoded_image_string or value.simple_value
                assert (value.tag, event.step) not in found
                found[value.tag, event.step] = shown
    return found


def records_of(content: bytes) -> Iterator[bytes]:
    """The records of a TFRecord file: their length (8 bytes), its checksum (4), themselves, and theirs (4)."""
    at = 0
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        yield content[at + 12 : at + 12 + length]
        at += 16 + length


@pytest.mark.skipif(find_spec("tensorboard") is not None, reason="TensorBoard is installed, and would run on")
def test_curves_and_grids_are_written_where_trainings_are(finished: Path, tmp_path: Path) -> None:
    training = finished / ".ganflow" / "training"
    assert training.is_dir()
    before = {path for path in finished.rglob("*") if "tensorboard" in path.parts}
    assert not before
    root = tmp_path / "copy"
    root.mkdir()
    (root / ".ganflow").mkdir()
    for name in ("training", "ledger.jsonl"):
        (root / ".ganflow" / name).symlink_to(finished / ".ganflow" / name)
    out = succeeded(ganflow(root, "tensorboard"))
    assert "tensorboard --logdir" in out
    (folder,) = (root / ".ganflow" / "tensorboard").iterdir()
    key = Model.load(Workspace(finished).model).key.id
    assert folder.name.endswith(key[:6])
    run, found = TrainingFolder(training / key), values_of(folder)
    rows, _ = run.read_progress()
    for row in rows:
        assert math.isclose(found["training/generator_loss", row["images"]], row["generator_loss"], rel_tol=1e-6)
        if "score" in row:
            assert math.isclose(found["score/score", row["images"]], row["score"], rel_tol=1e-6)
            grid = np.asarray(Image.open(run.samples / f"{row['images']:012d}.png").convert("RGB"))
            assert np.array_equal(np.asarray(Image.open(io.BytesIO(found["samples", row["images"]]))), grid)
    assert sum(tag == "samples" for tag, _ in found) == sum("score" in row for row in rows) > 0


def test_a_point_is_written_once_and_what_is_no_number_not_at_all(tmp_path: Path) -> None:
    files = EventFiles(tmp_path / "run")
    first = {"images": 64, "generator_loss": 1.0, "r1": math.nan}
    assert files.add([{"note": "going back"}, first], tmp_path) == 1
    assert files.add([first, {"images": 128, "generator_loss": 2.0}], tmp_path) == 1
    files.close()
    found = values_of(tmp_path / "run")
    assert found == {("training/generator_loss", 64): 1.0, ("training/generator_loss", 128): 2.0}


def test_without_a_training_there_is_nothing_to_show(tmp_path: Path) -> None:
    assert "has no training" in refused(tmp_path, "tensorboard")
    assert not (tmp_path / ".ganflow").exists()
