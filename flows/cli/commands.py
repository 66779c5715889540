"""The list of the commands, by subject. A command's file is imported when it is called, or when its help is shown."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup


class Listed(NamedTuple):
    """A command, its function or its group of commands, in a file of this folder; `epilog`: below its help."""

    subject: str
    place: str
    epilog: str | None = None


DATA, PIPELINE, MODELS = "Data", "Pipeline", "Models and parameters"
PICTURES, LINEAGE, SCHEDULE, MAINTENANCE = "Pictures", "Lineage", "Schedule and pages", "Maintenance"
COMMANDS: Mapping[str, Listed] = {
    "init": Listed(
        DATA,
        "data.init",
        "Examples: ganflow init --data ~/photos --workspace ~/faces | ganflow init --data pictures.zip --workspace w",
    ),
    "data": Listed(DATA, "data.data_app"),
    "run": Listed(
        PIPELINE,
        "run.run",
        "Examples: ganflow run | ganflow run --dry-run | ganflow run --set train.images=64000 | "
        "ganflow run --preset fashion-dcgan",
    ),
    "preprocess": Listed(PIPELINE, "stages.preprocess", "Example: ganflow preprocess"),
    "train": Listed(
        PIPELINE,
        "stages.train",
        "Examples: ganflow train --set train.images=64000 | ganflow train --profile 20..30",
    ),
    "evaluate": Listed(PIPELINE, "stages.evaluate", "Examples: ganflow evaluate | ganflow evaluate --full"),
    "postprocess": Listed(PIPELINE, "stages.postprocess", "Example: ganflow postprocess"),
    "register": Listed(PIPELINE, "stages.register", "Example: ganflow register"),
    "promote": Listed(MODELS, "stages.promote", "Examples: ganflow promote | ganflow promote --set promote.margin=0.1"),
    "rollback": Listed(MODELS, "stages.rollback", "Example: ganflow rollback"),
    "runs": Listed(MODELS, "history.list_runs", "Examples: ganflow runs | ganflow runs --n 30 --json"),
    "compare": Listed(
        MODELS,
        "history.compare",
        "Examples: ganflow compare 1 2 | ganflow compare champion workspace | ganflow compare 3 ~/faces",
    ),
    "card": Listed(MODELS, "cards.card", "Examples: ganflow card > model_card.md | ganflow card --dataset"),
    "params": Listed(MODELS, "parameters.list_params", "Example: ganflow params"),
    "presets": Listed(MODELS, "parameters.presets", "Examples: ganflow presets | ganflow presets fashion-r3gan"),
    "sweep": Listed(
        MODELS,
        "sweep.sweep",
        "Examples: ganflow sweep --images 64000 --write | ganflow sweep --over train.r1_gamma=0.5,1,2 "
        "--over train.loss=hinge,non_saturating --trials 4",
    ),
    "generate": Listed(
        PICTURES,
        "pictures.generate",
        "Examples: ganflow generate --n 1000 --class 7 --out renders/sevens | "
        "ganflow generate --n 100000 --out s3://bucket/digits | ganflow generate --model 3 --raw",
    ),
    "apply": Listed(
        PICTURES,
        "apply.apply",
        "Examples: ganflow apply photo.jpg holiday/ --out restored | "
        "ganflow apply wall.png --mask wall-mask.png --out repaired | ganflow apply scan.tif --out out --compare | "
        "ganflow apply s3://bucket/photos --out s3://bucket/larger",
    ),
    "sample": Listed(PICTURES, "pictures.sample", "Example: ganflow sample --n 20 --class 7 --seed 1 --out sevens"),
    "render": Listed(PICTURES, "pictures.render", "Example: ganflow render --n 1000 --class 7 --out renders/sevens"),
    "sign": Listed(
        PICTURES, "pictures.sign", "Example: ganflow sign --certificate chain.pem --key key.pem --out signed"
    ),
    "trace": Listed(
        LINEAGE,
        "provenance.trace",
        "Examples: ganflow trace ~/Desktop/7-1000004.png | ganflow trace picture.png --html chain.html",
    ),
    "impact": Listed(
        LINEAGE,
        "provenance.impact",
        "Examples: ganflow impact data/images-idx3-ubyte.gz | ganflow impact e3f4078c",
    ),
    "rebuild-registry": Listed(
        LINEAGE, "provenance.rebuild_registry", "Example: ganflow rebuild-registry --workspace ~/faces"
    ),
    "up": Listed(
        SCHEDULE, "platform.up", "Examples: ganflow up | ganflow up --detach | ganflow up --prefect-port 4201"
    ),
    "down": Listed(SCHEDULE, "platform.down", "Example: ganflow down"),
    "status": Listed(
        SCHEDULE, "platform.status", "Examples: ganflow status | ganflow status --sizes | ganflow status --json"
    ),
    "login": Listed(SCHEDULE, "login.login", "Examples: ganflow login | ganflow login --open"),
    "env": Listed(SCHEDULE, "login.env", 'Example: eval "$(ganflow env)" && prefect deployment ls'),
    "drift": Listed(SCHEDULE, "platform.drift", "Example: ganflow drift --set retrain.inbox=~/incoming"),
    "tensorboard": Listed(SCHEDULE, "tensorboard.tensorboard", "Example: ganflow tensorboard --workspace ~/faces"),
    "ui": Listed(SCHEDULE, "platform.ui", "Examples: ganflow ui | ganflow ui --port 5001"),
    "verify": Listed(MAINTENANCE, "maintenance.verify", "Exit code 0: all is as it was written; 1: something is not."),
    "clean": Listed(
        MAINTENANCE,
        "maintenance.clean",
        "Examples: ganflow clean | ganflow clean --remove | ganflow clean --set clean.keep_days=1",
    ),
    "doctor": Listed(
        MAINTENANCE,
        "maintenance.doctor",
        "Exit code 0: all is well; 1: something is to be done. Examples: ganflow doctor --json | "
        "ganflow doctor --online",
    ),
}


@contextmanager
def _kept() -> Iterator[None]:
    """Collect no garbage among what is imported meanwhile, which stays: to look through it is a fifth of the start."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


# Any: typer carries a copy of click, whose names are private.
class _Commands(Mapping[str, Any]):
    """The commands by their names, each made when it is asked for."""

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)

    def __contains__(self, name: object) -> bool:
        return name in COMMANDS

    def __getitem__(self, name: str) -> Any:
        listed = COMMANDS[name]
        file, _, function = listed.place.partition(".")
        with _kept():
            found = getattr(import_module(f"flows.cli.{file}"), function)
        if isinstance(found, typer.Typer):
            return typer.main.get_command(found)
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        alone.command(name, epilog=listed.epilog)(found)
        return typer.main.get_command(alone)


class Grouped(TyperGroup):
    """The command `ganflow`, whose help lists its commands by subject."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands: Any = _Commands()

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands of each subject, in the order in which they are listed."""
        for subject in dict.fromkeys(listed.subject for listed in COMMANDS.values()):
            names = [name for name, listed in COMMANDS.items() if listed.subject == subject]
            with formatter.section(subject):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(90)) for name in names])
