"""Trainings that were begun and have not ended: each is finished with the parameters and the data that it began with.

Both are kept beside its checkpoints, so that they may be changed while it waits. The data set is kept by hard links,
which take no room.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
from collections.abc import Iterator, Set
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..gan.errors import DamagedError, NotThereError
from ..gan.options import STORED, Options
from ..services.tracking import runs
from ..workspace.artifacts import Dataset, Key
from ..workspace.data_hashes import data_content
from ..workspace.files import sealed, staging, unsealed, write_whole
from ..workspace.graph import first_options_hash, inputs_hash, key_of, options_hash, stage_named
from ..workspace.params import Params, Train
from ..workspace.workspace import Workspace

RECORD = "begun.json"
DATASET = "dataset"
# Of the training stage in the version that kept no records, 29edf2a: what it left half-way is finished by this code.
FIRST_CODE = "6ee30b753addd28f69552353681c7ed3d81f850d300aa8360ec35f5d24308a4f"
# In `.ganflow`: the keys of trainings whose record says that they ended, so that not all are read by every command.
ENDED = "ended-trainings"


class Begun(Options):
    """What a training was begun with. It is open until its model is registered, or it is given up."""

    options: Train
    key: Key
    since: str
    open: bool = True

    def folder(self, workspace: Workspace) -> Path:
        """Where the training lies."""
        return workspace.state / "training" / self.key.id

    def dataset(self, workspace: Workspace) -> Dataset:
        """Return the data set that it was begun with.

        Raises:
            UserError: it is missing or damaged.
        """
        return Dataset.load(self.folder(workspace) / DATASET)

    def resumed(self, params: Params) -> Params:
        """`params` with this training's own."""
        return params.model_copy(update={"train": self.options})

    def summary(self, workspace: Workspace) -> str:
        """Half a sentence on which training it is."""
        reached = self.reached(workspace)
        return f"the training begun on {self.since:.16}, at image {reached:,} of {self.options.images:,}"

    def finishing(self, workspace: Workspace) -> str:
        """Return a sentence on what is done about it."""
        return (
            f"finishing {self.summary(workspace)}, with its own data and parameters; the next run uses the present "
            "ones (--discard-training does so at once)"
        )

    def reached(self, workspace: Workspace) -> int:
        """How many images its last checkpoint has seen; 0 if there is none."""
        folder = self.folder(workspace)
        if not self.options.storage:
            return max(_checkpoints(folder), default=0)
        # Checkpoints lie at the storage, and only the curves are here: one is made where there is a score.
        with suppress(OSError, ValueError, TypeError, KeyError, OverflowError):
            rows = [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]
            return max((int(row["images"]) for row in rows if "score" in row), default=0)
        return 0


def begin(options: Train, dataset: Dataset, key: Key, workspace: Workspace) -> None:
    """Keep what a training is begun with, unless that was done.

    Raises:
        UserError: there is no space left.
    """
    # First: what is listed is not looked at.
    if key.id in (ended := _ended(workspace)):
        _list_ended(ended - {key.id}, workspace)
    before = _read(workspace.state / "training" / key.id)
    since = before.since if before else datetime.now().astimezone().isoformat(sep=" ", timespec="minutes")
    _keep(Begun(options=options, key=key, since=since), dataset, workspace)


def end(key: Key, workspace: Workspace) -> None:
    """Let go of what the training with this key was begun with: it is over, or is not to be finished.

    To be called, as `begin`, by who holds the workspace.
    """
    folder = workspace.state / "training" / key.id
    if begun := _read(folder):
        _write(begun.model_copy(update={"open": False}), workspace)
        shutil.rmtree(folder / DATASET, ignore_errors=True)
        before = _ended(workspace)
        over = {other.name for other in _unlisted(before, workspace) if (found := _read(other)) and not found.open}
        _list_ended(before | over, workspace)


def open_trainings(params: Params, workspace: Workspace) -> list[Begun]:
    """Those that have got somewhere and did not end, oldest first.

    Of those that were begun by a ganflow which kept no such record, it is made now, if what they were begun with can
    be told: by `params`, or else by what MLflow was told.
    """
    found = []
    for folder in _unlisted(_ended(workspace), workspace):
        begun = _read(folder) or _recovered(folder, params, workspace)
        if begun and begun.open and begun.reached(workspace):
            found.append(begun)
    return sorted(found, key=lambda begun: begun.since)


def unfinished(params: Params, workspace: Workspace, dataset: Key | None = None) -> Begun | None:
    """Return the training that has to be finished first: the oldest open one of other data or parameters than `params`.

    `dataset`: the key of the data set that would be trained on; by default of that which `params` make of the data.
    """
    opened = open_trainings(params, workspace)
    if opened and dataset is None:
        data = data_content(workspace.data, workspace.state, params.preprocess.follow_links)
        dataset = key_of(stage_named("preprocess"), params.preprocess, data)
    return next((begun for begun in opened if not _is_present(begun, params, dataset, workspace)), None)


