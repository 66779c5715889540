"""The command `ganflow`: what it does around each of its commands, and what it says where one fails."""

from __future__ import annotations

import errno
import importlib.metadata
import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from components.gan.errors import StoppedError, UserError
from components.services import signals, surroundings
from components.workspace.files import unwritable
from components.workspace.text import printable
from flows.cli.commands import Grouped
from flows.cli.given import forget_given

app = typer.Typer(
    cls=Grouped,
    help="Train, judge, finish and publish image GANs: preprocess, train, evaluate, postprocess, register.",
    epilog="`ganflow COMMAND --help` shows a command's options and examples.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class _PlainText(io.TextIOWrapper):
    """A text stream that commands no terminal, whatever the names in it: all but line ends and tabs is escaped.

    Line by line, so that a file it is sent to can be followed.
    """

    def write(self, text: str, /) -> int:
        """Write text, and what cannot be encoded as escapes."""
        return super().write(printable(text, keep="\n\t"))


def main() -> None:
    """Run the command; what is wrong is told in one sentence, with exit code 2 (130 for Ctrl-C)."""
    forget_given()
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper):
        sys.stdout = _PlainText(out.buffer, out.encoding, "backslashreplace", line_buffering=True)
    try:
        Path.cwd()
    except OSError:
        _fail("the folder that this shell is in is gone: `cd` to another one", 2)
    try:
        surroundings.mend()
        with signals.as_interrupt():
            app()
    except SystemExit as end:
        if end.code == StoppedError.exit_code:
            # The terminal may be what ended.
            with suppress(OSError):
                print("ganflow: stopped; what is done is kept, and the same command goes on with it", file=sys.stderr)
        raise
    except UserError as error:
        _fail(str(error), error.exit_code)
    except OSError as error:
        if error.errno is None:
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
            _fail(unwritable(_name(error.filename), error.errno), 2)
        _fail(f"{error.strerror}: {_name(error.filename)}; earlier results are intact", 2)
    except RecursionError:
        _fail("what is read here lies too deep within itself: look for folders or lists within each other", 2)


def _name(file: str | bytes | int | None) -> str:
    return os.fsdecode(file) if isinstance(file, str | bytes) else "the disk"


def _fail(sentence: str, code: int) -> NoReturn:
    with suppress(OSError):
        print(f"ganflow: {printable(sentence)}", file=sys.stderr)
    sys.exit(code)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"ganflow {importlib.metadata.version('ganflow')}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="show the version and exit")
    ] = False,
) -> None:
    """Take the options that stand before any command."""


app.callback(cls=Grouped)(_options)
