"""A supervisor with parts that cost nothing: how it ends, what is left when it is killed, and what its logs take."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from components.gan.errors import BusyError
from components.maintenance.doctor import leftovers
from components.services import platform
from components.services.platform import Platform
from components.services.process import Process, folder_id
from components.workspace.workspace import Workspace
from flows.cli.status import status_of
from flows.supervisor import supervisor
from flows.supervisor.logs import bound, last_line, log_of
from flows.supervisor.members import members
from tests.conftest import PROJECT, environment

SUPERVISES = """
import os, signal, sys
from pathlib import Path
if sys.argv[2] == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
from components.services.platform import Platform, hold
from components.services.process import Process, folder_id
from components.workspace.workspace import Workspace
from flows.supervisor import commands, supervisor
workspace = Workspace(Path(sys.argv[1]))
environment = commands.environment(workspace, "http://127.0.0.1:9/api", own=True)
platform = Platform(
    supervisor=Process.of(os.getpid()), folder=folder_id(workspace), root=sys.argv[1],
    prefect="http://127.0.0.1:9/api", mlflow="http://127.0.0.1:9",
)
tell = lambda line: print(line, flush=True)
with hold(workspace):
    with supervisor._ended_by_signals(), supervisor._supervised(workspace, platform, environment, tell) as parts:
        parts.start(commands.Part("mlflow", ["sh", "-c", sys.argv[3]]))
        parts.ready()
        print("ready", flush=True)
        parts.keep(lambda: [])