def key_to_go_on_with(key: Key, params: Params, workspace: Workspace) -> Key:
    """Return the key to continue when `key` is asked for: that of the same training begun by earlier code, or `key`.

    A training that is open is finished by the present code, whatever it was begun by.
    """
    opened = (begun.key for begun in open_trainings(params, workspace))
    return next((old for old in opened if (old.options, old.inputs) == (key.options, key.inputs)), key)


def restore_dataset(begun: Begun, workspace: Workspace) -> Dataset:
    """Make the data set that a training was begun with the workspace's.

    Raises:
        UserError: it is damaged, or there is no space left.
    """
    kept = begun.dataset(workspace)
    # A damaged one is replaced by the whole one that was kept.
    with suppress(NotThereError, DamagedError):
        present = Dataset.load(workspace.dataset)
        if present.content == kept.content:
            return present
    with staging(workspace.dataset) as folder:
        _link(kept.folder, folder)
    return Dataset.load(workspace.dataset)


def _unlisted(ended: Set[str], workspace: Workspace) -> list[Path]:
    """List the folders of trainings but those that `ended`."""
    folder = workspace.state / "training"
    # Of thousands each path would take longer to make than to leave out.
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.name not in ended)
    return []


def _ended(workspace: Workspace) -> Set[str]:
    """Read the keys of the trainings that are listed as ended; none, if that cannot be read."""
    with suppress(OSError, ValueError):
        return {*(workspace.state / ENDED).read_text(encoding="ascii").split()}
    return set()


def _list_ended(keys: Set[str], workspace: Workspace) -> None:
    write_whole(workspace.state / ENDED, "".join(f"{key}\n" for key in sorted(keys)))


def _is_present(begun: Begun, params: Params, dataset: Key | None, workspace: Workspace) -> bool:
    """Whether `params` and the data set with this key lead to the training."""
    try:
        same_data = dataset is not None and begun.dataset(workspace).key == dataset
    except (NotThereError, DamagedError):
        # Nothing is left to finish it with but what lies here now.
        return True
    return same_data and begun.key.options == options_hash(params.train)


def _keep(begun: Begun, dataset: Dataset, workspace: Workspace) -> None:
    """Write the data set first: the record says that it is there."""
    kept = begun.folder(workspace) / DATASET
    if not (kept / Dataset.manifest).exists():
        with staging(kept) as folder:
            _link(dataset.folder, folder)
    _write(begun, workspace)


def _write(begun: Begun, workspace: Workspace) -> None:
    write_whole(begun.folder(workspace) / RECORD, sealed(begun.model_dump(mode="json")))


def _read(folder: Path) -> Begun | None:
    try:
        return Begun.model_validate(unsealed((folder / RECORD).read_text()), context=STORED)
    except (OSError, ValueError, TypeError):
        return None


def _link(source: Path, target: Path) -> None:
    """Fill `target` with the files of an artifact, which nobody writes to: by links, or copies on another disk."""
    for file in source.iterdir():
        try:
            os.link(file, target / file.name)
        except OSError:
            shutil.copyfile(file, target / file.name)


def _checkpoints(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.glob("checkpoints/[0-9]*") if re.fullmatch("[0-9]{1,18}", path.name)]


def _recovered(folder: Path, params: Params, workspace: Workspace) -> Begun | None:
    """Return the record of a training that has none: of options and data whose key is that of its folder."""
    try:
        # First, because of most trainings none are left.
        (described, *_) = sorted(folder.glob("checkpoints/*/checkpoint.json"), reverse=True)
        dataset = Dataset.load(workspace.dataset)
        workers = unsealed(described.read_text())["execution"]["workers"]
    except (NotThereError, DamagedError, OSError, ValueError, KeyError, TypeError):
        return None
    # What the present parameters do not say was then as it was.
    said = params.train.model_dump(mode="json", exclude_unset=True)
    for options in (Train.model_validate(said, context=STORED), *_logged(folder.name, workers, workspace)):
        inputs = inputs_hash([dataset.content])
        key = Key(options=first_options_hash(options), inputs=inputs, code=FIRST_CODE)
        if key.id == folder.name:
            since = datetime.fromtimestamp(described.stat().st_mtime).astimezone()
            half = max(_checkpoints(folder)) < options.images
            begun = Begun(options=options, key=key, since=since.isoformat(sep=" ", timespec="minutes"), open=half)
            if half:
                _keep(begun, dataset, workspace)
            return begun
    return None


def _logged(key: str, workers: int, workspace: Workspace) -> Iterator[Train]:
    """Yield what MLflow knows of a training's options; it was not told how many workers were asked for."""
    values: dict[str, Any] = {}
    for name, text in runs.params_of(key, workspace).items():
        section, _, rest = name.partition(".")
        *parents, last = rest.split(".")
        if section == "train":
            inner: Any = values
            for parent in parents:
                inner = inner.setdefault(parent, {}) if isinstance(inner, dict) else {}
            if isinstance(inner, dict):
                inner[last] = _value(text)
    for asked in ("auto", workers) if values else ():
        with suppress(ValidationError):
            yield Train.model_validate({**values, "workers": asked}, context=STORED)


def _value(text: str) -> Any:
    """Return what `str` made `text` of."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
