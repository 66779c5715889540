import itertools
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from components.gan.dataset import Split
from components.gan.models.layers import BatchNorm
from components.gan.options import DCGAN, MLP, Execution, ImageFormat, NetworkOptions, TrainingOptions, UserError
from components.gan.schedules import at, ema_decay, learning_rate_factor
from components.gan.training_loop import State, training_loop

NETWORKS = [
    MLP(),
    MLP(conditional=True),
    DCGAN(generator_width=8, discriminator_width=8),
    DCGAN(generator_width=8, discriminator_width=8, conditional=False),
]
FP32 = Execution(workers=1, threads=2, device="cpu", precision="fp32")


def options(network: NetworkOptions, **changes: Any) -> TrainingOptions:
    values = {
        "images": 96,
        "batch": 16,
        "log_every": 16,
        "penalty_every": 2,
        "augment": ("color", "translation", "cutout"),
    }
    return TrainingOptions(network=network, **{**values, **changes})


def states(
    options: TrainingOptions, split: Split, execution: Execution = FP32, state: State | None = None
) -> list[State]:
    """The state at every step boundary."""
    return [progress.state() for progress in training_loop(options, split, execution, state)]


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: f"{n.name}-{n.conditional}")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_resume_at_any_step_ends_in_the_same_bits(network: NetworkOptions, precision: str, split: Split) -> None:
    execution = FP32.model_copy(update={"precision": precision})
    whole = states(options(network), split, execution)
    assert [state.images for state in whole] == [16, 32, 48, 64, 80, 96]
    for state in whole[:-1]:
        resumed = states(options(network), split, execution, state)[-1]
        assert resumed.step == 6
        assert resumed.tensors.keys() == whole[-1].tensors.keys()
        assert all(torch.equal(resumed.tensors[name], tensor) for name, tensor in whole[-1].tensors.items())


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: f"{n.name}-{n.conditional}")
def test_every_parameter_learns(network: NetworkOptions, split: Split) -> None:
    first, *_, last = states(options(network, d_steps=2), split)
    for name, tensor in last.tensors.items():
        if name.startswith(("generator/", "discriminator/", "ema/")) and tensor.is_floating_point():
            assert not torch.equal(tensor, first.tensors[name]), name


def test_discriminator_learns_to_tell_real_from_generated(split: Split) -> None:
    frozen_G = options(NETWORKS[2], images=3200, batch=32, log_every=320, learning_rate_generator=1e-9, augment=())
    curve = [progress.metrics for progress in training_loop(frozen_G, split, FP32)]
    assert curve[-1]["discriminator_loss"] < 0.5 * curve[0]["discriminator_loss"]
    assert curve[-1]["discriminator_accuracy"] > 0.95


def test_metrics_are_averaged_over_the_images_of_an_interval(split: Split) -> None:
    fine = [p.metrics["discriminator_loss"] for p in training_loop(options(MLP()), split, FP32)]
    coarse = [p.metrics["discriminator_loss"] for p in training_loop(options(MLP(), log_every=48), split, FP32)]
    assert coarse == pytest.approx([np.mean(fine[:3]), np.mean(fine[3:])])


def test_divergence_is_told(split: Split) -> None:
    with pytest.raises(UserError, match="diverged"):
        list(training_loop(options(MLP(), learning_rate_discriminator=1e30, images=3200), split, FP32))


def test_schedules_are_functions_of_images() -> None:
    falling = options(MLP(), images=1000, learning_rate_decay=0.5)
    assert [learning_rate_factor(falling, images) for images in (0, 500, 750, 1000)] == [1, 1, 0.5, 0]
    assert learning_rate_factor(options(MLP(), images=1000, learning_rate_decay=0), 999) == 1
    steady = options(MLP(), ema_half_life=100, ema_rampup=0.1)
    assert ema_decay(steady, 10_000) ** (100 / 16) == pytest.approx(0.5)
    assert ema_decay(steady, 100) ** (10 / 16) == pytest.approx(0.5)


# --- several ranks ---


def _spawn(function: Any, ranks: int, *arguments: Any) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(_rank, (ranks, port, function, arguments), nprocs=ranks)


def _rank(rank: int, ranks: int, port: int, function: Any, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=ranks)
    function(rank, ranks, *arguments)
    dist.destroy_process_group()


# Without momentum Adam's first moment is the gradient itself. Adam divides it by its size, so that where a gradient is
# all rounding its sign is too: steps of no size keep that out of the comparison.
GRADIENTS: dict[str, Any] = {
    "images": 48,
    "adam_betas": (0.0, 0.99),
    "learning_rate_generator": 1e-12,
    "learning_rate_discriminator": 1e-12,
}


def _train_rank(rank: int, ranks: int, folder: Path, network: NetworkOptions, out: Path) -> None:
    split = Split(folder, "training", ImageFormat(height=28, width=28, channels=1, classes=tuple("0123456789")))
    last = list(training_loop(options(network, **GRADIENTS), split, FP32))[-1]
    torch.save({**last.state().tensors, "metrics": torch.tensor(list(last.metrics.values()))}, out / f"{rank}.pt")


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("network", NETWORKS[1:3], ids=lambda n: n.name)
def test_any_number_of_ranks_computes_the_gradients_of_one_process(
    network: NetworkOptions, ranks: int, split: Split, tmp_path: Path
) -> None:
    # 16 images over 3 ranks are unequal shares.
    _spawn(_train_rank, ranks, tmp_path / "split", network, tmp_path)
    one = list(training_loop(options(network, **GRADIENTS), split, FP32))[-1]
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(ranks)]
    for name, tensor in one.state().tensors.items():
        assert all(torch.equal(found[0][name], other[name]) for other in found[1:]), name
        assert (found[0][name] - tensor).norm() <= 1e-4 * tensor.norm(), name
    assert torch.allclose(found[0]["metrics"], torch.tensor(list(one.metrics.values())), rtol=1e-4)


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


def test_batch_norm_over_three_unequal_ranks_is_batch_norm_of_the_union(tmp_path: Path) -> None:
    _spawn(_norm_rank, 3, tmp_path)
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
