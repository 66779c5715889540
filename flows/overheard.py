"""What is printed while a task works, as lines of its log too: Prefect's pages show what the terminal shows."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO


@contextmanager
def overheard(info: Callable[[str], object], warn: Callable[[str], object]) -> Iterator[None]:
    """Hand on each whole line that is printed meanwhile: of standard output to `info`, of standard error to `warn`.

    By whichever thread: the one that follows a training prints too. Progress bars, which draw over a line, are left
    out.
    """
    out, error = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Heard(out, info), _Heard(error, warn)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, error


class _Heard(io.TextIOBase):
    """A stream that does as another one does, and whose lines are handed on."""

    def __init__(self, stream: TextIO, tell: Callable[[str], object]) -> None:
        self._stream, self._tell = stream, tell
        # `print` writes a line in two parts, and threads print at the same time.
        self._begun = threading.local()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str, /) -> int:
        """Write text, and hand on the lines that it ends."""
        written = self._stream.write(text)
        *lines, self._begun.text = (getattr(self._begun, "text", "") + text).split("\n")
        for line in lines:
            if line.strip() and "\r" not in line and "\x1b" not in line:
                self._tell(line.rstrip())
        return written

    def flush(self) -> None:
        """Write what the stream holds back."""
        self._stream.flush()

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """Return the stream's own descriptor."""
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's own."""
        return self._stream.encoding
