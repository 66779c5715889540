"""Which nodes there are, and where training goes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from ...gan.errors import UserError
from .session import address, wait


def local_resources() -> tuple[int, int]:
    """CPUs and GPUs of this machine that this process may use."""
    import torch

    return len(os.sched_getaffinity(0)), torch.cuda.device_count()


class Node(NamedTuple):
    """A machine that work may go to; memory in bytes."""

    name: str
    cpus: int
    gpus: int
    memory: int


class Placement(NamedTuple):
    """Training workers, and what each of them takes."""

    workers: int
    threads: int
    gpu: bool


def nodes() -> list[Node]:
    """Return the cluster's machines, or this one."""
    if address() is None:
        return [Node("this machine", *local_resources(), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))]
    wait()
    import ray

    return [
        Node(
            node["NodeManagerAddress"],
            int(node["Resources"].get("CPU", 0)),
            int(node["Resources"].get("GPU", 0)),
            int(node["Resources"].get("memory", 0)),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def place(workers: int | Literal["auto"] | tuple[int, int], option: str = "train.workers") -> Placement:
    """How training is spread, by a fixed table: one worker for each GPU; without GPUs one for each machine.

    On one machine without GPUs one worker with all cores beats several that share them. Of a range, as many as find
    room. `option` is what the user sets the number by.

    Raises:
        UserError: there are fewer CPUs or GPUs than that takes.
    """
    found = nodes()
    cpus, gpus = sum(node.cpus for node in found), sum(node.gpus for node in found)
    wanted = max(workers[0], min(workers[1], gpus or cpus)) if isinstance(workers, tuple) else workers
    where = "this machine has" if address() is None else f"the {len(found)} nodes at {address()} have"
    if gpus:
        count = gpus if wanted == "auto" else wanted
        if count > gpus:
            raise UserError(f"{option} = {count}, but {where} {gpus} GPUs: lower it or leave it out")
        threads = min((node.cpus // node.gpus for node in found if node.gpus), default=0)
    else:
        count = sum(node.cpus > 0 for node in found) if wanted == "auto" else wanted
        # The most threads for which all workers find room, each on one machine.
        room = (t for t in range(max(node.cpus for node in found), 0, -1) if sum(n.cpus // t for n in found) >= count)
        threads = next(room, 0)
    if not count or not threads:
        raise UserError(f"{option} = {wanted} needs a CPU for each, but {where} {cpus}: lower it or add nodes")
    return Placement(count, threads, bool(gpus))


def check_free(placement: Placement) -> None:
    """Check that the cluster's other users leave room for training; Ray itself would wait for ever.

    Raises:
        UserError: they do not, and have not for ten seconds.
    """
    if address() is None:
        return
    wait()
    import ray

    wanted = {"CPU": placement.workers * placement.threads, "GPU": placement.workers * placement.gpu}
    for _ in range(10):
        free = ray.available_resources()
        lacking = {name: count for name, count in wanted.items() if free.get(name, 0) < count}
        if not lacking:
            return
        time.sleep(1)
    texts = [f"{count} {name}s ({free.get(name, 0):g} are free)" for name, count in lacking.items()]
    raise UserError(
        f"training needs {' and '.join(texts)}: other work holds the rest of the cluster at {address()}; "
        "wait for its end, lower train.workers or add nodes"
    )


def check_every_node_sees(folder: Path) -> None:
    """Check that all nodes share the disk of `folder`.

    Raises:
        UserError: one of them does not.
    """
    if address() is None:
        return
    wait()
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    remote = ray.remote(num_cpus=0)(Path.exists)
    for node in ray.nodes():
        if node["Alive"] and node["Resources"].get("CPU"):
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            if not ray.get(remote.options(scheduling_strategy=there).remote(folder)):
                raise UserError(
                    f"the node {node['NodeManagerAddress']} does not see {folder}: put the workspace on a disk that "
                    "all nodes share, or set train.storage to a bucket, such as s3://bucket/prefix"
                )


def describe(workers: int | Literal["auto"] | tuple[int, int]) -> Iterator[str]:
    """Lines on the machines and on where training would go."""
    for node in nodes():
        gpus = f", {node.gpus} GPUs" if node.gpus else ""
        yield f"{node.name}: {node.cpus} CPUs{gpus}, {node.memory / 2**30:.1f} GiB"
    placement = place(workers)
    device = "GPU" if placement.gpu else "CPU"
    plural = "s" if placement.workers > 1 else ""
    yield f"training: {placement.workers} worker{plural} on {device}, {placement.threads} CPU threads each"
