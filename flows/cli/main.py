"""The command `ganflow`: the list of its commands. Heavy imports are paid only by the command that needs them."""

from __future__ import annotations

import errno
import importlib.metadata
import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from components.gan.errors import StoppedError, UserError
from components.services import signals, surroundings
from components.workspace.files import unwritable
from components.workspace.text import printable
from flows.cli import cards, data, login, maintenance, parameters, pictures, platform, provenance, run, stages, sweep

DATA, PIPELINE, MODELS = "Data", "Pipeline", "Models and parameters"
PICTURES, LINEAGE, SCHEDULE, MAINTENANCE = "Pictures", "Lineage", "Schedule and pages", "Maintenance"


class Grouped(TyperGroup):
    """A command whose help lists its commands by subject."""

    # Any: typer carries a copy of click, whose names are private.
    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands of each subject, in the order in which they were registered."""
        groups: dict[str, list[tuple[str, str]]] = {}
        commands = [(name, command) for name in self.list_commands(ctx) if (command := self.get_command(ctx, name))]
        for name, command in commands:
            subject = getattr(command, "rich_help_panel", None) or "Commands"
            groups.setdefault(str(subject), []).append((name, command.get_short_help_str(90)))
        for subject, rows in groups.items():
            with formatter.section(subject):
                formatter.write_dl(rows)


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
    login.forget_given()
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

app.command(
    epilog="Examples: ganflow init --data ~/photos --workspace ~/faces | "
    "ganflow init --data pictures.zip --workspace w",
    rich_help_panel=DATA,
)(data.init)
app.add_typer(data.data_app, name="data", rich_help_panel=DATA)

app.command(
    epilog="Examples: ganflow run | ganflow run --dry-run | ganflow run --set train.images=64000 | "
    "ganflow run --preset fashion-dcgan",
    rich_help_panel=PIPELINE,
)(run.run)
app.command(epilog="Example: ganflow preprocess", rich_help_panel=PIPELINE)(stages.preprocess)
app.command(epilog="Example: ganflow train --set train.images=64000", rich_help_panel=PIPELINE)(stages.train)
app.command(epilog="Examples: ganflow evaluate | ganflow evaluate --full", rich_help_panel=PIPELINE)(stages.evaluate)
app.command(epilog="Example: ganflow postprocess", rich_help_panel=PIPELINE)(stages.postprocess)
app.command(epilog="Example: ganflow register", rich_help_panel=PIPELINE)(stages.register)

app.command(epilog="Examples: ganflow promote | ganflow promote --set promote.margin=0.1", rich_help_panel=MODELS)(
    stages.promote
)
app.command(epilog="Example: ganflow rollback", rich_help_panel=MODELS)(stages.rollback)
app.command(epilog="Examples: ganflow card > model_card.md | ganflow card --dataset", rich_help_panel=MODELS)(
    cards.card
)
app.command(name="params", epilog="Example: ganflow params", rich_help_panel=MODELS)(parameters.list_params)
app.command(epilog="Examples: ganflow presets | ganflow presets fashion-r3gan", rich_help_panel=MODELS)(
    parameters.presets
)
app.command(
    epilog="Examples: ganflow sweep --images 64000 --write | ganflow sweep --over train.r1_gamma=0.5,1,2 "
    "--over train.loss=hinge,non_saturating --trials 4",
    rich_help_panel=MODELS,
)(sweep.sweep)

app.command(
    epilog="Examples: ganflow generate --n 1000 --class 7 --out renders/sevens | "
    "ganflow generate --n 100000 --out s3://bucket/digits | ganflow generate --model 3 --raw",
    rich_help_panel=PICTURES,
)(pictures.generate)
app.command(epilog="Example: ganflow sample --n 20 --class 7 --seed 1 --out sevens", rich_help_panel=PICTURES)(
    pictures.sample
)
app.command(epilog="Example: ganflow render --n 1000 --class 7 --out renders/sevens", rich_help_panel=PICTURES)(
    pictures.render
)
app.command(
    epilog="Example: ganflow sign --certificate chain.pem --key key.pem --out signed", rich_help_panel=PICTURES
)(pictures.sign)

app.command(
    epilog="Examples: ganflow trace ~/Desktop/7-1000004.png | ganflow trace picture.png --html chain.html",
    rich_help_panel=LINEAGE,
)(provenance.trace)
app.command(
    epilog="Examples: ganflow impact data/images-idx3-ubyte.gz | ganflow impact e3f4078c", rich_help_panel=LINEAGE
)(provenance.impact)
app.command(epilog="Example: ganflow rebuild-registry --workspace ~/faces", rich_help_panel=LINEAGE)(
    provenance.rebuild_registry
)

app.command(
    epilog="Examples: ganflow up | ganflow up --detach | ganflow up --prefect-port 4201", rich_help_panel=SCHEDULE
)(platform.up)
app.command(epilog="Example: ganflow down", rich_help_panel=SCHEDULE)(platform.down)
app.command(epilog="Examples: ganflow status | ganflow status --json", rich_help_panel=SCHEDULE)(platform.status)
app.command(epilog="Examples: ganflow login | ganflow login --open", rich_help_panel=SCHEDULE)(login.login)
app.command(epilog='Example: eval "$(ganflow env)" && prefect deployment ls', rich_help_panel=SCHEDULE)(login.env)
app.command(epilog="Example: ganflow drift --set retrain.inbox=~/incoming", rich_help_panel=SCHEDULE)(platform.drift)
app.command(epilog="Examples: ganflow ui | ganflow ui --port 5001", rich_help_panel=SCHEDULE)(platform.ui)

app.command(epilog="Exit code 0: all is as it was written; 1: something is not.", rich_help_panel=MAINTENANCE)(
    maintenance.verify
)
app.command(
    epilog="Examples: ganflow clean | ganflow clean --remove | ganflow clean --set clean.keep_days=1",
    rich_help_panel=MAINTENANCE,
)(maintenance.clean)
app.command(
    epilog="Exit code 0: all is well; 1: something is to be done. "
    "Examples: ganflow doctor --json | ganflow doctor --online",
    rich_help_panel=MAINTENANCE,
)(maintenance.doctor)
