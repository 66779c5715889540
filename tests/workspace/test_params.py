"""Parameters: defaults, overrides, presets and sizes, and what is said of wrong ones."""

from pathlib import Path

import pytest
import torch

from components.gan.errors import UserError
from components.gan.models import build
from components.gan.network_options import NETWORKS
from components.gan.options import ImageFormat, TrainingOptions
from components.workspace.params import Params, Train
from components.workspace.presets import PRESETS, preset
from tests.conftest import PROJECT


def load(tmp_path: Path, text: str, *overrides: str) -> Params:
    (tmp_path / "params.yaml").write_text(text)
    return Params.load(tmp_path / "params.yaml", overrides)


def test_our_params_are_valid_and_an_empty_file_has_the_defaults(tmp_path: Path) -> None:
    Params.load(PROJECT / "params.yaml")
    assert load(tmp_path, "") == Params()


def test_overrides_win(tmp_path: Path) -> None:
    params = load(tmp_path, "train: {images: 64}", "train.images=128", "train.network.name=mlp", "register.name=faces")
    assert params.train.images == 128
    assert params.train.network.name == "mlp"
    assert params.register.name == "faces"


def test_a_network_brings_its_recipe_and_what_is_set_wins(tmp_path: Path) -> None:
    train = load(tmp_path, "train: {network: {name: r3gan}, r2_gamma: 3}").train
    assert (train.loss, train.penalty_every, train.r2_gamma) == ("relativistic", 1, 3)
    assert load(tmp_path, "train: {network: {name: dcgan}}").train.loss == "non_saturating"


@pytest.mark.parametrize("name", NETWORKS)
def test_size_is_width_and_depth_of_what_is_not_named(tmp_path: Path, name: str) -> None:
    image = ImageFormat(height=32, width=32, channels=3, classes=("a", "b"))
    weights = []
    for size in ("small", "base", "large"):
        network = load(tmp_path, f"train: {{size: {size}, network: {{name: {name}, latent: 50}}}}").train.network
        assert network.latent == 50
        with torch.device("meta"):
            weights.append([sum(p.numel() for p in n.parameters()) for n in build(network, image)])
    assert all(small < base < large for small, base, large in zip(*weights, strict=True))
    assert load(tmp_path, f"train: {{size: base, network: {{name: {name}}}}}").train.network == NETWORKS[name]()


def test_size_stands_in_the_network_and_changes_no_key_by_itself(tmp_path: Path) -> None:
    sized = load(tmp_path, "train: {size: large}").train
    spelt_out = load(tmp_path, "train: {network: {name: dcgan, generator_width: 128, discriminator_width: 64}}").train
    assert sized.hashed == spelt_out.hashed


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_replaces_train_and_overrides_change_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("train: {network: {name: mlp}, images: 3, seed: 5}\nregister: {name: faces}")
    params = Params.load(path, ["train.batch=96"], preset(name))
    assert params.train.batch == 96
    assert (params.train.seed, params.register.name) == (0, "faces")
    assert params.train.images == PRESETS[name].train.get("images", 192_000)
    (height, width), paired = params.preprocess.shape, params.preprocess.input is not None
    image = ImageFormat(height=height, width=width, channels=3, classes=("a", "b"), paired=paired)
    with torch.device("meta"):
        build(params.train.network, image, params.train.task)


def test_a_preset_sets_what_it_needs_of_preprocess_and_leaves_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("preprocess: {resolution: 28, fit: pad, holdout: 0.3}")
    cut = Params.load(path, ["preprocess.patches_per_file=9"], preset("photos-x4")).preprocess
    assert (cut.fit, cut.resolution, cut.holdout, cut.patches_per_file) == ("patches", 64, 0.3, 9)
    whole = Params.load(path, [], preset("cifar-colorize")).preprocess
    assert (whole.fit, whole.resolution) == ("crop", 32)
    assert Params.load(path, [], preset("digits")).preprocess.fit == "pad"
    path.write_text("preprocess: {fit: patches, reduce: 2}")
    with pytest.raises(UserError, match="reduce is for fit: patches"):
        Params.load(path, [], preset("cifar-colorize"))


