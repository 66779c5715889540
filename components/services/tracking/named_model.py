"""Which model a command means by `--model 7 | champion | challenger | workspace`."""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple

from pydantic import AfterValidator

from ...gan.errors import NotThereError
from ...gan.published import Published
from ...workspace.artifacts import Evaluation, Model
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


def chosen_truncation(model: NamedModel, workspace: Workspace) -> float:
    """Return the truncation with which the model's samples are nearest to its training split.

    Raises:
        NotThereError: none was chosen for it.
        UnreachableError: the registry does not answer.
    """
    found: float | None = None
    if model.version is not None:
        kept = registry.tags(model.name, model.version, workspace).get(registry.TRUNCATION_TAG)
        # Anybody can write tags.
        found = float(kept) if kept and re.fullmatch(r"0\.[0-9]{1,17}|1\.0", kept) and float(kept) > 0 else None
    elif workspace.evaluation.exists():
        evaluation = Evaluation.load(workspace.evaluation)
        found = evaluation.truncation if evaluation.model == Model.load(workspace.model).content else None
    if found is None:
        who = "the workspace's model" if model.version is None else f"version {model.version} of {model.name}"
        raise NotThereError(
            f"no truncation was chosen for {who}: `ganflow evaluate --full` chooses one and `ganflow register` keeps "
            "it, as `evaluate.full: true` in params.yaml does for all runs; or give a number"
        )
    return found


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
