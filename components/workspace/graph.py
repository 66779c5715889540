"""The graph of stages and the key of each; what `ganflow run` compares before it imports anything heavy.

`dvc.yaml` states the same graph. A test pins the two to each other, and each list of code to what the stage imports:
what is imported and does not stand here makes no result, and the test says why of each such file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..gan.errors import NotThereError
from ..gan.options import Options
from .artifacts import Artifact, Dataset, Evaluation, Gallery, Key, Model, OtherVersionError, Registration
from .code import digest_of
from .data_hashes import data_content
from .params import Evaluate, Params, Train
from .workspace import Workspace

_CODE = Path(__file__).parents[1]
# Of the networks the one that is trained; what the others share stands here too.
_NETWORK = (
    "gan/models/__init__.py",
    "gan/models/image_to_image.py",
    "gan/models/layers.py",
    "gan/models/second_order.py",
    "gan/models/{network}.py",
)


@dataclass(frozen=True)
class Stage:
    """One verb of the pipeline: its artifact, what it reads, and the code that makes its result."""

    name: str
    artifact: type[Artifact]
    inputs: tuple[str, ...]
    code: tuple[str, ...]

    def folder(self, workspace: Workspace) -> Path:
        """Where the artifact lies."""
        folder: Path = getattr(workspace, self.artifact.__name__.lower())
        return folder

    def load(self, workspace: Workspace) -> Artifact:
        """Return the artifact as it lies there, whatever its key.

        Raises:
            NotThereError: it is missing, or of another version.
            DamagedError: a file is missing or has another size.
        """
        return self.artifact.load(self.folder(workspace))

    def find(self, workspace: Workspace, key: Key) -> Artifact | None:
        """Return the artifact if the stage would make the same under `key`.

        Raises:
            DamagedError: a file is missing or has another size.
        """
        try:
            found = self.load(workspace)
        except NotThereError:
            return None
        return found if found.key == key else None


STAGES = (
    Stage(
        "preprocess",
        Dataset,
        ("data",),
        (
            "ingest/class_sizes.py",
            "ingest/columns.py",
            "ingest/decoding.py",
            "ingest/duplicates.py",
            "ingest/equal.py",
            "ingest/files/archives.py",
            "ingest/files/arrays.py",
            "ingest/files/folders.py",
            "ingest/files/kinds.py",
            "ingest/files/parquet.py",
            "ingest/files/unpacking.py",
            "ingest/formats.py",
            "ingest/identity.py",
            "ingest/layout.py",
            "ingest/masks.py",
            "ingest/names.py",
            "ingest/pairs/decoding.py",
            "ingest/pairs/folders.py",
            "ingest/pairs/hidden.py",
            "ingest/pairs/names.py",
            "ingest/pairs/pairing.py",
            "ingest/pairs/table.py",
            "ingest/part_files.py",
            "ingest/part_tables.py",
            "ingest/parts.py",
            "ingest/patches.py",
            "ingest/rejections.py",
            "ingest/shards.py",
            "ingest/split_names.py",
            "ingest/splits.py",
            "ingest/summary.py",
            "ingest/table_files.py",
            "ingest/tables.py",
            "ingest/understanding.py",
            "pictures/opening.py",
            "preprocess.py",
            "workspace/text.py",
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
            "gan/draws.py",
            "gan/inputs.py",
            "gan/losses.py",
            *_NETWORK,
            "gan/order.py",
            "gan/penalties.py",
            "gan/players.py",
            "gan/ranks.py",
            "gan/sampling.py",
            "gan/schedules.py",
            "gan/tasks/holes.py",
            "gan/tasks/image_task.py",
            "gan/tasks/image_tasks.py",
            "gan/tasks/translation.py",
            "gan/tasks/wear.py",
            "gan/training_loop.py",
            "gan/views.py",
            "measures/directions.py",
            "measures/distances.py",
            "measures/features.py",
            "measures/fidelity.py",
            "measures/perceptual.py",
            "measures/transparency.py",
            "training/points.py",
            "training/publish.py",
            "training/restyle_scoring.py",
            "training/scoring.py",
            "training/task_scoring.py",
            "training/worker.py",
            "workspace/feature_nets.py",
        ),
    ),
    Stage(
        "evaluate",
        Evaluation,
        ("train", "preprocess"),
        (
            "evaluate.py",
            "evaluation/baselines.py",
            "evaluation/hidden_pairs.py",
            "evaluation/nearest.py",
            "evaluation/recolouring.py",
            "evaluation/restyle_evaluation.py",
            "evaluation/result.py",
            "evaluation/samples.py",
            "evaluation/seen.py",
            "evaluation/task_evaluation.py",
            "evaluation/truncation.py",
            "gan/dataset.py",
            "gan/inputs.py",
            "gan/latents.py",
            "gan/losses.py",
            *_NETWORK,
            "gan/published.py",
            "gan/ranks.py",
            "gan/sampling.py",
            "gan/tasks/holes.py",
            "gan/tasks/image_task.py",
            "gan/tasks/image_tasks.py",
            "gan/tasks/translation.py",
            "gan/tasks/wear.py",
            "measures/copies.py",
            "measures/directions.py",
            "measures/distances.py",
            "measures/extrapolation.py",
            "measures/features.py",
            "measures/fidelity.py",
            "measures/intervals.py",
            "measures/manifolds.py",
            "measures/metrics.py",
            "measures/onnx_net.py",
            "measures/perceptual.py",
            "measures/reconstruction.py",
            "measures/transparency.py",
            "workspace/chosen_nets.py",
            "workspace/feature_nets.py",
            "workspace/published.py",
            "workspace/scores.py",
        ),
    ),
    Stage(
        "postprocess",
        Gallery,
        ("evaluate", "train", "preprocess"),
        (
            "evaluation/baselines.py",
            "evaluation/nearest.py",
            "evaluation/recolouring.py",
            "gan/dataset.py",
            "gan/explain.py",
            "gan/inputs.py",
            "gan/latents.py",
            *_NETWORK,
            "gan/published.py",
            "gan/ranks.py",
            "gan/sampling.py",
            "gan/symptoms.py",
            "gan/tasks/holes.py",
            "gan/tasks/image_task.py",
            "gan/tasks/image_tasks.py",
            "gan/tasks/translation.py",
            "gan/tasks/wear.py",
            "measures/distances.py",
            "measures/intervals.py",
            "measures/manifolds.py",
            "measures/metrics.py",
            "measures/transparency.py",
            "pictures/finishing.py",
            "pictures/lettering.py",
            "pictures/metadata.py",
            "pictures/tiles.py",
            "postprocess.py",
            "reports/examples.py",
            "reports/gallery_report.py",
            "reports/html.py",
            "reports/report.html.jinja",
            "reports/scores.py",
            "reports/scores.toml",
            "reports/sections.py",
            "reports/task_gallery.py",
            "reports/task_report.html.jinja",
            "reports/task_report.py",
            "reports/task_words.py",
            "workspace/measure_words.py",
            "workspace/published.py",
            "workspace/scores.py",
            "workspace/text.py",
        ),
    ),
    Stage(
        "register",
        Registration,
        ("train", "evaluate", "postprocess"),
        (
            "gan/dataset.py",
            "gan/inputs.py",
            "gan/latents.py",
            *_NETWORK,
            "gan/published.py",
            "gan/ranks.py",
            "gan/sampling.py",
            "gan/tasks/holes.py",
            "gan/tasks/image_task.py",
            "gan/tasks/image_tasks.py",
            "gan/tasks/translation.py",
            "gan/tasks/wear.py",
            "gan/tasks/windows.py",
            "register.py",
            "services/tracking/packing.py",
            "services/tracking/registry.py",
            "services/tracking/serving_model.py",
            "workspace/published.py",
        ),
    ),
)


@dataclass(frozen=True)
class Step:
    """What is to be done about one stage: nothing if there is no reason."""

    stage: Stage
    reason: str | None


def stage_named(name: str) -> Stage:
    """Return the stage with this name."""
    return next(stage for stage in STAGES if stage.name == name)


def key_of(stage: Stage, options: Options, *inputs: Artifact | str) -> Key:
    """Return the key of a stage with these validated options and inputs, in order; raw data counts by its hash."""
    model = next((given for given in inputs if isinstance(given, Model)), None)
    trained = options if isinstance(options, Train) else model and model.training
    code = code_hash(stage, trained.network.name if trained else None)
    contents = (given if isinstance(given, str) else given.content for given in inputs)
    return Key(options=options_hash(options), inputs=inputs_hash(contents), code=code)


def files_named(options: Options, workspace: Workspace) -> tuple[str, ...]:
    """Return the hashes of files that options name, which are inputs of a stage too.

    Raises:
        UserError: one of them is missing or too large.
    """
    if not (isinstance(options, Evaluate) and options.feature_net.endswith(".onnx")):
        return ()
    from .chosen_nets import hash_of_file

    return (hash_of_file(options.feature_net, workspace),)


def options_hash(options: Options) -> str:
    """Hash of validated options."""
    return _hash(json.dumps(options.hashed, sort_keys=True).encode())


def first_options_hash(options: Options) -> str:
    """Hash of validated options as version 0.1.0 took it: whatever they compute otherwise by now."""
    hashed = {name: value for name, value in options.hashed.items() if name != "corrected"}
    return _hash(json.dumps(hashed, sort_keys=True).encode())


def inputs_hash(contents: Iterable[str]) -> str:
    """Hash of the content hashes of a stage's inputs, in their order."""
    return _hash("".join(contents).encode())


