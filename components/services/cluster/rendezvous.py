"""How training workers find each other: on one machine by a file of this user's, in a cluster by its own network.

Torch would have the first worker listen on every network of its machine, to whoever connects.
"""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psutil
import ray
import torch.distributed as dist
from ray.train.torch import TorchConfig
from ray.train.torch.config import _set_torch_distributed_env_vars, _TorchBackend

_listening: socket.socket | None = None


@dataclass
class GuardedTorchConfig(TorchConfig):  # type: ignore[misc]
    """Ray Train's, with `folder` for the file where all workers run on this machine."""

    folder: str | None = None

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        """Who sets the process group up."""
        return _GuardedBackend


class _GuardedBackend(_TorchBackend):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: GuardedTorchConfig) -> None:
        worker_group.execute(_set_torch_distributed_env_vars)
        if backend_config.folder is not None:
            place: str | tuple[str, int] = f"{backend_config.folder}/workers-{uuid.uuid4().hex}"
        else:
            place = worker_group.execute_single(0, _listen)
        count, join = len(worker_group), (backend_config.backend, backend_config.timeout_s)
        ray.get([worker_group.execute_single_async(rank, _join, place, rank, count, *join) for rank in range(count)])


def _listen() -> tuple[str, int]:
    """Open the first worker's port at the address that Ray knows its node by."""
    global _listening
    host = ray.util.get_node_ip_address()
    _listening = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    return host, int(_listening.getsockname()[1])


def _join(place: str | tuple[str, int], rank: int, count: int, backend: str, seconds: int) -> None:
    global _listening
    # As Ray sets it: a collective that does not come back ends its worker.
    os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1")
    store: Any
    if isinstance(place, str):
        for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(variable, _loopback())
        store = dist.FileStore(place, count)  # type: ignore[attr-defined]
    else:
        listening = _listening.detach() if _listening and rank == 0 else None
        _listening = None
        host, port = place
        store = dist.TCPStore(  # type: ignore[attr-defined]
            host, port, count, rank == 0, timedelta(seconds=seconds), master_listen_fd=listening
        )
    dist.init_process_group(
        backend=backend, store=store, rank=rank, world_size=count, timeout=timedelta(seconds=seconds)
    )


def _loopback() -> str:
    """Return the name of the network interface that leads nowhere else."""
    named = psutil.net_if_addrs().items()
    return next((name for name, found in named if "127.0.0.1" in (address.address for address in found)), "lo")
