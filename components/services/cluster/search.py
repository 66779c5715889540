"""Trials by Ray Tune."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, Required, TypedDict, TypeVar

from ...gan.errors import StoppedError
from .. import signals
from .placement import Placement
from .session import wait

T = TypeVar("T")
Row = dict[str, float]


class TrialReport(TypedDict, total=False):
    """How far a trial is: its score there, the rows of its curves since the last report, and what ended it early."""

    images: Required[int]
    score: float
    rows: list[Row]
    diverged: str


class Watch(Protocol):
    """What is told, in the process that called `search`, about its trials by their number."""

    def reported(self, trial: int, result: TrialReport) -> None: ...
    def ended(self, trial: int, error: str | None) -> None: ...


def search(
    work: Callable[[T], Iterable[TrialReport]],
    trials: Sequence[T],
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
        StoppedError: the user pressed Ctrl-C, closed the terminal or sent SIGTERM.
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

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: TrialReport, **_: Any) -> None:
            self._guarded(watch.reported, trial.config["trial"], result)

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
        with signals.as_interrupt():
            tuner.fit()
    except (KeyboardInterrupt, SystemExit):
        logging.disable()
        raise StoppedError("with the trials that are left") from None
    if messenger.broken:
        raise messenger.broken
