"""Sums over the ranks of a training; without a process group, or with one rank, they are what the rank itself has."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn


def several() -> bool:
    """Whether this process trains together with others."""
    return dist.is_initialized() and dist.get_world_size() > 1


def rank_and_ranks() -> tuple[int, int]:
    """Return the number of this process, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Add up `tensor` over all ranks, in place; each of them must call it."""
    if several():
        dist.all_reduce(tensor)
    return tensor


def sum_gradients(module: nn.Module) -> None:
    """Sum the gradients over ranks in one flat all-reduce.

    By hand rather than by DDP, which is silently wrong where a submodule is called by itself, and averages shares as
    if they were equal.
    """
    if not several():
        return
    parameters = list(module.parameters())
    # In the order of memory, whatever the memory format: nothing is rearranged on the way there and back.
    flat = torch.cat([_like(p, p.grad).as_strided((p.numel(),), (1,)) for p in parameters])
    dist.all_reduce(flat)
    for p, gradient in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        p.grad = gradient.as_strided(p.shape, p.stride())


def _like(p: Tensor, gradient: Tensor | None) -> Tensor:
    """`gradient` in the memory format of p, zeros where there is none."""
    if gradient is None:
        return torch.zeros_like(p)
    return gradient if gradient.stride() == p.stride() else torch.empty_like(p).copy_(gradient)
