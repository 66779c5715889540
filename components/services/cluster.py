"""Ray: processes for preprocessing and training. The only file that imports it; knows no stage and no GAN.

With `RAY_ADDRESS` set work goes to that cluster, which is left running; otherwise Ray is started here, once for a
process, and ends with it. Ray's processes die with the thread that starts them, so that thread waits for the end.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from ..gan.errors import StoppedError, UserError
from ..gan.options import Execution

P = TypeVar("P")
C = TypeVar("C")
R = TypeVar("R")

# How often workers are started again, in all, before the training is given up.
MAX_FAILURES = 5
# How long a worker waits for another one: the first may have to make the feature net meanwhile.
COLLECTIVE_SECONDS = 600
# How long a training may take to write a checkpoint when it is stopped.
STOP_SECONDS = 20

# In seconds: how soon a worker that died is seen, one that is frozen given up, the ends of others waited for, and a
# range of workers started with those that found room.
_PATIENCE = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "20",
    "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "3",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "15",
}

_COMPONENTS = Path(__file__).resolve().parents[1]

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
    for name, value in (quiet | _PATIENCE).items():
        os.environ.setdefault(name, value)
    try:
        import ray

        # Ray's own handler, registered by its import, would end it under a start that is not over: ours comes first.
        atexit.register(stop)
        if _stop.is_set():
            raise ConnectionError("the process ends")
        # A cluster's nodes need our packages only: the code goes along, and nothing else of this folder.
        code = {
            "py_modules": [str(_COMPONENTS)],
            "excludes": ["__pycache__"],
            "worker_process_setup_hook": use_network_of_node,
            "env_vars": {name: os.environ[name] for name in _PATIENCE},
        }
        ray.init(
            address=address() or "local",
            runtime_env=code if address() else None,
            log_to_driver=False,
            logging_level="ERROR",
            include_dashboard=False,
        )
    except BaseException as error:
        _ready.set_exception(error)
        return
    _ready.set_result(None)
    _stop.wait()
    ray.shutdown()


def use_network_of_node() -> None:
    """Let gloo and NCCL use the interface that Ray knows this node by.

    They would take what the hostname resolves to, which on many systems is a loopback address.
    """
    import psutil
    from ray.util import get_node_ip_address

    for name, addresses in psutil.net_if_addrs().items():
        if get_node_ip_address() in (address.address for address in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
            os.environ.setdefault("NCCL_SOCKET_IFNAME", name)


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
    """The cluster's machines, or this one."""
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


def run_parts(
    work: Callable[[P, Iterable[C]], R],
    read: Callable[[P], Iterable[C]],
    parts: Sequence[P],
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
        # What starts here never hears of Ctrl-C, which a terminal sends to all: the pool ends it. The tracker would
        # start with the pool, and unblock the signal.
        resource_tracker.ensure_running()
        heard = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            results = pool(delayed(_read_and_work)(work, read, part) for part in parts)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, heard)
        yield from results
    else:
        with ThreadPoolExecutor(cores) as threads:
            yield from _in_order(
                lambda part: threads.submit(_read_and_work, work, read, part), Future.result, parts, cores + 1
            )


def _read_and_work(work: Callable[[P, Iterable[C]], R], read: Callable[[P], Iterable[C]], part: P) -> R:
    return work(part, read(part))


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


