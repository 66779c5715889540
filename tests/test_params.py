from pathlib import Path

import pytest

from components.gan.options import UserError
from components.params import Params
from tests.conftest import PROJECT


def load(tmp_path: Path, text: str, *overrides: str) -> Params:
    (tmp_path / "params.yaml").write_text(text)
    return Params.load(tmp_path / "params.yaml", overrides)


def test_the_projects_own_parameters_are_valid_and_an_empty_file_has_the_defaults(tmp_path: Path) -> None:
    Params.load(PROJECT / "params.yaml")
    assert load(tmp_path, "") == Params()


def test_overrides_win(tmp_path: Path) -> None:
    params = load(tmp_path, "train: {images: 64}", "train.images=128", "train.network.name=mlp", "register.name=faces")
    assert params.train.images == 128
    assert params.train.network.name == "mlp"
    assert params.register.name == "faces"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "train: {imagess: 64}",
            r"train.imagess is not a parameter; did you mean images\? Allowed here: network, images",
        ),
        ("trian: {images: 64}", r"trian is not a parameter; did you mean train\? Allowed here: preprocess, train"),
        ("train: {images: many}", r"train.images = 'many' is not allowed: .*integer"),
        ("train: {images: -1}", r"train.images = -1 is not allowed: .*greater than 0"),
        ("train: {network: {name: gan9000}}", r"train.network .* is not allowed: .*'mlp', 'dcgan'"),
        (
            "train: {network: {name: mlp, width: 3}}",
            r"train.network.mlp.width is not a parameter.* Allowed here: name, ",
        ),
        ("train: {augment: [blur]}", r"train.augment.0 = 'blur' is not allowed: .*'color', 'translation' or 'cutout'"),
        ("preprocess: {holdout: 1.5}", r"preprocess.holdout = 1.5 is not allowed: .*less than 1"),
        ("train: [", "not valid YAML"),
        ("- 1", "must hold the sections preprocess, train"),
        ("train: 5", "train = 5 is not allowed"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(tmp_path, text)


@pytest.mark.parametrize("override", ["train.images", "images=3", "train.images.x=3", "train.images=["])
def test_a_wrong_override_is_named(tmp_path: Path, override: str) -> None:
    with pytest.raises(UserError, match="--set"):
        load(tmp_path, "train: {images: 64}", override)


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--workspace"):
        Params.load(tmp_path / "params.yaml")
