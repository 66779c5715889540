"""The registry, made again from the ledger."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from ..gan.errors import DamagedError, NotThereError
from ..services.tracking import rebuild, runs
from ..workspace.artifacts import Model
from ..workspace.workspace import Workspace
from .entries import DatasetEntry, EvaluationEntry, ModelEntry, RegistrationEntry, of_kind
from .ledger import Ledger
from .queries import parent_of, seconds_of, unique_entries


def rebuild_registry(workspace: Workspace) -> Iterator[tuple[str, str]]:
    """Make runs, versions and aliases again that MLflow's own database lacks.

    Yields each of them, and what could not be restored of it: "" if nothing is missing.

    Raises:
        UserError: a server is named, or nothing was ever registered here.
    """
    ledger = Ledger(workspace)
    # Without the galleries, which are nearly all of it.
    entries = [entry for entry in ledger.read() if isinstance(entry, ModelEntry | RegistrationEntry)]
    registrations = [e for e in of_kind(entries, RegistrationEntry) if e.facts.tracking == "embedded"]
    of_models: dict[str, list[RegistrationEntry]] = defaultdict(list)
    for entry in registrations:
        if entry.facts.place:
            of_models[entry.facts.model_key].append(entry)
    recorded = []
    for model in unique_entries(of_kind(entries, ModelEntry)):
        own = of_models[model.key]
        run_id = own[-1].facts.run_id if own else model.facts.run_id
        if run_id is not None and (own or model.facts.tracking == "embedded"):
            recorded.append(_recorded_run(model, run_id, own, ledger, workspace))
    if not recorded:
        raise NotThereError(
            f"{workspace.ledger} knows no run or version: run `ganflow run`, which makes and registers a model"
        )
    challengers = {entry.facts.name: entry.facts.version for entry in registrations}
    yield from rebuild.restore(workspace, recorded, challengers)
    known = {version.place for run in recorded for version in run.versions}
    for folder in sorted((workspace.mlruns / "artifacts" / "models").glob("*/artifacts")):
        if (place := folder.relative_to(workspace.mlruns).as_posix()) not in known:
            yield f"the model in {place}", "the ledger knows no version with its files"


def _recorded_run(
    model: ModelEntry,
    run_id: str,
    registrations: Sequence[RegistrationEntry],
    ledger: Ledger,
    workspace: Workspace,
) -> rebuild.RecordedRun:
    dataset = parent_of(ledger, model, DatasetEntry)
    evaluation = next(ledger.find(EvaluationEntry, "of model", model.content), None)
    splits = dataset.facts.splits if dataset else {"training": 0, "holdout": 0}
    latest = {(entry.facts.name, entry.facts.version): entry.facts for entry in registrations}
    return rebuild.RecordedRun(
        key=model.key,
        run_id=run_id,
        training=model.facts.training,
        dataset=runs.dataset_facts(model.facts.image, splits["training"], splits["holdout"], model.parents["dataset"]),
        curves=_curves(model, workspace),
        scores=evaluation.facts.metrics if evaluation else {},
        images=model.facts.images,
        cost=model.facts.cost.model_dump() if model.facts.cost else None,
        begun=seconds_of(model),
        ended=seconds_of(registrations[-1] if registrations else model),
        versions=[
            rebuild.RecordedVersion(name, number, facts.model_id or "", facts.place or "", facts.tags)
            for (name, number), facts in sorted(latest.items())
        ],
    )


def _curves(model: ModelEntry, workspace: Workspace) -> list[dict[str, Any]]:
    """Return the training's curves: from its own folder if that was kept, else of the present model."""
    training = workspace.state / "training" / model.key
    with suppress(OSError, ValueError):
        rows = [json.loads(line) for line in (training / "progress.jsonl").read_text().splitlines()]
        return [row for row in rows if isinstance(row, dict) and "images" in row]
    # A damaged one gives none either: rebuilding is for when things are lost.
    with suppress(NotThereError, DamagedError):
        present = Model.load(workspace.model)
        if present.content == model.content:
            import pandas as pd

            table = pd.read_csv(present.folder / "history.csv").to_dict("records")
            return [{str(name): value for name, value in row.items()} for row in table]
    return []
