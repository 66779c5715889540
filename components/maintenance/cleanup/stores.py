"""What is needed of the files of MLflow and of DVC's cache."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from ...gan.errors import UserError
from ...services import versioning
from .findings import Item, Kind
from .survey import DAY, Survey, children, item_of


def mlflow(survey: Survey) -> None:
    """Look at MLflow's runs and models: what is not deleted in it, or a version has, is needed."""
    folder, registry = survey.workspace.mlruns / "artifacts", survey.registry
    runs = {path.name: path for path in children(folder, survey.workspace) if re.fullmatch("[0-9a-f]{32}", path.name)}
    models = {
        p.name: p for p in children(folder / "models", survey.workspace) if re.fullmatch("m-[0-9a-f]{32}", p.name)
    }
    for version in registry.versions:
        node = f"version {version.number} of {version.name}"
        survey.roots.add(node)
        survey.edges[node] |= {f"MLflow {name}" for name in version.ids}
    rows: tuple[tuple[Kind, Path, Mapping[str, Path], Mapping[str, float | None]], ...] = (
        ("MLflow runs", folder, runs, registry.runs),
        ("MLflow models", folder / "models", models, registry.models),
    )
    for kind, parent, there, known in rows:
        named = survey.ledger.named(name.removeprefix("m-") for name in there.keys() | known.keys())
        for name in there.keys() | known.keys():
            node, deleted = f"MLflow {name}", known.get(name)
            if (name in known and deleted is None) or name.removeprefix("m-") in named:
                survey.roots.add(node)
            elif name not in known:
                survey.add(node, there[name], kind, "MLflow does not know it")
            else:
                survey.things[node] = partial(_deleted, parent / name, kind, deleted or 0.0)


def _deleted(path: Path, kind: Kind, when: float) -> Item:
    item = item_of(path, kind, "it was deleted in MLflow")
    return item._replace(age=min(item.age, (time.time() - when) / DAY))


def dvc(survey: Survey, cache: Path | None) -> None:
    """Look at DVC's cache: what git's commits, the ledger or the workspace name is needed.

    `cache`: where its objects lie, named by two digits and thirty; None where there are none.
    """
    objects = {} if cache is None else {f"{p.parent.name}{p.name}": p for p in cache.glob("[0-9a-f]" * 2 + "/*")}
    objects = {name: path for name, path in objects.items() if re.fullmatch(r"[0-9a-f]{32}(\.dir)?", name)}
    if not objects:
        return
    now, ever = versioning.named_objects(survey.workspace)
    now |= {*survey.ledger.values("dataset dvc")}
    folders = {name: _listed(path) for name, path in objects.items() if name.endswith(".dir")}
    if missing := sorted(name for name in now if name.endswith(".dir") and name not in folders):
        raise UserError(
            f"the list of the files of {missing[0]} is not in it: `dvc fetch` or `dvc commit` puts it there"
        )
    survey.roots |= {f"object {name}" for name in now | ever}
    # First, so that no list is ever there without its files.
    for name in [*folders, *(objects.keys() - folders.keys())]:
        survey.add(f"object {name}", objects[name], "DVC cache", "neither git's commits nor the ledger name it")
        survey.edges[f"object {name}"] |= {f"object {file}" for file in folders.get(name, ())}


def _listed(path: Path) -> list[str]:
    """Read the hashes of the files of a folder, from its list in DVC's cache.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return [str(entry["md5"]) for entry in json.loads(path.read_bytes())]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path} cannot be read, which lists the files of a version: run `dvc fetch`") from None
