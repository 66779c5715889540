"""Which process is which, whatever happens to clocks, names, numbers and folders."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from components.services import platform
from components.services.platform import Platform
from components.services.process import Claim, Process, folder_id
from components.workspace.workspace import Workspace
from tests.conftest import PROJECT, environment


@contextmanager
def started(code: str, *arguments: str, **extra: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has said that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=environment(PYTHONPATH=str(PROJECT), **extra),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout and process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


WAITS = "print('ready', flush=True); input()"


def seen_from(code: str, *arguments: str, unshare: tuple[str, ...] = ()) -> str:
    """What a process says that looks from other namespaces."""
    command = [*unshare, sys.executable, "-c", code, *arguments]
    result = subprocess.run(command, env=environment(PYTHONPATH=str(PROJECT)), capture_output=True, text=True)
    if unshare and "Operation not permitted" in result.stderr:
        pytest.skip("namespaces cannot be made here")
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


PID_NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc")
HOST_NAME = ("unshare", "--uts", "sh", "-c", 'hostname elsewhere && exec "$@"', "sh")


def test_a_process_is_known_by_boot_namespace_start_and_token() -> None:
    with started(WAITS, TOKEN="abc") as process:
        known = Process.of(process.pid, "TOKEN=abc")
        assert (found := known.find()) and found.pid == process.pid
        # As after another start of the machine, in another container, of another process with its number, and of one
        # with its start too, as machines that are put back to a snapshot have them.
        for change in ({"boot": "x"}, {"namespace": "x"}, {"ticks": known.ticks + 1}, {"token": "TOKEN=abd"}):
            assert known.model_copy(update=change).find() is None, change
        assert not known.model_copy(update={"boot": "x"}).is_here
        process.kill()
        until = time.monotonic() + 10
        # Nobody has waited for it yet.
        while known.find():
            assert time.monotonic() < until
            time.sleep(0.01)
        assert psutil.pid_exists(process.pid)


def test_a_start_is_counted_by_the_kernel_not_by_the_clock(tmp_path: Path) -> None:
    """Under a clock that was set back, a process is the one that it was."""
    clock = tmp_path / "clock.so"
    source = PROJECT / "tests" / "harness" / "clock.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(clock), str(source), "-ldl"], check=True)
    looks = (
        "import sys; from components.services.process import Process;"
        "print(Process.model_validate_json(sys.argv[1]).find() is not None)"
    )
    with started(WAITS) as process:
        known = Process.of(process.pid).model_dump_json()
        shown = subprocess.run(
            [sys.executable, "-c", looks, known],
            env=environment(PYTHONPATH=str(PROJECT), LD_PRELOAD=str(clock), CLOCK_SET_BACK="/"),
            capture_output=True,
            text=True,
        )
        assert shown.stdout.strip() == "True", shown.stderr


def test_from_another_container_no_number_means_anything() -> None:
    looks = "import sys; from components.services.process import Process;"
    looks += "known = Process.model_validate_json(sys.argv[1]); print(known.is_here, known.find() is not None)"
    known = Process.of(os.getpid()).model_dump_json()
    assert seen_from(looks, known) == "True True"
    assert seen_from(looks, known, unshare=HOST_NAME) == "True True"
    assert seen_from(looks, known, unshare=PID_NAMESPACE) == "False False"


HOLDS = (
    "import os, sys; from pathlib import Path; from components.services import platform;"
    "from components.services.platform import Platform; from components.services.process import Process, folder_id;"
    "from components.workspace.workspace import Workspace\n"
    "w = Workspace(Path(sys.argv[1]))\n"
    "with platform.hold(w):\n"
    "    Platform(supervisor=Process.of(os.getpid()), folder=folder_id(w), root=str(w.root), prefect='http://x/api',"
    " mlflow='http://x').write(w)\n"
    "    print('ready', flush=True); input()"
)
LOOKS = (
    "import sys; from pathlib import Path; from components.services import platform;"
    "from components.workspace.workspace import Workspace\n"
    "w = Workspace(Path(sys.argv[1]))\n"
    "print(platform.is_held(w), platform.running(w) is not None)"
)


def test_a_platform_is_that_of_its_folder_however_it_is_reached(tmp_path: Path) -> None:
    root = tmp_path / "workspace"
    root.mkdir()
    with started(HOLDS, str(root)) as process:
        found = platform.running(Workspace(root))
        assert found and found.supervisor.pid == process.pid
        (tmp_path / "link").symlink_to(root)
        assert platform.running(Workspace(tmp_path / "link"))
        shutil.copytree(root, tmp_path / "copy")
        copy = Workspace(tmp_path / "copy")
        assert Platform.read(copy) == found
        assert platform.find(copy) is None and not platform.is_held(copy) and platform.running(copy) is None
        bound = tmp_path / "bound"
        bound.mkdir()
        mounted = f'mount --bind {root} {bound} && exec "$@"'
        here = ("unshare", "--mount", "sh", "-c", mounted, "sh")
        assert seen_from(LOOKS, str(bound), unshare=here) == "True True"
        assert seen_from(LOOKS, str(root), unshare=HOST_NAME) == "True True"
        # It runs, and nothing of it can be ended from there.
        assert seen_from(LOOKS, str(root), unshare=PID_NAMESPACE) == "True False"
        root.rename(tmp_path / "moved")
        assert platform.running(Workspace(tmp_path / "moved"))
        moved = Workspace(tmp_path / "moved")
    assert platform.find(moved) and not platform.is_held(moved) and platform.running(moved) is None


@pytest.mark.parametrize(
    ("change", "ours"),
    [({}, True), ({"folder": "disk:inode"}, False), ({"boot": "x"}, True), ({"boot": "x", "folder": "1:1"}, False)],
)
def test_a_claim_is_of_the_folder_that_it_was_made_in(tmp_path: Path, change: dict[str, Any], ours: bool) -> None:
    workspace = Workspace(tmp_path)
    made = Claim.make(workspace, "run")
    assert Claim.read(workspace, "run") == made and made.is_of(workspace)
    described = json.loads(made.model_dump_json())
    if "boot" in change:
        described["process"]["boot"] = change["boot"]
        # Disks are numbered anew.
        described["folder"] = "1:" + folder_id(workspace).partition(":")[2]
    described |= {key: value for key, value in change.items() if key == "folder"}
    assert Claim.model_validate(described).is_of(workspace) is ours
    assert Claim.read(workspace, "another") is None


def test_a_process_is_known_while_one_program_takes_the_place_of_another(tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.write_text('#!/bin/sh\nexec "$0"\n')
    again.chmod(0o755)
    process = subprocess.Popen([again], env={"PATH": os.defpath, "TOKEN": "abc"})
    try:
        known = Process.of(process.pid, "TOKEN=abc")
        assert all(known.find() for _ in range(1000))
    finally:
        process.kill()
        process.wait()