def fit(
    worker: Callable[[dict[str, Any]], None],
    config: dict[str, Any],
    execution: Execution,
    workers: tuple[int, int],
    folder: Path,
    stop: Callable[[], None],
) -> None:
    """Run `worker(config)` in processes with a process group; again if one of them dies, freezes or its node goes.

    Their number is `workers` at least and at most: fewer where nodes have gone, more when some come.

    Raises:
        UserError: the workers kept failing, with the last reason.
        StoppedError: the user pressed Ctrl-C or sent SIGTERM; `stop` was called, and the workers were given a moment.
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
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo", timeout_s=COLLECTIVE_SECONDS),
        scaling_config=ScalingConfig(
            num_workers=workers if workers[0] < workers[1] else workers[0],
            # How often machines that have come are looked for.
            elastic_resize_monitor_interval_s=30,
            use_gpu=gpu,
            resources_per_worker={"CPU": execution.threads, "GPU": int(gpu)},
        ),
        run_config=RunConfig(
            name=folder.name,
            # Ray's own folder, which each node makes for itself: checkpoints are ours.
            storage_path=str(folder.parent / "ray"),
            # Workers that find no room, or die while they start, are not waited for without end.
            failure_config=FailureConfig(max_failures=MAX_FAILURES, controller_failure_limit=2),
        ),
    )
    # Not in this thread, where Ray would answer Ctrl-C itself, by ending its workers at once.
    running = _Background(trainer.fit)
    try:
        with sigterm_as_interrupt():
            try:
                running.join()
            except KeyboardInterrupt:
                print("stopping: the training writes a checkpoint first; Ctrl-C again ends it at once", file=sys.stderr)
                stop()
                running.join(STOP_SECONDS)
                raise
    except (KeyboardInterrupt, SystemExit):
        # Servers that were started from the same terminal end as well, which is no news from here on.
        logging.disable()
        raise StoppedError from None
    if error := running.error:
        # Ray wraps what a worker raised several times; the last line of the text is what it was.
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise UserError(
            f"training stopped after its workers failed {MAX_FAILURES + 1} times: {lines[-1].strip()}"
        ) from error


class _Background(threading.Thread):
    """`work` in a thread that nobody waits for at the end of the process, and the error that it ended with."""

    error: Exception | None = None

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self.start()

    def run(self) -> None:
        try:
            self._work()
        except Exception as error:
            self.error = error


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Answer SIGTERM like Ctrl-C. To be entered after Ray has started, which sets a handler of its own."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Watch(Protocol):
    """What is told, in the process that called `search`, about its trials by their number."""

    def told(self, trial: int, result: dict[str, Any]) -> None: ...
    def ended(self, trial: int, error: str | None) -> None: ...


def search(
    work: Callable[[Any], Iterable[dict[str, Any]]],
    trials: Sequence[Any],
    placement: Placement,
    images: tuple[int, int],
    folder: Path,
    watch: Watch,
) -> None:
    """Run `work(trial)` for each of `trials`, as many at once as `placement` has workers.

    It yields results with `images` and, where there is one, `score`. From `images[0]` on a trial ends early that is
    not among the best third of those that have come as far, up to `images[1]` (asynchronous successive halving, Li
    et al. 2020).

    Raises:
        StoppedError: the user pressed Ctrl-C.
    """
    wait()
    # Ctrl-C is ours to answer, files of results are not wanted, and a result may have no score.
    for name in ("SIGINT_HANDLER", "AUTO_CALLBACK_LOGGERS", "STRICT_METRIC_CHECKING"):
        os.environ[f"TUNE_DISABLE_{name}"] = "1"
    # The new output says where Ray's own files are, whatever the verbosity.
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray import tune
        from ray.tune.schedulers import ASHAScheduler
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)

    def run(config: dict[str, int]) -> None:
        for result in work(trials[config["trial"]]):
            tune.report(result)

    class Messenger(tune.Callback):  # type: ignore[misc]
        broken: Exception | None = None

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **_: Any) -> None:
            self._guarded(watch.told, trial.config["trial"], result)

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
            self._guarded(watch.ended, trial.config["trial"], None)

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
            lines = str(trial.get_error()).splitlines()
            reason = next((line.strip() for line in reversed(lines) if line.strip()), "its process died")
            self._guarded(watch.ended, trial.config["trial"], reason)

        def _guarded(self, tell: Callable[..., None], *what: Any) -> None:
            try:
                tell(*what)
            except Exception as error:
                # Ray would take it for the trial's own failure.
                self.broken = self.broken or error

    messenger = Messenger()
    resources = {"cpu": placement.threads, "gpu": int(placement.gpu)}
    tuner = tune.Tuner(
        tune.with_resources(run, resources),
        param_space={"trial": tune.grid_search(list(range(len(trials))))},
        tune_config=tune.TuneConfig(
            scheduler=ASHAScheduler(
                time_attr="images",
                metric="score",
                mode="min",
                grace_period=images[0],
                max_t=images[1],
                reduction_factor=3,
            ),
            max_concurrent_trials=placement.workers,
            # A new process takes seconds to import torch.
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(name="sweep", storage_path=str(folder), verbose=0, callbacks=[messenger]),
    )
    try:
        tuner.fit()
    except (KeyboardInterrupt, SystemExit):
        logging.disable()
        raise StoppedError("with the trials that are left") from None
    if messenger.broken:
        raise messenger.broken


def rank() -> int:
    """Rank of this training worker."""
    import ray.train

    return int(ray.train.get_context().get_world_rank())


def workers() -> int:
    """How many training workers there are now."""
    import ray.train

    return int(ray.train.get_context().get_world_size())


def agreed(flag: bool) -> bool:
    """What the first worker thinks, told to all of them."""
    import torch
    import torch.distributed as dist

    if workers() == 1:
        return flag
    told = torch.tensor(float(flag), device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.broadcast(told, 0)
    return bool(told)


def total(values: Sequence[float]) -> list[float]:
    """The sum of each of the values over all training workers."""
    import torch
    import torch.distributed as dist

    if workers() == 1:
        return list(values)
    summed = torch.tensor(values, dtype=torch.float64, device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(summed)
    return [float(value) for value in summed]


def leave() -> None:
    """Give up as a training worker: those that wait for this one fail at once instead of waiting on."""
    import torch.distributed as dist

    if workers() > 1:
        dist.destroy_process_group()


def barrier() -> None:
    """Wait for all training workers."""
    agreed(False)