def code_hash(stage: Stage, network: str | None = None) -> str:
    """Hash of what the code of a stage computes, as it is now; `network`: the one that it trains or samples from.

    Neither names of files nor their order count, so that a file may be moved.
    """
    digests = sorted(digest_of(_CODE / file.format(network=network)) for file in stage.code)
    return _hash("".join(digests).encode())


def plan(workspace: Workspace, params: Params, tracking: str) -> list[Step]:
    """For each stage whether it has to run, and why, from the artifacts on the disk alone.

    Raises:
        UserError: there is no data.
    """
    made: dict[str, Artifact | str] = {
        "data": data_content(workspace.data, workspace.state, params.preprocess.follow_links)
    }
    steps = []
    for stage in STAGES:
        missing = [name for name in stage.inputs if name not in made]
        found = _present(stage, workspace)
        reason = f"{missing[0]} runs" if missing else None
        if reason is None:
            options = getattr(params, stage.name)
            key = key_of(stage, options, *(made[name] for name in stage.inputs), *files_named(options, workspace))
            reason = _difference(stage, found, key)
        if reason is None and isinstance(found, Registration):
            reason = _unregistered(found, workspace, tracking)
        if reason is None and found is not None:
            made[stage.name] = found
        steps.append(Step(stage, reason))
    return steps


def _present(stage: Stage, workspace: Workspace) -> Artifact | None:
    try:
        return stage.load(workspace) if (stage.folder(workspace) / stage.artifact.manifest).exists() else None
    except OtherVersionError:
        return None


def _difference(stage: Stage, found: Artifact | None, key: Key) -> str | None:
    """Why `found` is not the stage's result under `key`."""
    if found is None:
        return f"there is no {stage.artifact.__name__.lower()} yet"
    sources = " or ".join(stage.inputs)
    words = {"options": "its parameters changed", "inputs": f"{sources} changed", "code": "its code changed"}
    return ", ".join(words[name] for name in words if getattr(found.key, name) != getattr(key, name)) or None


def _unregistered(found: Registration, workspace: Workspace, tracking: str) -> str | None:
    if found.tracking != tracking:
        return f"it is registered at {found.tracking}, not at {tracking}"
    if tracking == "embedded" and not (workspace.mlruns / "mlflow.db").exists():
        return "MLflow's database is gone (`ganflow rebuild-registry` restores its versions)"
    return None


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
