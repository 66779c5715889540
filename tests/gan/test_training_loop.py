"""The training loop: it resumes in the same bits, learns, and computes the same on any number of ranks."""

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from components.gan.curves import diversity
from components.gan.dataset import Split
from components.gan.errors import DivergedError
from components.gan.losses import LOSSES
from components.gan.models import build
from components.gan.models.layers import BatchNorm
from components.gan.network_options import NETWORKS
from components.gan.options import Execution, ImageFormat, Ramp, TrainingOptions
from components.gan.schedules import at, ema_decay, learning_rate_factor
from components.gan.training_loop import START, State, training_loop
from tests.gan.test_models import NARROW
from tests.harness.float64 import in_float64
from tests.harness.ranks import spawn

# Each network under its recipe and with the regularisers that it may have, so that each of them is tested with one.
SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"network": {"conditional": True}, "wgan_gp_weight": 10, "r1_gamma": 0},
    "dcgan": {
        "network": {"generator_width": 8, "discriminator_width": 8},
        "r2_gamma": 0.5,
        "augment": (),
        # Likely from the fifth step on, whatever the logits.
        "ada": {"images_to_one": 200, "target": -0.9},
    },
    "biggan": {"network": {"width": 4, "latent": 12, "embedding": 8}, "r1_gamma": 0.1},
    "stylegan2": {
        "network": {"width": 4, "max_width": 8, "style": 8, "latent": 8, "mapping_layers": 2},
        "path_length_every": 2,
    },
    "r3gan": {"network": {"width": 16, "blocks": 1, "group": 8, "latent": 8, "embedding": 8}, "mirror": True},
}
ALL = list(NETWORKS)
DIGITS = ImageFormat(height=28, width=28, channels=1, classes=tuple("0123456789"))
# Without momentum Adam's first moment is the gradient itself. Adam divides it by its size, so that where a gradient is
# all rounding its sign is too: steps of no size keep that out of the comparison.
GRADIENTS: dict[str, Any] = {
    "adam_betas": (0.0, 0.99),
    "learning_rate_generator": 1e-12,
    "learning_rate_discriminator": 1e-12,
}
FP32 = Execution(workers=1, threads=2, device="cpu", precision="fp32")


def options(name: str, **changes: Any) -> TrainingOptions:
    small = SMALL.get(name, {})
    network = {"name": name, **NARROW.get(name, {}), **small.get("network", {}), **changes.pop("network", {})}
    values = {"images": 96, "batch": 16, "log_every": 16, "d_steps": 1, "augment": ("color", "translation", "cutout")}
    if name == "mlp":
        # On several ranks too.
        values |= {"ema_half_lives": (20,)}
        values |= {"sampling": "balanced"} if network["conditional"] else {}
    every = {} if name == "r3gan" else {"penalty_every": 2}
    return TrainingOptions(**{**values, **every, **small, **changes, "network": network})


def states(options: TrainingOptions, split: Split, execution: Execution = FP32, state: State = START) -> list[State]:
    """The state at every step boundary."""
    return [progress.state() for progress in training_loop(options, split, execution, state)]


@pytest.mark.parametrize("network", ALL)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_resume_at_any_step_ends_in_the_same_bits(network: str, precision: str, split: Split) -> None:
    execution = FP32.model_copy(update={"precision": precision})
    chosen = options(network)
    whole = states(chosen, split, execution)
    assert [state.images for state in whole] == [16, 32, 48, 64, 80, 96]
    for state in whole[:-1]:
        resumed = states(chosen, split, execution, state)[-1]
        assert resumed.step == 6
        assert resumed.tensors.keys() == whole[-1].tensors.keys()
        assert all(torch.equal(resumed.tensors[name], tensor) for name, tensor in whole[-1].tensors.items())


@pytest.mark.parametrize("network", ALL)
@pytest.mark.parametrize("conditional", [True, False])
def test_every_parameter_learns(network: str, conditional: bool, split: Split) -> None:
    chosen = options(network, d_steps=2, network={"conditional": conditional})
    first, *_, last = states(chosen, split)
    for prefix, module in zip(("generator", "discriminator"), build(chosen.network, split.image), strict=True):
        for name, _ in module.named_parameters():
            for owner in (prefix, "ema") if prefix == "generator" else (prefix,):
                assert not torch.equal(last.tensors[f"{owner}/{name}"], first.tensors[f"{owner}/{name}"]), name


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains(loss: str, split: Split) -> None:
    *_, last = training_loop(options("dcgan", loss=loss, ada=None), split, FP32)
    assert all(np.isfinite(value) for value in last.metrics.values())