"""


class Supervisor:
    """A process that keeps `command` running for a workspace."""

    def __init__(self, root: Path, how: str = "", command: str = "exec sleep 1000") -> None:
        root.mkdir(exist_ok=True)
        self.workspace = Workspace(root)
        self.workspace.params.touch()
        self.process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISES, str(root), how, command],
            env=environment(PYTHONPATH=str(PROJECT)),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout and self.process.stdout.readline() == "ready\n"
        found = platform.running(self.workspace)
        assert found
        self.part = self.found(found)

    @staticmethod
    def found(recorded: Platform) -> psutil.Process:
        part = recorded.parts["mlflow"].find()
        assert part
        return part

    def said(self) -> str:
        """What it said until its end."""
        said, _ = self.process.communicate(timeout=30)
        return said


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Supervisor]]:
    began: list[Supervisor] = []

    def one(how: str = "", command: str = "exec sleep 1000") -> Supervisor:
        began.append(Supervisor(tmp_path / "workspace", how, command))
        return began[-1]

    yield one
    for each in began:
        each.process.kill()
        each.process.communicate()
        if each.part.is_running():
            each.part.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_every_signal_that_ends_it_ends_all_in_order(start: Callable[..., Supervisor], number: int) -> None:
    running = start()
    running.process.send_signal(number)
    assert running.said() == "Ending the platform\n"
    assert running.process.returncode == 0
    assert not running.part.is_running()
    assert not platform.record(running.workspace).exists() and not platform.is_held(running.workspace)


def test_what_nohup_ignores_stays_ignored(start: Callable[..., Supervisor]) -> None:
    running = start("nohup")
    running.process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        running.process.wait(1.5)
    assert running.part.is_running() and platform.running(running.workspace)
    running.process.terminate()
    assert running.said() == "Ending the platform\n"


def test_what_a_killed_supervisor_leaves_is_shown_and_ended(start: Callable[..., Supervisor]) -> None:
    running = start()
    running.process.kill()
    running.process.wait()
    assert running.part.is_running()
    shown = status_of(running.workspace)
    assert shown.platform == "not running" and shown.remedy and f"left processes {running.part.pid};" in shown.remedy
    wrong = leftovers.platform(running.workspace)
    assert wrong.ok is False and "supervisor ended" in wrong.words
    assert supervisor.down(running.workspace)
    assert not running.part.is_running()
    assert not supervisor.down(running.workspace)


def test_a_copy_never_touches_the_original(start: Callable[..., Supervisor], tmp_path: Path) -> None:
    running = start()
    shutil.copytree(running.workspace.root, tmp_path / "copy")
    copy = Workspace(tmp_path / "copy")
    shown = status_of(copy)
    assert (shown.platform, shown.servers, shown.remedy) == ("not running", {}, None)
    assert leftovers.platform(copy).ok is None and str(running.workspace.root) in leftovers.platform(copy).words
    supervisor.use(copy)
    assert not supervisor.down(copy)
    assert not platform.record(copy).exists()
    assert running.part.is_running() and running.process.poll() is None
    # Nor does a copy of what a killed one has left.
    running.process.kill()
    running.process.wait()
    shutil.copytree(running.workspace.root, tmp_path / "another")
    assert not supervisor.down(Workspace(tmp_path / "another"))
    assert running.part.is_running()


def test_two_for_one_workspace_are_refused(start: Callable[..., Supervisor]) -> None:
    running = start()
    with pytest.raises(BusyError, match=f"runs already .process {running.process.pid}.*ganflow down"):
        supervisor.up(running.workspace, 1, 1, print)


def test_it_ends_when_its_workspace_is_moved(start: Callable[..., Supervisor], tmp_path: Path) -> None:
    running = start()
    before = running.workspace.root
    before.rename(tmp_path / "moved")
    assert "was moved or removed: the platform ends" in running.said()
    assert not running.part.is_running()
    # Nothing is made where it was.
    assert not before.exists()
    assert not members(folder_id(Workspace(tmp_path / "moved")))


def test_a_deleted_record_is_written_again(start: Callable[..., Supervisor]) -> None:
    running = start()
    platform.record(running.workspace).unlink()
    until = time.monotonic() + 10
    while platform.running(running.workspace) is None:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert supervisor.down(running.workspace)
    assert running.said() == "Ending the platform\n"


def test_a_log_is_added_to_and_its_end_is_told(start: Callable[..., Supervisor]) -> None:
    running = start("", "sleep 1; echo so it goes; exit 3")
    assert running.process.stdout
    told = running.process.stdout.readline()
    assert "mlflow ended (exit code 3) and is started again in 2 seconds: so it goes (all of it: " in told
    log = log_of(running.workspace, "mlflow")
    assert str(log) in told
    running.process.stdout.readline()
    # What the first one said is still there.
    assert log.read_text() == "so it goes\n" * 2
    running.process.terminate()
    running.said()


def test_logs_are_bounded_while_they_are_written(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    log = log_of(workspace, "worker")
    log.parent.mkdir(parents=True)
    aside = log.with_name("worker.log.1")
    with log.open("ab", buffering=0) as writer:
        for number in range(1000):
            writer.write(b"%07d\n" % number)
            bound(workspace, 800)
            assert log.stat().st_size <= 808 and (not aside.exists() or aside.stat().st_size <= 800)
    lines = (aside.read_text() + log.read_text()).split()
    # None is lost or cut: all that is not older than what is bounded.
    assert lines == [f"{number:07d}" for number in range(1000 - len(lines), 1000)] and len(lines) >= 100


def test_the_last_line_is_that_of_this_start(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    assert last_line(log, 0) == ""
    log.write_text("before\n")
    assert last_line(log, log.stat().st_size) == ""
    with log.open("a") as added:
        added.write("now\n\n")
    assert last_line(log, 7) == "now"
    log.write_text("new\n")
    # It was emptied meanwhile.
    assert last_line(log, 7) == "new"
    assert os.fspath(log)


def test_a_platform_of_an_older_ganflow_is_named_and_left_alone(tmp_path: Path) -> None:
    """Its record tells the supervisor by number and start alone."""
    workspace = Workspace(tmp_path / "workspace")
    workspace.state.mkdir(parents=True)
    older = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)", "up", "--workspace", str(workspace.root)]
    )
    try:
        # For a moment a new process has no command line.
        while not psutil.Process(older.pid).cmdline():
            time.sleep(0.01)
        started = psutil.Process(older.pid).create_time()
        described = {"supervisor": {"pid": older.pid, "started": started}, "parts": {}, "prefect": "", "mlflow": ""}
        (workspace.state / "platform.json").write_text(json.dumps(described))
        shutil.copytree(workspace.root, tmp_path / "copy")
        with pytest.raises(BusyError, match=f"older ganflow started runs .process {older.pid}.: end it by `kill"):
            supervisor.down(workspace)
        assert older.poll() is None and not supervisor.down(Workspace(tmp_path / "copy"))
    finally:
        older.kill()
        older.wait()
    assert not supervisor.down(workspace)


def test_a_stale_record_is_no_platform(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    process = subprocess.Popen([sys.executable, "-c", ""], env=environment())
    process.wait()
    workspace.state.mkdir(parents=True)
    workspace.params.write_text("")
    gone = Process.of(os.getpid()).model_copy(update={"pid": process.pid})
    known = {"folder": folder_id(workspace), "root": str(tmp_path), "prefect": "http://x/api", "mlflow": "http://x"}
    Platform(supervisor=gone, parts={"worker": gone}, **known).write(workspace)
    assert status_of(workspace).platform == "not running"
    assert not supervisor.down(workspace)
    assert not (workspace.state / "platform.json").exists()
