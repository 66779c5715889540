"""The workspace: one folder with parameters, data and results, held by one process at a time."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

from ..gan.errors import BusyError, UserError
from .files import disk_errors, write_whole


@dataclass(frozen=True)
class Workspace:
    """A folder with parameters, data and results; the clone is one, `--workspace DIR` names another."""

    root: Path

    @property
    def params(self) -> Path:
        return self.root / "params.yaml"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def dataset(self) -> Path:
        return self.root / "artifacts" / "dataset"

    @property
    def model(self) -> Path:
        return self.root / "artifacts" / "model"

    @property
    def evaluation(self) -> Path:
        return self.root / "artifacts" / "evaluation"

    @property
    def gallery(self) -> Path:
        return self.root / "artifacts" / "gallery"

    @property
    def registration(self) -> Path:
        return self.root / "mlruns" / "registration"

    @property
    def verdict(self) -> Path:
        return self.root / "mlruns" / "verdict"

    @property
    def mlruns(self) -> Path:
        return self.root / "mlruns"

    @property
    def state(self) -> Path:
        """Training state, feature nets, Prefect's home: all but the ledger may be deleted at the price of time."""
        return self.root / ".ganflow"

    @property
    def ledger(self) -> Path:
        """What came from what (`ledger.py`): the one thing here that cannot be made again."""
        return self.state / "ledger.jsonl"

    def half_built(self) -> list[Path]:
        """List the folders that `files.staging` began, or replaced, in a process that was killed.

        By the names of results: `artifacts` may be a link to a folder with others of the user's.
        """
        results = (self.dataset, self.model, self.evaluation, self.gallery, self.registration, self.verdict)
        return [
            left
            for parent in ("artifacts", "mlruns")
            for result in results
            for left in (self.root / parent).glob(f".{result.name}-*")
        ]

    def check_own_files(self) -> None:
        """Make sure that what ganflow writes stays here: a workspace from elsewhere may bring links.

        The folders right below `.ganflow/` may be links, such as to a larger disk. Of trainings, of which there may be
        thousands, only their folders are looked at: `check_training` looks into the one that is written to.

        Raises:
            UserError: where ganflow writes there is a link, or something that is neither file nor folder.
        """
        trainings = self.state / "training"
        for found in (*_own(self.mlruns, (self.mlruns,)), *_own(self.state, (trainings, trainings / "ray"))):
            if not (found.is_symlink() and found.is_dir() and found.parent in (self.mlruns, self.state)):
                raise _foreign(found)

    def check_training(self, key: str) -> None:
        """Make sure of the same in the folders of one training.

        Raises:
            UserError: there is a link, or something that is neither file nor folder.
        """
        for folder in (self.state / "training" / key, self.state / "training" / "ray" / key):
            for found in _own(folder):
                raise _foreign(found)

    def exclusive(self) -> AbstractContextManager[object]:
        """Hold the workspace, until the block ends or else the process does; a holder that died holds nothing.

        Raises:
            BusyError: another process holds it.
        """
        lock = _lock(self.root)
        holder = self.state / "holder.json"
        with disk_errors(holder):
            self.state.mkdir(parents=True, exist_ok=True)
            try:
                # `ganflow doctor` looks at it for a moment.
                held: AbstractContextManager[object] = lock.acquire(timeout=1)
            except Timeout:
                raise _busy(self.root, holder) from None
            if lock.lock_counter == 1:
                since = datetime.now().astimezone().isoformat(timespec="seconds")
                write_whole(holder, json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}))
                for left in self.half_built():
                    shutil.rmtree(left, ignore_errors=True)
        return held


def _foreign(found: Path) -> UserError:
    return UserError(
        f"{found} is a link, or neither file nor folder, which ganflow makes none of: remove it, for what is written "
        "there would go elsewhere"
    )


def _own(folder: Path, shallow: Sequence[Path] = ()) -> Iterator[Path]:
    """Yield what in `folder` is neither a file nor a folder; of a link to a folder what is in it, too.

    Of what lies in the folders that are `shallow` only they are looked into.
    """
    waiting = [os.fspath(folder)]
    ends = {os.fspath(path) for path in shallow}
    while waiting:
        at = waiting.pop()
        # Others may remove it meanwhile.
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError), os.scandir(at) as entries:
            for entry in entries:
                deep = at not in ends or entry.path in ends
                if entry.is_dir(follow_symlinks=False):
                    waiting += [entry.path] if deep else []
                elif not entry.is_file(follow_symlinks=False):
                    yield Path(entry.path)
                    waiting += [entry.path] if deep and entry.is_dir() else []


@cache
def _lock(root: Path) -> FileLock:
    """One for each workspace and process: a stage takes what its flow holds already."""
    return FileLock(root / ".ganflow" / "lock", thread_local=False, fallback_to_soft=False)


def _busy(root: Path, holder: Path) -> BusyError:
    try:
        held = json.loads(holder.read_text())
        by = f"process {held['pid']} on {held['host']} since {held['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        by = "another process"
    return BusyError(f"{root} is in use by {by}: wait for its end, or name another folder by --workspace")