# What a shortcut may cost: bf16 changes a step's gradient by its rounding, and nothing else does by anything.
@pytest.mark.parametrize("network", ALL)
def test_the_gradient_in_bf16_points_where_that_in_fp32_does(network: str, split: Split) -> None:
    # Wider, or of more images, because the rounding of few products does not average out.
    wide: dict[str, Any] = {
        "dcgan": {"generator_width": 32, "discriminator_width": 32},
        "biggan": {"width": 16},
        "stylegan2": {"width": 16, "max_width": 32},
    }
    batch = 128 if network == "dcgan" else 16
    step = {"images": batch, "batch": batch, "log_every": batch, "augment": (), "penalty_every": 1}
    found = {}
    for precision in ("fp32", "bf16"):
        chosen = options(network, **GRADIENTS, **step, network=wide.get(network, {}))
        (only,) = states(chosen, split, FP32.model_copy(update={"precision": precision}))
        for player in ("generator", "discriminator"):
            moments = [t for name, t in only.tensors.items() if re.fullmatch(rf"adam_{player}/\d+/exp_avg", name)]
            found[precision, player] = torch.cat([moment.flatten() for moment in moments])
    for player in ("generator", "discriminator"):
        gradients = found["fp32", player], found["bf16", player]
        assert torch.cosine_similarity(*gradients, dim=0).item() > 0.99, player


def test_discriminator_learns_to_tell_real_from_generated(split: Split) -> None:
    frozen_G = options(
        "dcgan", r2_gamma=0, images=3200, batch=32, log_every=320, learning_rate_generator=1e-9, augment=(), ada=None
    )
    curve = [progress.metrics for progress in training_loop(frozen_G, split, FP32)]
    assert curve[-1]["discriminator_loss"] < 0.5 * curve[0]["discriminator_loss"]
    assert curve[-1]["discriminator_accuracy"] > 0.95


def test_metrics_are_averaged_over_the_images_of_an_interval(split: Split) -> None:
    fine = [p.metrics["discriminator_loss"] for p in training_loop(options("mlp", wgan_gp_weight=0), split, FP32)]
    coarse = [
        p.metrics["discriminator_loss"]
        for p in training_loop(options("mlp", wgan_gp_weight=0, log_every=48), split, FP32)
    ]
    # Sums of 48 losses in fp32: 48 * 2^-24 of their size.
    assert coarse == pytest.approx([np.mean(fine[:3]), np.mean(fine[3:])], rel=3e-6)


@pytest.mark.parametrize("changes", [{"loss": loss} for loss in LOSSES] + [{"augment": ()}, {"d_steps": 2}])
def test_a_resume_is_exact_with_every_loss_and_augmentation(changes: dict[str, Any], split: Split) -> None:
    chosen = options("dcgan", **{"ada": None, **changes})
    whole = states(chosen, split)
    for state in whole[:-1]:
        resumed = states(chosen, split, FP32, state)[-1]
        assert all(torch.equal(resumed.tensors[name], tensor) for name, tensor in whole[-1].tensors.items())


@pytest.mark.parametrize("changes", [{"sampling": "balanced"}, {"ema_half_lives": (8.0, 20.5)}])
def test_a_resume_is_exact_with_every_order_and_average(changes: dict[str, Any], split: Split) -> None:
    chosen = options("dcgan", **{"ada": None, **changes})
    whole = states(chosen, split)
    assert {f"ema_{h:g}/project.weight" for h in chosen.ema_half_lives} <= whole[-1].tensors.keys()
    for state in whole[:-1]:
        resumed = states(chosen, split, FP32, state)[-1]
        assert all(torch.equal(resumed.tensors[name], tensor) for name, tensor in whole[-1].tensors.items())


def test_more_averages_change_nothing_else_and_each_is_that_of_its_half_life(split: Split) -> None:
    """Three in one training are those of three trainings."""
    several = states(options("dcgan", ema_half_life=50, ema_half_lives=(8, 20)), split)[-1].tensors
    for half_life, name in ((50, "ema"), (8, "ema_8"), (20, "ema_20")):
        alone = states(options("dcgan", ema_half_life=half_life), split)[-1].tensors
        assert several.keys() > alone.keys()
        for key, tensor in alone.items():
            of, _, rest = key.partition("/")
            assert torch.equal(several[f"{name if of == 'ema' else of}/{rest}"], tensor), key


