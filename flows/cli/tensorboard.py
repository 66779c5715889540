"""The command `ganflow tensorboard`: the curves and grids of trainings as TensorBoard shows them."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from components.gan.errors import NotThereError
from components.provenance.history import past_runs
from components.workspace.workspace import Workspace
from flows.cli.data import shown
from flows.cli.shared import ExistingOption, existing_workspace

if TYPE_CHECKING:
    from components.services.event_files import EventFiles

# How often a training that goes on is looked at while TensorBoard runs.
LOOK_SECONDS = 5


def tensorboard(
    folder: ExistingOption = Path(),
    port: Annotated[int, typer.Option(min=1, max=65535, help="of TensorBoard, on this machine only")] = 6006,
) -> None:
    """Show trainings in TensorBoard until Ctrl-C.

    Curves and sample grids of all trainings that lie in .ganflow/training, from what they write as they go. TensorBoard
    is no part of ganflow: where it is not installed, the files are written and the command is named.
    """
    workspace = existing_workspace(folder)
    out = workspace.state / "tensorboard"
    written = _Trainings(workspace, out)
    if not (points := written.look()):
        raise NotThereError(f"{workspace.root} has no training with a point of its curves yet: `ganflow train`")
    print(f"{len(written)} trainings, {points:,} points of their curves: {shown(out)}")
    if find_spec("tensorboard") is None:
        written.close()
        print(f"TensorBoard is not installed. `pip install tensorboard`, then: tensorboard --logdir {shown(out)}")
        return
    print(f"TensorBoard: http://127.0.0.1:{port} (Ctrl-C ends it); it asks nobody on this machine for a password")
    sys.stdout.flush()
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(out), "--host", "127.0.0.1"]
    server = subprocess.Popen([*command, "--port", str(port)])
    try:
        while server.poll() is None:
            written.look()
            try:
                server.wait(LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                continue
    except KeyboardInterrupt:
        print("TensorBoard has ended.")
    finally:
        server.terminate()
        server.wait()
        written.close()
    if server.returncode > 0:
        # It has said why.
        raise typer.Exit(2)


class _Trainings:
    """The trainings of a workspace, each with a folder of event files named after its run."""

    def __init__(self, workspace: Workspace, out: Path) -> None:
        self._folder, self._out = workspace.state / "training", out
        self._names = {run.key: run.name for run in past_runs(workspace)}
        self._files: dict[str, EventFiles] = {}

    def __len__(self) -> int:
        return len(self._files)

    def look(self) -> int:
        """Write what is new, and return how many points that is."""
        from components.services.event_files import EventFiles
        from components.training.checkpoints import TrainingFolder

        points = 0
        for progress in sorted(self._folder.glob("*/progress.jsonl")):
            key, training = progress.parent.name, TrainingFolder(progress.parent)
            rows = [row for row in training.read_progress()[0] if "images" in row]
            if rows:
                files = self._files.get(key) or EventFiles(self._out / self._names.get(key, key))
                self._files[key] = files
                points += files.add(rows, training.samples)
        return points

    def close(self) -> None:
        for files in self._files.values():
            files.close()
