"""The graph of stages and the key of each; what `ganflow run` compares before it imports anything heavy.

Not part of any stage's key itself. `dvc.yaml` states the same graph, and a test pins the two to each other, and each
list of code files to what the stage really imports.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..gan.options import Options
from .artifacts import Artifact, Dataset, Evaluation, Gallery, Key, Model, OtherVersionError, Registration
from .data_hashes import data_content
from .files import sha256_of
from .params import Params
from .workspace import Workspace

_CODE = Path(__file__).parents[1]
# Schemas of options are not among the code: their validated values are hashed.
_NETWORKS = tuple(
    f"gan/models/{name}.py"
    for name in ("__init__", "biggan", "dcgan", "layers", "mlp", "r3gan", "second_order", "stylegan2")
)


@dataclass(frozen=True)
class Stage:
    """One verb of the pipeline: its artifact, the stages it reads, and the code that makes its result."""

    name: str
    artifact: type[Artifact]
    inputs: tuple[str, ...]
    code: tuple[str, ...]

    def folder(self, workspace: Workspace) -> Path:
        folder: Path = getattr(workspace, self.artifact.__name__.lower())
        return folder


STAGES = (
    Stage(
        "preprocess",
        Dataset,
        ("data",),
        (
            "ingest/decoding.py",
            "ingest/formats.py",
            "ingest/parts.py",
            "preprocess.py",
            "services/cluster/placement.py",
            "services/cluster/session.py",
            "services/cluster/tasks.py",
            "workspace/artifacts.py",
            "workspace/data_hashes.py",
            "workspace/files.py",
        ),
    ),
    Stage(
        "train",
        Model,
        ("preprocess",),
        (
            "gan/ada.py",
            "gan/augmentation.py",
            "gan/curves.py",
            "gan/dataset.py",
            "gan/distances.py",
            "gan/draws.py",
            "gan/features.py",
            "gan/inputs.py",
            "gan/losses.py",
            *_NETWORKS,
            "gan/penalties.py",
            "gan/players.py",
            "gan/ranks.py",
            "gan/sampling.py",
            "gan/schedules.py",
            "gan/symptoms.py",
            "gan/training_loop.py",
            "gan/views.py",
            "services/cluster/placement.py",
            "services/cluster/session.py",
            "services/cluster/trainer.py",
            "services/cluster/worker.py",
            "services/storage.py",
            "train.py",
            "training/checkpoints.py",
            "training/cost.py",
            "training/mirror.py",
            "training/scoring.py",
            "training/shared_data.py",
            "workspace/artifacts.py",
            "workspace/files.py",
        ),
    ),
    Stage(
        "evaluate",
        Evaluation,
        ("train", "preprocess"),
        (
            "evaluate.py",
            "evaluation/samples.py",
            "gan/dataset.py",
            "gan/distances.py",
            "gan/features.py",
            "gan/inputs.py",
            "gan/metrics.py",
            *_NETWORKS,
            "gan/published.py",
            "gan/ranks.py",
            "gan/sampling.py",
            "services/cluster/placement.py",
            "services/cluster/session.py",
            "services/cluster/tasks.py",
            "workspace/artifacts.py",
            "workspace/files.py",
            "workspace/published.py",
            "workspace/scores.py",
        ),
    ),
    Stage(
        "postprocess",
        Gallery,
        ("evaluate", "train", "preprocess"),
        (
            "gan/dataset.py",
            "gan/distances.py",
            "gan/explain.py",
            "gan/inputs.py",
            "gan/metrics.py",
            *_NETWORKS,
            "gan/published.py",
            "gan/ranks.py",
            "gan/sampling.py",
            "gan/symptoms.py",
            "pictures/finishing.py",
            "pictures/metadata.py",
            "pictures/tiles.py",
            "postprocess.py",
            "reports/gallery_report.py",
            "reports/html.py",
            "reports/report.html.jinja",
            "reports/scores.py",
            "reports/scores.toml",
            "reports/sections.py",
            "workspace/artifacts.py",
            "workspace/files.py",
            "workspace/published.py",
            "workspace/scores.py",
        ),
    ),
    Stage(
        "register",
        Registration,
        ("train", "evaluate", "postprocess"),
        (
            "register.py",
            "services/tracking/registry.py",
            "services/tracking/serving_model.py",
            "workspace/artifacts.py",
            "workspace/files.py",
        ),
    ),
)


@dataclass(frozen=True)
class Step:
    """What is to be done about one stage: nothing if there is no reason."""

    stage: Stage
    reason: str | None


def key_of(stage: str, options: Options, *contents: str) -> Key:
    """The key of a stage with these validated options and the content hashes of its inputs, in their order."""
    return Key(
        options=_hash(json.dumps(options.hashed, sort_keys=True).encode()),
        inputs=inputs_hash(contents),
        code=code_hash(_stage(stage)),
    )


def inputs_hash(contents: Iterable[str]) -> str:
    """Hash of the content hashes of a stage's inputs, in their order."""
    return _hash("".join(contents).encode())


def code_hash(stage: Stage) -> str:
    """Hash of the code that makes the result of a stage, as it is now."""
    return _hash("".join(sha256_of(_CODE / file) for file in stage.code).encode())


def plan(workspace: Workspace, params: Params, tracking: str) -> list[Step]:
    """For each stage whether it has to run, and why, from the artifacts on the disk alone.

    Raises:
        UserError: there is no data.
    """
    contents = {"data": data_content(workspace.data, workspace.state)}
    steps = []
    for stage in STAGES:
        missing = [name for name in stage.inputs if name not in contents]
        found = _load(stage, workspace)
        reason = f"{missing[0]} runs" if missing else None
        if reason is None:
            key = key_of(stage.name, getattr(params, stage.name), *(contents[name] for name in stage.inputs))
            reason = _difference(stage, found, key)
        if reason is None and isinstance(found, Registration):
            reason = _unregistered(found, workspace, tracking)
        if reason is None and found is not None:
            contents[stage.name] = found.content
        steps.append(Step(stage, reason))
    return steps


def _stage(name: str) -> Stage:
    return next(stage for stage in STAGES if stage.name == name)


def _load(stage: Stage, workspace: Workspace) -> Artifact | None:
    folder = stage.folder(workspace)
    try:
        return stage.artifact.load(folder) if (folder / stage.artifact.manifest).exists() else None
    except OtherVersionError:
        return None


def _difference(stage: Stage, found: Artifact | None, key: Key) -> str | None:
    """Why `found` is not the stage's result under `key`."""
    if found is None:
        return f"there is no {stage.artifact.__name__.lower()} yet"
    changed = [name for name in ("options", "inputs", "code") if getattr(found.key, name) != getattr(key, name)]
    sources = " or ".join(stage.inputs)
    words = {"options": "its parameters changed", "inputs": f"{sources} changed", "code": "its code changed"}
    return ", ".join(words[name] for name in changed) or None


def _unregistered(found: Registration, workspace: Workspace, tracking: str) -> str | None:
    if found.tracking != tracking:
        return f"it is registered at {found.tracking}, not at {tracking}"
    if tracking == "embedded" and not (workspace.mlruns / "mlflow.db").exists():
        return "MLflow's database is gone (`ganflow rebuild-registry` restores its versions)"
    return None


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
