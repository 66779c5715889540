"""The signals that end a process in order: of `kill`, of a terminal that is closed, and of Ctrl with a backslash."""

from __future__ import annotations

import os
import signal
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

# Ctrl-C has Python's own handler, which does the same.
STOPS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
# What a terminal sends to all processes that were started from it.
OF_TERMINAL = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


@contextmanager
def as_interrupt() -> Iterator[None]:
    """Answer each of them like Ctrl-C, unless the process was told at its start to ignore it, as `nohup` does.

    To be entered after whatever sets handlers of its own, such as Ray. In other threads than the main one, where Python
    allows no handlers, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    answered = [number for number in STOPS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in answered}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, handler)


def interrupt(number: int, _: Any) -> None:
    """Handle a signal like Ctrl-C.

    Raises:
        KeyboardInterrupt: always.
    """
    if number == signal.SIGHUP:
        # The system tells it, and the shell once more: that is no second Ctrl-C.
        signal.signal(number, signal.SIG_IGN)
        _leave_terminal()
    raise KeyboardInterrupt


def pass_on_as_terminate() -> None:
    """Have what would end this process at once handled as SIGTERM is; what is ignored or handled stays so."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGHUP, signal.SIGQUIT):
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, lambda *_: os.kill(os.getpid(), signal.SIGTERM))


def hide_from_children(hidden: Iterable[int] = OF_TERMINAL) -> set[int]:
    """Keep from what this thread starts what a terminal sends to all: this process ends them. What was hidden before.

    `signal.pthread_sigmask(signal.SIG_SETMASK, ...)` with the answer undoes it for this thread.
    """
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, hidden))


def _leave_terminal() -> None:
    """Let what is said from here on go nowhere, where it went to a terminal that is gone: writing to it would fail."""
    for descriptor in (1, 2):
        try:
            gone = stat.S_ISCHR(os.fstat(descriptor).st_mode) and not os.isatty(descriptor)
        except OSError:
            continue
        if gone:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)
