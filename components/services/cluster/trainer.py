"""Training workers by Ray Train, started again when they die."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ...gan.errors import StoppedError, UserError
from ...gan.options import Execution
from .. import signals
from ..own_folder import own_folder
from .session import address, wait
from .worker import COLLECTIVE_SECONDS

# How often workers are started again, in all, before the training is given up.
MAX_FAILURES = 5
# How long a training may take to write a checkpoint when it is stopped.
STOP_SECONDS = 20


def fit(
    work: Callable[[], None],
    execution: Execution,
    workers: tuple[int, int],
    folder: Path,
    stop: Callable[[], None],
) -> None:
    """Run `work` in processes with a process group; again if one of them dies, freezes or its node goes.

    Their number is `workers` at least and at most: fewer where nodes have gone, more when some come.

    Raises:
        UserError: the workers kept failing, with the last reason.
        StoppedError: the user pressed Ctrl-C, closed the terminal or sent SIGTERM; `stop` was called, and the workers
            were given a moment.
    """
    wait()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        from .rendezvous import GuardedTorchConfig
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    gpu = execution.device == "cuda"
    trainer = TorchTrainer(
        work,
        torch_config=GuardedTorchConfig(
            backend="nccl" if gpu else "gloo",
            timeout_s=COLLECTIVE_SECONDS,
            folder=str(own_folder()) if address() is None else None,
        ),
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
        with signals.as_interrupt():
            try:
                running.join()
            except KeyboardInterrupt:
                stop()
                # The terminal may be what ended.
                with suppress(OSError):
                    told = "stopping: the training writes a checkpoint first; Ctrl-C again ends it at once"
                    print(told, file=sys.stderr)
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
