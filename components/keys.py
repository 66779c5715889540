"""The graph of stages and the key of each; what `ganflow run` compares before it imports anything heavy.

Not part of any stage's key itself. `dvc.yaml` states the same graph, and a test pins the two to each other, and each
list of code files to what the stage really imports.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from .artifacts import Artifact, Dataset, Evaluation, Gallery, Key, Model, Registration, Workspace, sha256_of
from .gan.options import Options, UserError
from .params import Params

_CODE = Path(__file__).parent

# Schemas of options are not among the code: their validated values are hashed.
_NETWORKS = ("gan/models/__init__.py", "gan/models/dcgan.py", "gan/models/layers.py", "gan/models/mlp.py")


@dataclass(frozen=True)
class Stage:
    """One verb of the pipeline: its artifact, the stages it reads, and the code that makes its result."""

    name: str
    artifact: type[Artifact]
    inputs: tuple[str, ...]
    code: tuple[str, ...]

    def folder(self, home: Workspace) -> Path:
        folder: Path = getattr(home, self.artifact.__name__.lower())
        return folder


STAGES = (
    Stage("preprocess", Dataset, ("data",), ("artifacts.py", "preprocess.py", "raw_images.py", "services/cluster.py")),
    Stage(
        "train",
        Model,
        ("preprocess",),
        (
            "artifacts.py",
            "checkpoints.py",
            "gan/augmentation.py",
            "gan/dataset.py",
            "gan/features.py",
            "gan/losses.py",
            "gan/metrics.py",
            *_NETWORKS,
            "gan/sampling.py",
            "gan/training_loop.py",
            "services/cluster.py",
            "train.py",
        ),
    ),
    Stage(
        "evaluate",
        Evaluation,
        ("train", "preprocess"),
        (
            "artifacts.py",
            "evaluate.py",
            "gan/dataset.py",
            "gan/features.py",
            "gan/metrics.py",
            *_NETWORKS,
            "gan/sampling.py",
        ),
    ),
    Stage(
        "postprocess",
        Gallery,
        ("evaluate", "train", "preprocess"),
        (
            "artifacts.py",
            "gan/dataset.py",
            "gan/finishing.py",
            *_NETWORKS,
            "gan/sampling.py",
            "postprocess.py",
            "report.html.jinja",
            "report.py",
        ),
    ),
    Stage(
        "register",
        Registration,
        ("train", "evaluate", "postprocess"),
        ("artifacts.py", "register.py", "services/serving_model.py", "services/tracking.py"),
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
        options=_hash(json.dumps(options.model_dump(mode="json"), sort_keys=True).encode()),
        inputs=_hash("".join(contents).encode()),
        code=_hash("".join(sha256_of(_CODE / file) for file in _stage(stage).code).encode()),
    )


def plan(home: Workspace, params: Params, tracking: str) -> list[Step]:
    """For each stage whether it has to run, and why, from the artifacts on the disk alone.

    Raises:
        UserError: there is no data.
    """
    contents = {"data": data_content(home.data, home.state)}
    steps = []
    for stage in STAGES:
        missing = [name for name in stage.inputs if name not in contents]
        found = _load(stage, home)
        reason = f"{missing[0]} runs" if missing else None
        if reason is None:
            key = key_of(stage.name, getattr(params, stage.name), *(contents[name] for name in stage.inputs))
            reason = _difference(stage, found, key)
        if reason is None and isinstance(found, Registration):
            reason = _unregistered(found, home, tracking)
        if reason is None and found is not None:
            contents[stage.name] = found.content
        steps.append(Step(stage, reason))
    return steps


def data_content(data: Path, state: Path) -> str:
    """Hash of the names and bytes of all files under `data`; unchanged files are not read again.

    `state` is the folder that remembers sizes and times.

    Raises:
        UserError: there is no file.
    """
    cache_file = state / "data-hashes.json"
    try:
        cache = json.loads(cache_file.read_text())
    except (OSError, ValueError):
        cache = {}
    content, fresh = hashlib.sha256(), {}
    for folder, folders, names in os.walk(data):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if not path.is_file():
                continue
            relative, status = path.relative_to(data).as_posix(), path.stat()
            stamp = [status.st_size, status.st_mtime_ns]
            known = cache.get(relative)
            digest = known[2] if known and known[:2] == stamp else sha256_of(path)
            fresh[relative] = [*stamp, digest]
            content.update(os.fsencode(f"{relative}\0{digest}\n"))
    if not fresh:
        raise UserError(
            f"there is no data in {data}: run `dvc pull data.dvc`, or put an IDX pair or one folder of images "
            "for each class there"
        )
    if fresh != cache:
        cache_file.parent.mkdir(parents=True, exist_ok=True)
        staged = cache_file.with_suffix(f".{os.getpid()}.tmp")
        staged.write_text(json.dumps(fresh))
        staged.replace(cache_file)
    return content.hexdigest()


def _stage(name: str) -> Stage:
    return next(stage for stage in STAGES if stage.name == name)


def _load(stage: Stage, home: Workspace) -> Artifact | None:
    folder = stage.folder(home)
    return stage.artifact.load(folder) if (folder / stage.artifact.manifest).exists() else None


def _difference(stage: Stage, found: Artifact | None, key: Key) -> str | None:
    """Why `found` is not the stage's result under `key`."""
    if found is None:
        return f"there is no {stage.artifact.__name__.lower()} yet"
    changed = [name for name in ("options", "inputs", "code") if getattr(found.key, name) != getattr(key, name)]
    sources = " or ".join(stage.inputs)
    words = {"options": "its parameters changed", "inputs": f"{sources} changed", "code": "its code changed"}
    return ", ".join(words[name] for name in changed) or None


def _unregistered(found: Registration, home: Workspace, tracking: str) -> str | None:
    if found.tracking != tracking:
        return f"it is registered at {found.tracking}, not at {tracking}"
    if tracking == "embedded" and not (home.mlruns / "mlflow.db").exists():
        return "MLflow's database is gone"
    return None


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
