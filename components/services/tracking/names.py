"""Names of metrics in MLflow, and back.

Its pages show a chart for each metric, in groups by what stands before the last `/`, in the order of the alphabet:

    final/      the few scores by which a model is judged, of as many samples as real images
    floor/      what real images get in their place
    samples/    grids of samples at checkpoints, to be scrubbed through
    score/      curves: the score at checkpoints, by which one is published
    training/   curves: losses and what else the loop tells
    used/       seconds of processors and GPUs, energy
    values/     all other scores, each beside its own floor and control

What has one value is logged at step 0, of which MLflow draws bars. Runs from before this have names without groups,
and keep to them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ...workspace.scores import Score, Scores

if TYPE_CHECKING:
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

DECIDING = ("agreement", "copied", "fd", "kid", "precision", "recall")
# A curve that every training has.
ALWAYS = "generator_loss"
# Pictures over time, in a group of their own.
GRIDS = "samples/grid"
GROUPS = ("final", "floor", "score", "training", "used", "values")


class Names:
    """The names of one run: in groups, unless it has others already."""

    def __init__(self, grouped: bool = True) -> None:
        self._grouped = grouped

    @classmethod
    def of_run(cls, client: MlflowClient, run_id: str) -> Names:
        """Return those that a run was begun with."""
        return cls(grouped=not client.get_metric_history(run_id, ALWAYS))

    def curves(self, rows: Iterable[Mapping[str, Any]]) -> list[Metric]:
        """Return the points of curves, each at the images that were seen."""
        return [
            _metric(self._named(curve_name(name), name), value, int(row["images"]))
            for row in rows
            for name, value in _finite(row)
            if name != "images"
        ]

    def scores(self, metrics: Mapping[str, float], images: int) -> list[Metric]:
        """Return the scores of a model that had seen so many images."""
        groups = dict(_scored(metrics))
        step = 0 if self._grouped else images
        return [_metric(self._named(groups[name], name), value, step) for name, value in _finite(metrics)]

    def cost(self, cost: Mapping[str, float]) -> list[Metric]:
        """Return what a training used."""
        return [_metric(self._named(f"used/{name}", name), value, 0) for name, value in _finite(cost)]

    def last_step(self, client: MlflowClient, run_id: str) -> int:
        """Return how many images had been seen at the last point of the curves."""
        logged = client.get_metric_history(run_id, self._named(curve_name(ALWAYS), ALWAYS))
        return max((metric.step for metric in logged), default=0)

    def _named(self, grouped: str, name: str) -> str:
        return grouped if self._grouped else name


def scores_of(logged: Mapping[str, float]) -> dict[str, float]:
    """Return the scores among the metrics of a run, whichever names it has, by the names of `metrics.json`."""
    found: dict[str, float] = {}
    for name, value in logged.items():
        group, _, own = name.rpartition("/")
        if group == "floor":
            found[f"{own}_floor"] = value
        elif group in ("final", "values"):
            found[own] = value
        elif not group and next(iter(Scores.read({name: value}))).n is not None:
            found[name] = value
    return found


def curve_name(name: str) -> str:
    """Return what a curve of `progress.jsonl` is called, with its group."""
    scored = name in ("score", "generalisation_gap") or name.startswith("score_")
    return f"{'score' if scored else 'training'}/{name}"


def _scored(metrics: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """Yield the name of each score with that in MLflow."""
    scores = Scores.read(metrics)
    for score in scores:
        if score.images == "floor" and _decides(measured := scores.beside(score, "samples"), scores):
            assert measured is not None
            yield score.name, f"floor/{measured.name}"
        else:
            yield score.name, f"{'final' if _decides(score, scores) else 'values'}/{score.name}"


def _decides(score: Score | None, scores: Scores) -> bool:
    return (
        score is not None
        and score.images == "samples"
        and not score.split
        and score.metric in DECIDING
        and scores.beside(score, "floor") is not None
    )


def _finite(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    return ((name, float(value)) for name, value in values.items() if value is not None and math.isfinite(value))


def _metric(name: str, value: float, step: int) -> Metric:
    from mlflow.entities import Metric

    return Metric(name, value, int(time.time() * 1000), step)
