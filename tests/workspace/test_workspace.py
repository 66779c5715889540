"""The lock by which runs know of each other, and what a workspace from elsewhere may bring."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from threading import Timer

import pytest

from components.gan.errors import UserError
from components.workspace.workspace import Workspace
from flows.cli.shared import workspace_at
from tests.conftest import PROJECT, environment


def test_a_disk_without_locks_is_refused(tmp_path: Path) -> None:
    """As some network disks are; a lock by numbers and names would outlive a holder that was killed."""
    library = tmp_path / "no_locks.so"
    source = "#include <errno.h>\nint flock(int file, int how) { errno = ENOSYS; return -1; }\n"
    command = ["cc", "-shared", "-fPIC", "-x", "c", "-o", str(library), "-"]
    subprocess.run(command, input=source, text=True, check=True)
    for taken in ("Workspace(root).exclusive()", "platform.hold(Workspace(root))"):
        code = (
            "import sys; from pathlib import Path; from components.gan.errors import UserError;"
            "from components.services import platform; from components.workspace.workspace import Workspace\n"
            f"root = Path(sys.argv[1])\ntry: {taken}\nexcept UserError as error: print(error)"
        )
        result = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)],
            env=environment(PYTHONPATH=str(PROJECT), LD_PRELOAD=str(library)),
            capture_output=True,
            text=True,
        )
        assert "has no file locks (flock)" in result.stdout and "another disk" in result.stdout, result.stderr
        assert not result.stderr


@pytest.mark.parametrize(
    "name",
    [
        ".ganflow/ledger.jsonl",
        ".ganflow/platform.tmp",
        ".ganflow/platform/mlflow-auth.ini",
        ".ganflow/inbox/0123456789abcdef",
        ".ganflow/training/0123456789abcdef",
        "mlruns/ledger.tmp",
        "mlruns/mlflow.db",
    ],
)
@pytest.mark.parametrize("kind", ["file", "folder", "nothing", "pipe"])
def test_nothing_is_written_through_a_link_that_a_workspace_brings(tmp_path: Path, name: str, kind: str) -> None:
    root, home = tmp_path / "theirs", tmp_path / "home"
    for folder in (root / "mlruns", root / ".ganflow", home):
        folder.mkdir(parents=True)
    (root / "params.yaml").touch()
    workspace_at(root)
    place = root / name
    place.parent.mkdir(parents=True, exist_ok=True)
    if kind == "pipe":
        os.mkfifo(place)
    else:
        (home / "file").touch()
        (home / "folder").mkdir()
        place.symlink_to(home / kind)
    if kind == "folder" and place.parent in (root / "mlruns", root / ".ganflow"):
        # Such as one to a larger disk.
        workspace_at(root)
    else:
        with pytest.raises(UserError, match=f"{place} is a link, or neither file nor folder"):
            workspace_at(root)
    place.unlink()
    # Nor is there one behind a folder that is a link.
    (root / ".ganflow" / "gate").symlink_to(tmp_path / "their other folder")
    (tmp_path / "their other folder").mkdir()
    workspace_at(root)
    (tmp_path / "their other folder" / "x.tmp").symlink_to(home / "file")
    with pytest.raises(UserError, match=r"x\.tmp is a link"):
        workspace_at(root)


def test_only_folders_of_results_are_taken_for_half_built(tmp_path: Path) -> None:
    home, workspace = tmp_path / "home", Workspace(tmp_path / "theirs")
    for name in (".vscode-server", ".config-old", ".model-0123abcd", ".verdict-a1_b2c3d"):
        (home / name).mkdir(parents=True)
    workspace.root.mkdir()
    (workspace.root / "artifacts").symlink_to(home)
    with workspace.exclusive():
        assert {path.name for path in home.iterdir()} == {".vscode-server", ".config-old"}


def test_who_only_looks_at_the_lock_keeps_nobody_away(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.state.mkdir()
    with (workspace.state / "lock").open("w") as looked:
        fcntl.flock(looked, fcntl.LOCK_EX)
        timer = Timer(0.2, lambda: fcntl.flock(looked, fcntl.LOCK_UN))
        timer.start()
        with workspace.exclusive():
            timer.join()


@pytest.mark.parametrize("name", [".ganflow/training/0123456789abcdef/cost", ".ganflow/training/ray/0123456789abcdef"])
def test_a_training_writes_through_no_link(tmp_path: Path, name: str) -> None:
    workspace, place = Workspace(tmp_path), tmp_path / name
    place.parent.mkdir(parents=True)
    workspace.check_training("0123456789abcdef")
    place.mkdir()
    (place / "made").symlink_to(tmp_path)
    # Not looked for where another training's key is named, which may be one of thousands.
    workspace.check_own_files()
    workspace.check_training("f" * 16)
    with pytest.raises(UserError, match="made is a link"):
        workspace.check_training("0123456789abcdef")
