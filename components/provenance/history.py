"""Trainings of a workspace as the ledger knows them: parameters, scores, versions and verdicts, the newest first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..gan.errors import NotThereError
from ..services.tracking import names, runs
from ..training.cost import Cost
from ..workspace.artifacts import Model
from ..workspace.workspace import Workspace
from .entries import EvaluationEntry, ModelEntry
from .ledger import Ledger
from .queries import Answer, KnownVersion, versions_of

# Of a key or an id of MLflow's, so many digits are asked for.
FEWEST_DIGITS = 6


class PastRun(Answer):
    """A training and what came of it; what is not known is None or empty."""

    name: str
    key: str
    time: str | None
    run: str | None
    commit: str | None
    data: str | None
    training: Mapping[str, Any]
    images: int | None
    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    feature_net: str | None
    holdout: str | None
    cost: Cost | None
    versions: Sequence[KnownVersion]

    @property
    def verdict(self) -> str | None:
        """What the gate said last, in a word."""
        return next((version.verdict.answer for version in self.versions if version.verdict), None)

    @property
    def title(self) -> str:
        """Its name, with its version where it has one."""
        version = next(iter(self.versions), None)
        return self.name if version is None else f"{version.name} version {version.version} ({self.name})"


def past_runs(workspace: Workspace) -> Iterator[PastRun]:
    """Read every training, the newest first."""
    ledger, seen = Ledger(workspace), set()
    for model in sorted(ledger.find_prefix(ModelEntry, ("key",), ""), key=lambda model: -model.place):
        if model.key not in seen:
            seen.add(model.key)
            yield _past(model, ledger, workspace)


def find_run(wanted: str, name: str, workspace: Workspace) -> PastRun:
    """Return a training by a version's number or alias of the model `name`, `workspace`, a key, an id or a run's name.

    Raises:
        NotThereError: there is none, or several begin like this.
        UnreachableError: the registry does not answer.
    """
    # To read what is known of models it takes no networks.
    from ..services.tracking.named_model import known_model, named_version

    try:
        known_model(wanted)
    except ValueError:
        return _by_its_name(wanted, workspace)
    own = wanted == "workspace"
    key = Model.load(workspace.model).key.id if own else named_version(wanted, name, workspace).key
    ledger = Ledger(workspace)
    model = next(ledger.find(ModelEntry, "key", key), None)
    return _past(model, ledger, workspace) if model else _logged(key, workspace)


def _by_its_name(wanted: str, workspace: Workspace) -> PastRun:
    found = [
        run
        for run in past_runs(workspace)
        if wanted == run.name
        or (len(wanted) >= FEWEST_DIGITS and (run.key.startswith(wanted) or (run.run or "").startswith(wanted)))
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise NotThereError(f"{wanted} may be {', '.join(run.key for run in found[:5])}: write more of it")
    raise NotThereError(
        f"{wanted} is no version, run or workspace: write a version's number, champion, challenger, workspace, a "
        f"folder, or of what `ganflow runs` lists a name or the first {FEWEST_DIGITS} digits of a key"
    )


def _past(model: ModelEntry, ledger: Ledger, workspace: Workspace) -> PastRun:
    evaluation = next(ledger.find(EvaluationEntry, "of model", model.content), None)
    facts, scored = model.facts, evaluation.facts if evaluation else None
    return PastRun(
        name=runs.run_name_of(facts.training, model.key),
        key=model.key,
        time=model.time,
        run=facts.run_id,
        commit=facts.commit,
        data=model.parents["dataset"],
        training=facts.training,
        images=facts.images,
        metrics=scored.metrics if scored else {},
        intervals=scored.intervals if scored else {},
        feature_net=scored.feature_net if scored else None,
        holdout=scored.holdout if scored else None,
        cost=facts.cost,
        versions=versions_of(model, ledger, workspace),
    )


def _logged(key: str, workspace: Workspace) -> PastRun:
    """Return what MLflow holds of a training that another workspace made, which has no intervals."""
    params = runs.params_of(key, workspace)
    logged = {name.removeprefix("train."): value for name, value in params.items() if name.startswith("train.")}
    return PastRun(
        name=f"model {key[:6]}",
        key=key,
        time=None,
        run=runs.run_of(key, workspace),
        commit=None,
        data=params.get("dataset.content"),
        training=logged,
        images=None,
        metrics=names.scores_of(runs.metrics_of(key, workspace)),
        intervals={},
        feature_net=None,
        holdout=None,
        cost=None,
        versions=[],
    )
