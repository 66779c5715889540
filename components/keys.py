"""The graph of stages and the key of each; what `ganflow run` compares before it imports anything heavy.

Not part of any stage's key itself. `dvc.yaml` states the same graph, and a test pins the two to each other, and each
list of code files to what the stage really imports.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from .artifacts import (
    Artifact,
    Dataset,
    Evaluation,
    Gallery,
    Key,
    Model,
    OtherVersionError,
    Registration,
    Workspace,
    sha256_of,
)
from .gan.options import Options, UserError
from .params import Params

_CODE = Path(__file__).parent

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

    def folder(self, home: Workspace) -> Path:
        folder: Path = getattr(home, self.artifact.__name__.lower())
        return folder


STAGES = (
    Stage(
        "preprocess",
        Dataset,
        ("data",),
        (
            "artifacts.py",
            "containers.py",
            "decoding.py",
            "preprocess.py",
            "raw_images.py",
            "services/cluster.py",
        ),
    ),
    Stage(
        "train",
        Model,
        ("preprocess",),
        (
            "artifacts.py",
            "checkpoints.py",
            "cost.py",
            "gan/ada.py",
            "gan/augmentation.py",
            "gan/dataset.py",
            "gan/distances.py",
            "gan/features.py",
            "gan/losses.py",
            *_NETWORKS,
            "gan/sampling.py",
            "gan/schedules.py",
            "gan/symptoms.py",
            "gan/training_loop.py",
            "judge.py",
            "services/cluster.py",
            "services/storage.py",
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
            "gan/distances.py",
            "gan/features.py",
            "gan/metrics.py",
            *_NETWORKS,
            "gan/sampling.py",
            "measure.py",
            "services/cluster.py",
        ),
    ),
    Stage(
        "postprocess",
        Gallery,
        ("evaluate", "train", "preprocess"),
        (
            "artifacts.py",
            "gan/dataset.py",
            "gan/distances.py",
            "gan/explain.py",
            "gan/finishing.py",
            "gan/metrics.py",
            *_NETWORKS,
            "gan/sampling.py",
            "gan/symptoms.py",
            "insights.py",
            "marks.py",
            "postprocess.py",
            "report.html.jinja",
            "report.py",
            "tiles.py",
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

    `state` is the folder that remembers sizes and times, in a database because there may be millions of files.

    Raises:
        UserError: there is no file.
    """
    state.mkdir(parents=True, exist_ok=True)
    database = state / "data-hashes.sqlite"
    try:
        return _data_content(data, database)
    except sqlite3.Error:
        # Whatever is wrong with what was remembered, it can be made again.
        database.unlink(missing_ok=True)
        return _data_content(data, database)


def changed_data(data: Path, state: Path) -> list[str]:
    """Files under `data` whose bytes are no longer those that were read, though size and time are the same."""
    from tqdm import tqdm

    database = state / "data-hashes.sqlite"
    if not database.exists():
        return []
    changed = []
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as known:
        rows = known.execute("SELECT path, size, time, sha256 FROM files ORDER BY path").fetchall()
    for name, size, time, digest in tqdm(rows, desc="data", unit="file", delay=1, disable=None, leave=False):
        file = data / os.fsdecode(name)
        stat = file.stat() if file.is_file() else None
        if stat and (stat.st_size, stat.st_mtime_ns) == (size, time) and sha256_of(file) != digest:
            changed.append(os.fsdecode(name))
    return changed


def file_hashes(data: Path, state: Path) -> bytes:
    """sha256 of each file that `data_content` has seen and that is there still, sorted, 32 bytes each."""
    with closing(sqlite3.connect(f"{(state / 'data-hashes.sqlite').absolute().as_uri()}?mode=ro", uri=True)) as known:
        rows = known.execute("SELECT path, sha256 FROM files")
        return b"".join(sorted(bytes.fromhex(sha256) for path, sha256 in rows if (data / os.fsdecode(path)).is_file()))


def _data_content(data: Path, database: Path) -> str:
    from tqdm import tqdm

    content, count = hashlib.sha256(), 0
    with closing(sqlite3.connect(database, timeout=60)) as known:
        known.execute("CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, size, time, sha256) WITHOUT ROWID")
        bar = tqdm(_files(data), desc="look at data", unit="file", delay=1, disable=None, leave=False)
        for count, entry in enumerate(bar, 1):
            relative = os.fsencode(entry.path)[len(os.fsencode(data)) + 1 :]
            stamp = entry.stat().st_size, entry.stat().st_mtime_ns
            found = known.execute("SELECT size, time, sha256 FROM files WHERE path = ?", (relative,)).fetchone()
            if found and found[:2] == stamp:
                digest = found[2]
            else:
                digest = sha256_of(Path(entry.path))
                known.execute("REPLACE INTO files VALUES (?, ?, ?, ?)", (relative, *stamp, digest))
            content.update(b"%s\0%s\n" % (relative, digest.encode()))
            if count % 10_000 == 0:
                known.commit()
        known.commit()
    if not count:
        raise UserError(
            f"there is no data in {data}: run `dvc pull data.dvc`, `ganflow init --data PATH` or `ganflow data fetch`, "
            "or put images there: folders, a zip or tar, Parquet, WebDataset shards or an IDX pair"
        )
    return content.hexdigest()


def _files(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    """All files below `folder` in a fixed order."""
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in listed:
        if entry.is_dir(follow_symlinks=False):
            yield from _files(entry.path)
        elif _is_file(entry):
            yield entry


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False  # a link to itself


def _stage(name: str) -> Stage:
    return next(stage for stage in STAGES if stage.name == name)


def _load(stage: Stage, home: Workspace) -> Artifact | None:
    folder = stage.folder(home)
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


def _unregistered(found: Registration, home: Workspace, tracking: str) -> str | None:
    if found.tracking != tracking:
        return f"it is registered at {found.tracking}, not at {tracking}"
    if tracking == "embedded" and not (home.mlruns / "mlflow.db").exists():
        return "MLflow's database is gone (`ganflow rebuild-registry` restores its versions)"
    return None


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
