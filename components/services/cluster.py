"""Ray: processes for preprocessing and training. The only file that imports it; knows no stage and no GAN.

With `RAY_ADDRESS` set work goes to that cluster, which is left running; otherwise Ray is started here, once for a
process, and ends with it. Ray's processes die with the thread that starts them, so that thread waits for the end.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from ..gan.options import Execution, StoppedError, UserError

P = TypeVar("P")
C = TypeVar("C")
R = TypeVar("R")

_thread: threading.Thread | None = None
_ready: Future[None] = Future()
_stop = threading.Event()


def address() -> str | None:
    """The cluster that the user named, if any."""
    return os.environ.get("RAY_ADDRESS") or None


def start() -> None:
    """Start or join Ray in the background; `wait` for it before use."""
    global _thread, _ready
    if _stop.is_set():
        stop()
    if _thread is None:
        _ready = Future()
        _thread = threading.Thread(target=_run, name="ray", daemon=True)
        _thread.start()
        atexit.register(stop)


def release() -> None:
    """Let Ray end, or leave the cluster that was joined, in the background: what comes next needs the processors."""
    _stop.set()


def stop() -> None:
    """Release Ray and wait until it has ended."""
    global _thread
    _stop.set()
    if _thread is not None:
        _thread.join()
    _thread = None
    _stop.clear()


def wait() -> None:
    """Wait until Ray is ready.

    Raises:
        UserError: the cluster named by RAY_ADDRESS cannot be joined.
    """
    start()
    try:
        _ready.result()
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise UserError(
            f"cannot use Ray at {address() or 'this machine'}: {' '.join(str(error).split())[:300]}"
        ) from None


def _run() -> None:
    """Body of the thread that owns Ray."""
    quiet = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
        # Training is what the machine is for; Ray would run it at the lowest priority.
        "RAY_worker_niceness": "0",
    }
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
    try:
        import ray

        ray.init(address=address() or "local", log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    except BaseException as error:
        _ready.set_exception(error)
        return
    _ready.set_result(None)
    _stop.wait()
    ray.shutdown()


def local_resources() -> tuple[int, int]:
    """CPUs and GPUs of this machine that this process may use."""
    import torch

    return len(os.sched_getaffinity(0)), torch.cuda.device_count()


def resources() -> tuple[int, int]:
    """CPUs and GPUs that training may use: this machine's, or the cluster's."""
    if address() is None:
        return local_resources()
    wait()
    import ray

    total = ray.cluster_resources()
    return int(total.get("CPU", 1)), int(total.get("GPU", 0))


def run_parts(work: Callable[[P, Iterable[C]], R], read: Callable[[P], Iterable[C]], parts: Sequence[P]) -> Iterator[R]:
    """`work(part, read(part))` for each part, in order, a few at a time; `work` must be pure.

    As Ray tasks where a cluster is given: then this process reads, and what it read travels with the task, so that
    nodes need not see its disk. Else in threads: decoding and scaling images releases the interpreter, and on one
    machine processes cost more than they bring.
    """
    if address() is not None:
        wait()
        import ray

        remote = ray.remote(work)
        width = 2 * resources()[0]
        yield from _in_order(lambda part: remote.remote(part, list(read(part))), ray.get, parts, width)
        return
    cores = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(cores) as pool:
        submit = lambda part: pool.submit(lambda: work(part, read(part)))  # noqa: E731
        yield from _in_order(submit, Future.result, parts, cores + 1)


def _in_order(
    submit: Callable[[Any], Any], result: Callable[[Any], Any], parts: Sequence[Any], width: int
) -> Iterator[Any]:
    waiting: deque[Any] = deque()
    for part in parts:
        waiting.append(submit(part))
        if len(waiting) >= width:
            yield result(waiting.popleft())
    while waiting:
        yield result(waiting.popleft())


def fit(worker: Callable[[dict[str, Any]], None], config: dict[str, Any], execution: Execution, folder: Path) -> None:
    """Run `worker(config)` in `execution.workers` processes with a process group; again if one of them dies.

    Raises:
        UserError: the workers kept failing, with the last reason.
    """
    wait()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    gpu = execution.device == "cuda"
    trainer = TorchTrainer(
        worker,
        train_loop_config=config,
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=execution.workers, use_gpu=gpu, resources_per_worker={"CPU": execution.threads, "GPU": int(gpu)}
        ),
        run_config=RunConfig(
            name=folder.name, storage_path=str(folder.parent / "ray"), failure_config=FailureConfig(max_failures=2)
        ),
    )
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit()
    except (KeyboardInterrupt, SystemExit):
        # Ray answers Ctrl-C by ending its workers and leaving the process. Servers that were started from the same
        # terminal end as well, which is no news from here on.
        logging.disable()
        raise StoppedError from None
    except Exception as error:
        # Ray wraps what a worker raised several times; the last line of the text is what it was.
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise UserError(f"training stopped after its workers failed three times: {lines[-1].strip()}") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, interrupt)


def rank() -> int:
    """Rank of this training worker."""
    import ray.train

    return int(ray.train.get_context().get_world_rank())
