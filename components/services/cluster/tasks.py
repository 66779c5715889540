"""Parts of a work as Ray tasks, in order."""

from __future__ import annotations

import os
import signal
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from .. import signals
from .placement import nodes
from .session import address, wait

P = TypeVar("P")
C = TypeVar("C")
R = TypeVar("R")


def run_parts(
    work: Callable[[P, Iterable[C]], R],
    read: Callable[[P], Iterable[C]],
    parts: Iterable[P],
    *,
    processes: bool = False,
    gpu: bool = False,
) -> Iterator[R]:
    """`work(part, read(part))` for each part, in order, a few at a time; `work` must be pure.

    As Ray tasks where a cluster is given: then this process reads, and what it read travels with the task, so that
    nodes need not see its disk. Else in threads, which are there at once, or in `processes`, which take a second to
    start and share the cores better.
    """
    cores = len(os.sched_getaffinity(0))
    if address() is not None:
        wait()
        import ray

        def task(part: P, contents: Iterable[C]) -> R:
            return work(part, contents)

        remote = ray.remote(num_cpus=1, num_gpus=int(gpu))(task)
        width = 2 * sum(node.gpus if gpu else node.cpus for node in nodes())
        yield from _in_order(lambda part: remote.remote(part, list(read(part))), ray.get, parts, width)
    elif processes:
        from multiprocessing import resource_tracker

        from joblib import Parallel, delayed

        pool = Parallel(n_jobs=cores, return_as="generator", batch_size=1, pre_dispatch=cores + 1)
        # What starts here never hears what a terminal sends to all: the pool ends it. The tracker would start with the
        # pool, and unblock Ctrl-C.
        resource_tracker.ensure_running()
        heard = signals.hide_from_children()
        try:
            results = pool(delayed(_read_and_work)(work, read, part) for part in parts)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, heard)
        with warnings.catch_warnings():
            # Whoever stops in the middle knows that parts are left; joblib would say so after our last sentence.
            warnings.filterwarnings("ignore", message=r"\d+ tasks", category=UserWarning)
            yield from results
    else:
        with ThreadPoolExecutor(cores) as threads:
            yield from _in_order(
                lambda part: threads.submit(_read_and_work, work, read, part), Future.result, parts, cores + 1
            )


def _read_and_work(work: Callable[[P, Iterable[C]], R], read: Callable[[P], Iterable[C]], part: P) -> R:
    return work(part, read(part))


def _in_order(
    submit: Callable[[Any], Any], result: Callable[[Any], Any], parts: Iterable[Any], width: int
) -> Iterator[Any]:
    waiting: deque[Any] = deque()
    for part in parts:
        waiting.append(submit(part))
        if len(waiting) >= width:
            yield result(waiting.popleft())
    while waiting:
        yield result(waiting.popleft())
