"""Several ranks of a training, each a process of its own."""

from __future__ import annotations

import socket
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def spawn(function: Any, ranks: int, *arguments: Any) -> None:
    """Call `function(rank, ranks, *arguments)` on each of so many ranks, and wait for all of them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(_rank, (ranks, port, function, arguments), nprocs=ranks)


def _rank(rank: int, ranks: int, port: int, function: Any, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=ranks)
    function(rank, ranks, *arguments)
    dist.destroy_process_group()
