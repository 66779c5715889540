"""Which model a command means by `--model 7 | champion | challenger | workspace`."""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple

from pydantic import AfterValidator

from ...gan.errors import NotThereError
from ...gan.published import Published
from ...workspace.artifacts import Model
from ...workspace.published import load_published
from ...workspace.workspace import Workspace
from . import champions, registry


def known_model(name: str) -> str:
    """Return `name` if it can name a model; else raise ValueError."""
    if not re.fullmatch("champion|challenger|workspace|[1-9][0-9]{0,8}", name):
        raise ValueError(f"{name!r} names no model: write a version's number, champion, challenger or workspace")
    return name


ModelName = Annotated[str, AfterValidator(known_model)]


class NamedModel(NamedTuple):
    """A model ready to make images, and what it is known by: `version` is None of the workspace's own."""

    published: Published
    name: str
    version: int | None
    key: str


def named_model(wanted: ModelName, name: str, workspace: Workspace) -> NamedModel:
    """Return the model of the workspace, or a version of the registered model `name`.

    Raises:
        NotThereError: there is none.
        DamagedError: it is damaged.
        UnreachableError: the registry does not answer.
    """
    if wanted == "workspace":
        model = Model.load(workspace.model)
        return NamedModel(load_published(model.folder, "the workspace's model"), name, None, model.key.id)
    version = named_version(wanted, name, workspace)
    return NamedModel(load_published(version.folder, str(version)), name, version.version, version.key)


def named_version(wanted: ModelName, name: str, workspace: Workspace) -> registry.ModelVersion:
    """Return the version of the registered model `name` with the number or alias `wanted`.

    Raises:
        NotThereError: there is none.
        UnreachableError: the registry does not answer.
    """
    if wanted != "champion":
        return registry.find_version(name, wanted, workspace)
    # What an interrupted change of the champion still lacks is done first.
    version = champions.champion(name, workspace)
    if version is None:
        raise NotThereError(
            f"the model {name} has no champion: run `ganflow run`, which makes a version and makes it champion if it "
            "passes the checks, or name another model by --model"
        )
    return version
