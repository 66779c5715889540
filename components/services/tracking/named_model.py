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


def _known(name: str) -> str:
    if not re.fullmatch("champion|challenger|workspace|[1-9][0-9]{0,8}", name):
        raise ValueError(f"{name!r} names no model: write a version's number, champion, challenger or workspace")
    return name


ModelName = Annotated[str, AfterValidator(_known)]


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
    if wanted == "champion":
        version = champions.champion(name, workspace)
        if version is None:
            raise NotThereError(
                f"{name} has no champion: run `ganflow run`, which makes a model and makes it champion if it passes "
                "the checks, or name another model by --model"
            )
    else:
        version = registry.find_version(name, wanted, workspace)
    return NamedModel(load_published(version.folder, str(version)), name, version.version, version.key)