def test_an_unknown_preset_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean fashion-r3gan"):
        preset("fashion-r3gn")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "train: {imagess: 64}",
            r"train.imagess is not a parameter; did you mean images\? Allowed here: task, network, images",
        ),
        ("trian: {images: 64}", r"trian is not a parameter; did you mean train\? Allowed here: preprocess, train"),
        ("train: {images: many}", r"train.images = 'many' is not allowed: .*integer"),
        ("train: {images: -1}", r"train.images = -1 is not allowed: .*greater than 0"),
        ("train: {network: {name: gan9000}}", r"train.network.name = 'gan9000' is not allowed: .*'mlp', 'dcgan'"),
        (
            "train: {network: {name: mlp, width: 3}}",
            r"train.network.mlp.width is not a parameter; allowed here: name, ",
        ),
        ("train: {augment: [blur]}", r"train.augment.0 = 'blur' is not allowed: .*'color', 'translation' or 'cutout'"),
        ("train: {r1_gamma: -1}", r"train.r1_gamma = -1 is not allowed: .*greater than or equal to 0"),
        ("train: {r1_gamma: {start: 1}}", "train.r1_gamma.end is missing"),
        ("train: {workers: {min: 4, max: 1}}", "train.workers: min is more than max"),
        (
            "train: {workers: x}",
            r"train.workers = 'x' is not allowed: .*'auto' or a valid integer or a mapping of keys$",
        ),
        (
            "preprocess: {resolution: [3, 4]}",
            r"preprocess.resolution.0 = 3 is not allowed: .*greater than or equal to 8",
        ),
        ("postprocess: {steps: [{nam: blur}]}", "postprocess.steps.0.name is missing"),
        ("{train: {task: {name: colorize}}, preprocess: {fit: patches}}", "set preprocess.fit to crop"),
        ("promot: {}", r"promot is not a parameter; did you mean promote\? Allowed here"),
        ("zebra: {}", "zebra is not a parameter; allowed here: preprocess"),
        ("train: {path_length_weight: 1}", "train: path_length_weight needs the network stylegan2"),
        ("train: {network: {name: stylegan2}, batch: 30}", "train: batch must be a multiple"),
        ("train: {size: huge}", r"train.size = 'huge' is not allowed: .*'small', 'base' or 'large'"),
        ("preprocess: {holdout: 1.5}", r"preprocess.holdout = 1.5 is not allowed: .*less than 1"),
        ("train: [", "not valid YAML"),
        (f"train: {{images: 0x{'f' * 9_000}}}", "more than 100 digits"),
        ("preprocess: {holdout: 1" + ":59" * 9_000 + ".5}", "more than 100 digits"),
        ("train: {seed: 1}\ndrift: {}\ntrain: {images: 64}", "the key train stands twice, in line 3 again"),
        ("train: {seed: 1, seed: 2}", "the key seed stands twice"),
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


@pytest.mark.parametrize("train", [{"network": {"name": "r3gan"}}, {"loss": "relativistic"}, {"loss": "wasserstein"}])
def test_augmentation_does_not_adapt_by_a_loss_without_a_boundary(train: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="give it a number"):
        Train.model_validate({**train, "ada": {}})
    fixed = Train.model_validate({**train, "ada": {"probability": 0.3}})
    # What was trained so is still described.
    assert TrainingOptions.model_validate(fixed.loop.model_dump() | {"ada": {}}).ada is not None


@pytest.mark.parametrize(
    "place",
    ["s3://b?SECRET_KEY=x", "abfs://c@account/x?sv=1&sig=x", "s3://b?access_key=x", "a\\0b", "\\ud800", "a\\e[2J"],
)
def test_a_place_without_secrets_and_signs_that_command(tmp_path: Path, place: str) -> None:
    with pytest.raises(UserError, match=r"retrain\.inbox: ") as error:
        load(tmp_path, f'retrain: {{inbox: "{place}"}}')
    assert place not in str(error.value)
    assert load(tmp_path, "retrain: {inbox: abfs://c@account/x}").retrain.inbox == "abfs://c@account/x"


@pytest.mark.parametrize("key", ["train.seed", "evaluate.seed"])
def test_seeds_are_numbers_that_generators_take(tmp_path: Path, key: str) -> None:
    load(tmp_path, "", f"{key}={2**53 - 1}")
    with pytest.raises(UserError, match=f"{key} = .* is not allowed"):
        load(tmp_path, "", f"{key}={2**53}")
