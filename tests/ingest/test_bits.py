"""Images of 16 bits that use fewer of them: cameras and scanners write 10, 12 or 14."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components import preprocess as stage
from components.gan.dataset import Split
from components.gan.errors import UserError
from components.workspace.params import Preprocess
from tests.conftest import SPLITS, made_dataset

COUNT = 60


def ramps(root: Path, bits: int, ending: str = "png", name: str = "") -> Path:
    """Images whose largest value is the largest of `bits` bits in one of them alone."""
    (root / "data").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(bits)
    for i in range(COUNT):
        values = rng.integers(0, 2**bits if i == 7 else 2 ** (bits - 1), (16, 16)).astype(np.uint16)
        values[0, 0] = 2**bits - 1 if i == 7 else 0
        if ending == "npy":
            np.save(root / "data" / f"{name}{i}.npy", values)
        else:
            Image.fromarray(values).save(root / "data" / f"{name}{i}.{ending}")
    return root


def pixels(root: Path, **options: object) -> np.ndarray:
    dataset = made_dataset(root, Preprocess.model_validate({"resolution": 16, **options}))
    splits = [Split(dataset.folder, name, dataset.image) for name in SPLITS]
    return np.concatenate([split.pixels(np.arange(len(split))) for split in splits])


@pytest.mark.parametrize("ending", ["png", "tiff", "npy"])
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_all_grey_levels_are_kept(tmp_path: Path, bits: int, ending: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = pixels(ramps(tmp_path, bits, ending))
    assert len(found) == COUNT and found.max() == 255
    # Divided as if they used 16 bits, those of 12 had sixteen levels.
    assert len(np.unique(found)) > 128
    assert f"use {bits} of them (the largest value is {2**bits - 1:,})" in capsys.readouterr().out


def test_sixteen_bits_and_dark_ones_are_taken_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for bits in (15, 16):
        assert pixels(ramps(tmp_path / str(bits), bits)).max() == round((2**bits - 1) / 257)
    assert "bits" not in capsys.readouterr().out


def test_the_number_can_be_said(tmp_path: Path) -> None:
    root = ramps(tmp_path, 12)
    assert pixels(root, bits=16).max() == round(4095 / 257)
    assert pixels(root, bits=14).max() == round(4095 * 255 / 16383)
    with pytest.raises(UserError, match=r"of 60 files cannot be used .*beyond preprocess.bits = 11"):
        pixels(root, bits=11)
    with pytest.raises(UserError, match=r"strict refuses.*set preprocess.bits to 12 or 16"):
        pixels(root, strict=True)


def test_other_images_of_the_set_are_as_they_were(tmp_path: Path) -> None:
    root = ramps(tmp_path, 12)
    rng = np.random.default_rng(0)
    plain = rng.integers(0, 256, (16, 16)).astype(np.uint8)
    Image.fromarray(plain).save(root / "data" / "plain.png")
    assert any((each[:, :, 0] == plain).all() for each in pixels(root))


def test_an_interruption_between_the_two_passes_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pixels(ramps(tmp_path / "one", 12))
    root, pack = ramps(tmp_path / "two", 12), stage._pack

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    for cut in ("settled_bits", "_pack"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(stage, cut, interrupted)
            pixels(root)
    assert stage._pack is pack and (pixels(root) == whole).all()
