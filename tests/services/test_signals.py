"""Every signal by which a process is told to end is answered like Ctrl-C, also when the terminal is gone."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from components.services import signals
from tests.conftest import PROJECT, environment

# Says how it was ended, into a file: there may be no terminal any more.
WAITS = """
import signal, subprocess, sys, time
from pathlib import Path
from components.services import signals
try:
    with signals.as_interrupt():
        print("ready", flush=True)
        time.sleep(30)
except KeyboardInterrupt:
    print("a word", flush=True)
    if len(sys.argv) > 2:
        # As long as a last checkpoint takes.
        time.sleep(1)
    Path(sys.argv[1]).write_text("in order")
"""


@pytest.mark.parametrize("number", signals.STOPS)
def test_a_signal_that_ends_is_answered_in_order(number: int, tmp_path: Path) -> None:
    said = tmp_path / "said"
    process = subprocess.Popen(
        [sys.executable, "-c", WAITS, str(said)],
        env=environment(PYTHONPATH=str(PROJECT)),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.communicate(timeout=20)[0] == "a word\n"
    assert (process.returncode, said.read_text()) == (0, "in order")


def test_a_terminal_that_is_closed_is_told_twice_and_that_is_once(tmp_path: Path) -> None:
    """By the system, and by the shell when it ends."""
    said = tmp_path / "said"
    process = subprocess.Popen(
        [sys.executable, "-c", WAITS, str(said), "slowly"],
        env=environment(PYTHONPATH=str(PROJECT)),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    assert process.stdout.readline() == "a word\n"
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=20)
    assert (process.returncode, said.read_text()) == (0, "in order")


def test_what_was_ignored_at_the_start_stays_ignored(tmp_path: Path) -> None:
    said = tmp_path / "said"
    process = subprocess.Popen(
        ["nohup", sys.executable, "-c", WAITS, str(said)],
        env=environment(PYTHONPATH=str(PROJECT)),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    process.terminate()
    process.communicate(timeout=20)
    assert said.read_text() == "in order"


def test_a_terminal_that_is_closed_is_no_reason_to_end_in_the_middle(tmp_path: Path) -> None:
    """The word that is said then can be written nowhere."""
    said = tmp_path / "said"
    child, terminal = pty.fork()
    if child == 0:
        os.environ["PYTHONPATH"] = str(PROJECT)
        os.execv(sys.executable, [sys.executable, "-c", WAITS, str(said)])
    read = b""
    while b"ready" not in read:
        read += os.read(terminal, 1000)
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert said.read_text() == "in order"


def test_children_do_not_hear_what_a_terminal_sends() -> None:
    code = (
        "import subprocess, sys; from components.services import signals; signals.hide_from_children();"
        "child = subprocess.Popen(['sleep', '30']); print(child.pid, flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment(PYTHONPATH=str(PROJECT)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    child = int(process.stdout.readline())
    for number in signals.OF_TERMINAL:
        os.kill(child, number)
    time.sleep(0.2)
    assert Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "S"
    # It is ended by who started it.
    os.kill(child, signal.SIGTERM)
    process.communicate("\n", timeout=20)


def test_a_run_of_a_worker_treats_them_as_it_treats_sigterm() -> None:
    code = (
        "import signal, time; from components.services import signals\n"
        "def ended(*_): print('terminated', flush=True); raise SystemExit(7)\n"
        "signal.signal(signal.SIGTERM, ended); signals.pass_on_as_terminate(); print('ready', flush=True)\n"
        "time.sleep(30)"
    )
    for number in (signal.SIGHUP, signal.SIGQUIT):
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env=environment(PYTHONPATH=str(PROJECT)),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout and process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert (process.communicate(timeout=20)[0], process.returncode) == ("terminated\n", 7)