def test_another_attempt_draws_other_noise_also_after_a_resume(split: Split) -> None:
    chosen = options("dcgan")
    first, *_, last = states(chosen, split)
    second = states(chosen, split, FP32, first._replace(attempt=1))
    assert {state.attempt for state in second} == {1}
    assert not torch.equal(second[-1].tensors["generator/project.weight"], last.tensors["generator/project.weight"])
    resumed = states(chosen, split, FP32, second[1])[-1]
    assert all(torch.equal(resumed.tensors[name], tensor) for name, tensor in second[-1].tensors.items())


def test_a_weight_that_is_not_finite_is_told(split: Split) -> None:
    chosen = options("dcgan")
    state = states(chosen, split)[0]
    state.tensors["ema/project.weight"][0, 0] = torch.inf
    with pytest.raises(DivergedError, match=r"before image 32 \(weights of the ema not finite\)"):
        states(chosen, split, FP32, state)


def test_diversity_is_that_within_a_class() -> None:
    label = torch.tensor([0, 1, 0, 1])
    by_class = torch.tensor([0.0, 5.0, 0.0, 5.0]).view(4, 1, 1, 1).expand(4, 1, 2, 2)
    real = by_class + torch.tensor([0.0, 0.0, 1.0, 1.0]).view(4, 1, 1, 1)
    assert diversity(by_class, real, label).item() == pytest.approx(0, abs=1e-5)
    assert diversity(real, real, label).item() == 1
    # No two of a class: all are compared.
    assert diversity(by_class, by_class, torch.arange(4)).item() == 1


def test_divergence_is_told(split: Split) -> None:
    with pytest.raises(DivergedError, match="diverged"):
        list(
            training_loop(
                options("mlp", wgan_gp_weight=0, learning_rate_discriminator=1e30, images=3200),
                split,
                FP32,
            )
        )


def test_schedules_are_functions_of_images() -> None:
    falling = options("mlp", wgan_gp_weight=0, images=1000, learning_rate_decay=0.5)
    assert [learning_rate_factor(falling, images) for images in (0, 500, 750, 1000)] == [1, 1, 0.5, 0]
    assert learning_rate_factor(options("mlp", wgan_gp_weight=0, images=1000, learning_rate_decay=0), 999) == 1
    steady = options("mlp", wgan_gp_weight=0, ema_half_life=100, ema_rampup=0.1)
    assert ema_decay(steady, 10_000) ** (100 / 16) == pytest.approx(0.5)
    assert ema_decay(steady, 100) ** (10 / 16) == pytest.approx(0.5)
    ramp = Ramp(start=2, end=0, images=400)
    assert [at(ramp, images, steady) for images in (0, 200, 400, 900)] == pytest.approx([2, 1, 0, 0])
    assert at(ramp, 100, steady) == pytest.approx(1 + 0.5**0.5)
    assert at(Ramp(start=0, end=1, shape="linear"), 24, steady) == pytest.approx(0.25)
    assert ema_decay(options("mlp", ema_half_life=Ramp(start=0, end=100)), 0) == 0
    rested = Ramp(start=1, end=3, images=400, rest=0.5, shape="linear")
    assert [at(rested, images, steady) for images in (0, 200, 300, 400, 900)] == pytest.approx([1, 1, 2, 3, 3])


def test_the_batch_is_cut_in_groups_that_stay_together() -> None:
    shares = [options("stylegan2").share(rank, 3) for rank in range(3)]
    assert shares == [slice(0, 4), slice(4, 8), slice(8, 16)]
    assert [options("dcgan").share(rank, 3) for rank in range(3)] == [slice(0, 5), slice(5, 10), slice(10, 16)]


# --- several ranks ---


def _trained(network: str, split: Split) -> dict[str, torch.Tensor]:
    """The state and the metrics after steps with every penalty, in float64."""
    # The adaptive augmentation of dcgan begins with the fifth step.
    changes = {"images": 80 if network == "dcgan" else 32, "penalty_every": 1}
    if network == "stylegan2":
        changes["path_length_every"] = 1
    with in_float64():
        last = list(training_loop(options(network, **GRADIENTS, **changes), split, FP32))[-1]
    # All but diversity, which each rank sees among its own images.
    values = [value for name, value in last.metrics.items() if name != "diversity"]
    return {**last.state().tensors, "metrics": torch.tensor(values, dtype=torch.float64)}


