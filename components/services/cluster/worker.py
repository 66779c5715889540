"""What a training worker asks and tells the others."""

from __future__ import annotations

from collections.abc import Sequence

# How long a worker waits for another one: the first may have to make the feature net meanwhile.
COLLECTIVE_SECONDS = 600


def rank() -> int:
    """Rank of this training worker."""
    import ray.train

    return int(ray.train.get_context().get_world_rank())


def workers() -> int:
    """How many training workers there are now."""
    import ray.train

    return int(ray.train.get_context().get_world_size())


def broadcast(flag: bool) -> bool:
    """Return what the first worker thinks, told to all of them."""
    import torch
    import torch.distributed as dist

    if workers() == 1:
        return flag
    told = torch.tensor(float(flag), device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.broadcast(told, 0)
    return bool(told)


def sum_over_workers(values: Sequence[float]) -> list[float]:
    """Return the sum of each of the values over all training workers."""
    import torch
    import torch.distributed as dist

    if workers() == 1:
        return list(values)
    summed = torch.tensor(values, dtype=torch.float64, device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(summed)
    return [float(value) for value in summed]


def abort_group() -> None:
    """Give up as a training worker: those that wait for this one fail at once instead of waiting on."""
    import torch.distributed as dist

    if workers() > 1:
        dist.destroy_process_group()


def barrier() -> None:
    """Wait for all training workers."""
    broadcast(False)