def _train_rank(rank: int, ranks: int, folder: Path, out: Path) -> None:
    for network in ALL:
        torch.save(_trained(network, Split(folder, "training", DIGITS)), out / f"{network}-{rank}.pt")


@pytest.fixture(scope="module")
def trained_alone(split_folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """What one process has after a few steps of every network."""
    torch.set_num_threads(1)
    return {network: _trained(network, Split(split_folder, "training", DIGITS)) for network in ALL}


@pytest.fixture(scope="module", params=[2, 3])
def trained_by_ranks(
    request: pytest.FixtureRequest, split_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What each of 2 or 3 ranks has after a few steps of every network; processes start once for all of them."""
    out = tmp_path_factory.mktemp("ranks")
    spawn(_train_rank, request.param, split_folder, out)
    return out


@pytest.mark.parametrize("network", ALL)
def test_any_number_of_ranks_computes_the_gradients_of_one_process(
    network: str, trained_by_ranks: Path, trained_alone: dict[str, dict[str, torch.Tensor]]
) -> None:
    # 16 images over 3 ranks are unequal shares; so are its 4 groups for minibatch standard deviation.
    found = [torch.load(file, weights_only=True) for file in sorted(trained_by_ranks.glob(f"{network}-*.pt"))]
    assert len(found) in (2, 3)
    for name, tensor in trained_alone[network].items():
        assert all(torch.equal(found[0][name], other[name]) for other in found[1:]), name
        assert (found[0][name] - tensor).norm() <= 1e-9 * tensor.norm() + 1e-15, name


def _resume_rank(rank: int, ranks: int, folder: Path, out: Path) -> None:
    split = Split(folder, "training", DIGITS)
    resumed = 0
    for network in ALL:
        whole = states(options(network), split)
        for state in whole[:-1]:
            last = states(options(network), split, FP32, state)[-1]
            resumed += all(torch.equal(last.tensors[name], tensor) for name, tensor in whole[-1].tensors.items())
    (out / str(rank)).write_text(str(resumed))


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_resume_of_several_ranks_ends_in_the_same_bits(ranks: int, split_folder: Path, tmp_path: Path) -> None:
    spawn(_resume_rank, ranks, split_folder, tmp_path)
    # Five boundaries within six steps.
    assert [file.read_text() for file in tmp_path.iterdir()] == [str(5 * len(ALL))] * ranks


def _norm_rank(rank: int, ranks: int, out: Path) -> None:
    x, weight = _norm_input()
    share = slice(len(x) * rank // ranks, len(x) * (rank + 1) // ranks)
    norm, mine = BatchNorm(4), x[share].clone().requires_grad_(True)
    (norm(mine) * weight[share]).sum().backward()
    dist.all_reduce(norm.gain.grad)
    torch.save((mine.grad, norm.gain.grad, norm.running_mean, norm.running_var), out / f"{rank}.pt")


def _norm_input() -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(10, 4, 3, 3, generator=rng) * 2 + 5
    return x, torch.randn(10, 4, 3, 3, generator=rng)


def test_batch_norm_over_unequal_ranks_is_that_of_the_union(tmp_path: Path) -> None:
    spawn(_norm_rank, 3, tmp_path)
    x, weight = _norm_input()
    norm, x = BatchNorm(4), x.requires_grad_(True)
    (norm(x) * weight).sum().backward()
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(3)]
    assert torch.allclose(torch.cat([part[0] for part in parts]), x.grad, atol=1e-5)
    for _, gain, mean, var in parts:
        assert torch.allclose(gain, norm.gain.grad, atol=1e-5)
        assert torch.allclose(mean, norm.running_mean, atol=1e-6)
        assert torch.allclose(var, norm.running_var, atol=1e-6)


def test_batch_norm_against_torch() -> None:
    x, _ = _norm_input()
    ours, theirs = BatchNorm(4), torch.nn.BatchNorm2d(4)
    for _, mode in itertools.product(range(2), (True, False)):
        ours.train(mode)
        theirs.train(mode)
        assert torch.allclose(ours(x), theirs(x), atol=1e-6)
