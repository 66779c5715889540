"""What lies in a workspace and nobody needs any more: found by what reaches what, removed only on request.

Registry, ledger, the workspace's own artifacts and parameters, and every git commit are the roots; what they do not
reach is not needed. Where one of them cannot be read, all that it may reach stays.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

from ..gan.errors import UserError
from ..provenance import ledger
from ..services import versioning
from ..services.tracking import champions, inventory
from ..training import begun
from ..workspace.artifacts import Dataset, Key, Model
from ..workspace.data_hashes import data_content
from ..workspace.feature_nets import KINDS, stem_of
from ..workspace.files import disk_errors
from ..workspace.graph import is_same, key_of, stage_named
from ..workspace.params import Clean, Params
from ..workspace.workspace import Workspace

Kind = Literal[
    "trainings",
    "preprocessing",
    "feature nets",
    "gate caches",
    "drift references",
    "MLflow runs",
    "MLflow models",
    "data lists",
    "DVC cache",
    "leftovers",
]
DAY = 86_400
_TRASH = ".trash-"


class Item(NamedTuple):
    """One thing that is not needed: its size in bytes, days since it last changed, and why it is not needed."""

    path: Path
    kind: Kind
    bytes: int
    age: float
    words: str


class Found(NamedTuple):
    """What is not needed, and sentences on what stays because it cannot be judged."""

    items: list[Item]
    kept: list[str]

    def summary(self, removed: bool, how: str) -> str:
        """Return a sentence on how much it is, and `how` it is removed."""
        if not self.items:
            return "everything is needed, or too young to tell"
        things, verb = ("thing", "is") if len(self.items) == 1 else ("things", "are")
        much = f"{len(self.items):,} {things}, {sum(item.bytes for item in self.items) / 1e6:,.1f} MB"
        return f"{much}, {verb} removed" if removed else f"{much}, {verb} not needed; {how}"

    def kinds(self) -> Iterator[tuple[Kind, list[Item]]]:
        """Yield the items of each kind, the largest first."""
        for kind in dict.fromkeys(item.kind for item in self.items):
            yield kind, sorted((item for item in self.items if item.kind == kind), key=lambda item: -item.bytes)


def unneeded(nodes: Iterable[str], edges: Mapping[str, Iterable[str]], roots: Iterable[str]) -> set[str]:
    """Those of `nodes` that no path of `edges` from `roots` reaches; edges and roots may name what is not there."""
    reached: set[str] = set()
    waiting = [*roots]
    while waiting:
        at = waiting.pop()
        if at not in reached:
            reached.add(at)
            waiting += edges.get(at, ())
    return {*nodes} - reached


def cleanup(options: Clean, workspace: Workspace, remove: bool = False) -> Found:
    """List what nobody needs and is older than `options.keep_days`; `remove` it while the workspace is held.

    Raises:
        UserError: there are no parameters, or something cannot be removed.
        BusyError: it is to be removed, and another process holds the workspace.
    """
    with ExitStack() as held:
        if not remove:
            return _look(options, workspace, held, remove=False)
        # Whoever holds the workspace first removes them.
        staged = [item for item in _staged(workspace) if item.age >= options.keep_days]
        held.enter_context(workspace.exclusive())
        found = _look(options, workspace, held, remove=True)
        runs, models = (
            [item.path.name for item in found.items if item.kind == kind] for kind in ("MLflow runs", "MLflow models")
        )
        # Before their files: MLflow could restore a run without any otherwise.
        inventory.forget(runs, models, workspace)
        for item in found.items:
            _remove(item.path)
        return Found([*staged, *found.items], found.kept)


def _look(options: Clean, workspace: Workspace, held: ExitStack, remove: bool) -> Found:
    survey = _Survey(workspace, Params.load(workspace.params))
    kept: dict[str, list[str]] = defaultdict(list)
    for name, look in (
        ("trainings", survey.trainings),
        ("preprocessing", survey.preprocessing),
        ("feature nets", survey.features),
        ("gate caches", survey.gate),
        ("drift references", survey.drift),
        ("MLflow's runs and models", survey.mlflow),
        ("data lists", survey.data_lists),
        ("DVC's cache", lambda: survey.dvc(held.enter_context(versioning.own_cache(workspace, hold=remove)))),
        ("leftovers", survey.leftovers),
    ):
        before = {**survey.things}
        try:
            look()
        except UserError as error:
            survey.things = before
            kept[str(error)].append(name)
    things = survey.things
    young = {node for node, thing in things.items() if thing.age < options.keep_days}
    left = unneeded(things, survey.edges, survey.roots | young)
    items = [thing for node, thing in things.items() if node in left]
    return Found(items, [f"kept ({', '.join(names)}): {reason}" for reason, names in kept.items()])


class _Survey:
    """The graph of one workspace: what lies there, what reaches what, and from where.

    Each look adds a part to it, or raises UserError where what decides over that part cannot be read.
    """

    def __init__(self, workspace: Workspace, params: Params) -> None:
        self._workspace, self._params = workspace, params
        self.things: dict[str, Item] = {}
        self.edges: dict[str, set[str]] = defaultdict(set)
        self.roots: set[str] = set()

    @cached_property
    def _registry(self) -> inventory.Inventory:
        return inventory.take_inventory(self._workspace)

    @cached_property
    def _named(self) -> set[str]:
        """Every hash, key and id that stands in the ledger."""
        workspace = self._workspace
        if wrong := next(ledger.damage(workspace), None):
            raise UserError(f"the ledger may name them, and is damaged ({wrong}): bring it back from a copy")
        if workspace.ledger.exists():
            return {*re.findall(r"[0-9a-f]{16,}", workspace.ledger.read_text(errors="replace"))}
        if self._registry.versions:
            raise UserError(
                "the ledger may name them, and is gone: `ganflow run` writes down what artifacts still tell"
            )
        return set()

    @cached_property
    def _preprocessed(self) -> Key:
        """Key of the data set that the present data and parameters make."""
        data = data_content(self._workspace.data, self._workspace.state)
        return key_of(stage_named("preprocess"), self._params.preprocess, data)

    @cached_property
    def _dataset(self) -> Dataset:
        return Dataset.load(self._workspace.dataset)

    @property
    def _aliased(self) -> list[inventory.KnownVersion]:
        return [version for version in self._registry.versions if version.aliases]

    def _add(self, node: str, path: Path, kind: Kind, words: str) -> None:
        self.things[node] = _item(path, kind, words)

    def trainings(self) -> None:
        folder = self._workspace.state / "training"
        if not (found := _children(folder, self._workspace)):
            return
        needed = {version.key for version in self._aliased} | {self._resumed()}
        needed |= {waiting.key.id for waiting in begun.open_trainings(self._params, self._workspace)}
        if (self._workspace.model / Model.manifest).exists():
            needed.add(Model.load(self._workspace.model).key.id)
        # Whether it is champion elsewhere only the other server knows.
        entries = ledger.Ledger(self._workspace).entries()
        needed |= {
            e.facts["model_key"] for e in entries if e.kind == "registration" and e.facts["tracking"] != "embedded"
        }
        known = self._named | {version.key for version in self._registry.versions}
        self.roots |= {f"training {key}" for key in needed}
        for training in found:
            key, node = training.name, f"training {training.name}"
            if key in known and (training / "checkpoints").exists():
                # Its curves and cost are what the ledger and `rebuild-registry` go back to.
                words = "checkpoints of a model that is neither champion nor challenger nor the present one"
                self._add(node, training / "checkpoints", "trainings", words)
            elif key not in known and key != "ray":
                words = "neither the present parameters go on with it, nor did a known model come from it"
                self._add(node, training, "trainings", words)
        for run in _children(folder / "ray", self._workspace):
            self.edges[f"training {run.name}"].add(f"ray {run.name}")
            self._add(f"ray {run.name}", run, "trainings", "what Ray noted of a training that is not needed")

    def _resumed(self) -> str:
        """Key of the training that the present parameters make or go on with."""
        if not is_same(self._dataset.key, self._preprocessed):
            raise UserError("data, parameters or code changed since the last run: `ganflow run` tells which goes on")
        key = key_of(stage_named("train"), self._params.train, self._dataset)
        return begun.key_to_go_on_with(key, self._params, self._workspace).id

    def preprocessing(self) -> None:
        if found := _children(self._workspace.state / "preprocess", self._workspace):
            self.roots.add(f"preprocessing {self._preprocessed.id}")
            for scratch in found:
                words = "parts of a data set of other data or parameters"
                self._add(f"preprocessing {scratch.name}", scratch, "preprocessing", words)

    def features(self) -> None:
        if not (found := _children(self._workspace.state / "features", self._workspace)):
            return
        contents = {self._dataset.content, *(version.data for version in self._aliased)}
        self.roots |= {f"features {stem_of(kind, content)}" for content in contents for kind in KINDS}
        for file in found:
            self.edges[f"features {file.name.partition('.')[0]}"].add(f"features file {file.name}")
            words = "neither of the present data set nor of the champion's or challenger's"
            self._add(f"features file {file.name}", file, "feature nets", words)

    def gate(self) -> None:
        """Files do not say what they are of, but were made while the champion that they are of was it."""
        if not (found := _children(self._workspace.state / "gate", self._workspace)):
            return
        present = {version.name: version.number for version in self._aliased if "champion" in version.aliases}
        history = {name: champions.history(name, self._workspace) for name in present}
        nets = [
            self._workspace.state / "features" / f"{stem_of(kind, self._dataset.content)}.safetensors" for kind in KINDS
        ]
        judged = min((net.stat().st_mtime for net in nets if net.exists()), default=0.0)
        for file in found:
            made = file.stat().st_mtime
            changes = {name: _in_force(history[name], made) for name in present}
            if made >= judged and any(changes[name] in (present[name], None) for name in present):
                self.roots.add(f"gate {file.name}")
            words = "samples of a former champion, or as a feature net of other data saw them"
            self._add(f"gate {file.name}", file, "gate caches", words)

    def drift(self) -> None:
        if found := _children(self._workspace.state / "drift", self._workspace):
            # Of all versions, for each may become champion again, and that of lost data cannot be made again.
            contents = {self._dataset.content, *(version.data for version in self._registry.versions)}
            self.roots |= {f"drift {content[:16]}" for content in contents}
            for folder in found:
                words = "neither of the present data set nor of a registered version's"
                self._add(f"drift {folder.name}", folder, "drift references", words)

    def mlflow(self) -> None:
        folder, registry = self._workspace.mlruns / "artifacts", self._registry
        runs = {
            path.name: path for path in _children(folder, self._workspace) if re.fullmatch("[0-9a-f]{32}", path.name)
        }
        models = {
            p.name: p for p in _children(folder / "models", self._workspace) if re.fullmatch("m-[0-9a-f]{32}", p.name)
        }
        self.roots |= {f"MLflow {name}" for name in self._named} | {f"MLflow m-{name}" for name in self._named}
        for version in registry.versions:
            node = f"version {version.number} of {version.name}"
            self.roots.add(node)
            self.edges[node] |= {f"MLflow {name}" for name in version.ids}
        rows: tuple[tuple[Kind, Path, Mapping[str, Path], Mapping[str, float | None]], ...] = (
            ("MLflow runs", folder, runs, registry.runs),
            ("MLflow models", folder / "models", models, registry.models),
        )
        for kind, parent, there, known in rows:
            for name in there.keys() | known.keys():
                node, deleted = f"MLflow {name}", known.get(name)
                if name in known and deleted is None:
                    self.roots.add(node)
                elif name not in known:
                    self._add(node, there[name], kind, "MLflow does not know it")
                else:
                    item = _item(parent / name, kind, "it was deleted in MLflow")
                    self.things[node] = item._replace(age=min(item.age, (time.time() - (deleted or 0)) / DAY))

    def data_lists(self) -> None:
        if found := _children(self._workspace.state / "data", self._workspace):
            self.roots |= {f"list {name}" for name in self._named}
            for file in found:
                node = f"list {file.name.removesuffix('.sha256s')}"
                self._add(node, file, "data lists", "hashes of the files of a data version that no model came from")

    def dvc(self, cache: Path | None) -> None:
        """`cache`: where DVC's objects lie, named by two digits and thirty."""
        objects = {} if cache is None else {f"{p.parent.name}{p.name}": p for p in cache.glob("[0-9a-f]" * 2 + "/*")}
        objects = {name: path for name, path in objects.items() if re.fullmatch(r"[0-9a-f]{32}(\.dir)?", name)}
        if not objects:
            return
        now, ever = versioning.named_objects(self._workspace)
        now |= (
            {e.facts["dvc"] for e in ledger.Ledger(self._workspace).entries() if e.facts.get("dvc")}
            if self._named
            else set()
        )
        folders = {name: _listed(path) for name, path in objects.items() if name.endswith(".dir")}
        if missing := sorted(name for name in now if name.endswith(".dir") and name not in folders):
            raise UserError(
                f"the list of the files of {missing[0]} is not in it: `dvc fetch` or `dvc commit` puts it there"
            )
        self.roots |= {f"object {name}" for name in now | ever}
        # First, so that no list is ever there without its files.
        for name in [*folders, *(objects.keys() - folders.keys())]:
            self._add(f"object {name}", objects[name], "DVC cache", "neither git's commits nor the ledger name it")
            self.edges[f"object {name}"] |= {f"object {file}" for file in folders.get(name, ())}

    def leftovers(self) -> None:
        """Of processes that were killed."""
        state, artifacts = self._workspace.state, self._workspace.mlruns / "artifacts"
        patterns = (
            "sweep-*",
            "tmp*",
            "drift.tmp",
            "drift/.*-*",
            "data/*.tmp",
            "sweeps/*/*.tmp",
            "gate/*.tmp.npz",
            *(f"{folder}{_TRASH}*" for folder in ("", "training/", "training/*/", "training/ray/", "preprocess/")),
        )
        left = [*(path for pattern in patterns for path in state.glob(pattern))]
        left += [*artifacts.glob(f"{_TRASH}*"), *artifacts.glob(f"models/{_TRASH}*")]
        for path in left:
            if _is_inside(path.parent, self._workspace):
                self._add(f"leftover {path}", path, "leftovers", "begun by a process that was killed")
        self.things |= {f"leftover {item.path}": item for item in _staged(self._workspace)}


def _staged(workspace: Workspace) -> list[Item]:
    """Return what `artifacts.staging` left."""
    folders = [*workspace.root.glob("artifacts/.*-*"), *workspace.root.glob("mlruns/.*-*")]
    return [_item(folder, "leftovers", "begun by a process that was killed") for folder in folders]


def _children(folder: Path, workspace: Workspace) -> list[Path]:
    """Return what lies in `folder`, but for what is half removed.

    Raises:
        UserError: it lies outside of the workspace.
    """
    if not folder.is_dir():
        return []
    if not _is_inside(folder, workspace):
        raise UserError(f"{folder} lies outside of the workspace, where others may need it")
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _is_inside(folder: Path, workspace: Workspace) -> bool:
    return folder.resolve().is_relative_to(workspace.root.resolve())


def _item(path: Path, kind: Kind, words: str) -> Item:
    """With the size of all below `path`, and the age of the youngest."""
    stats = []
    for file in (path, *(path.rglob("*") if path.is_dir() and not path.is_symlink() else ())):
        try:
            stats.append(file.lstat())
        except FileNotFoundError:
            continue
    # DVC moves files, with their times, into its cache: only the time of the last change of the entry tells.
    newest = max((max(stat.st_mtime, stat.st_ctime) for stat in stats), default=0.0)
    return Item(path, kind, sum(stat.st_size for stat in stats), (time.time() - newest) / DAY, words)


def _in_force(changes: Collection[champions.Change], moment: float) -> int | None:
    """Which version was champion then, in seconds since 1970; None where that is not known."""
    before = [c.version for c in changes if datetime.fromisoformat(c.time).timestamp() <= moment]
    return before[-1] if before else None


def _listed(path: Path) -> list[str]:
    """Hashes of the files of a folder, from its list in DVC's cache.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return [str(entry["md5"]) for entry in json.loads(path.read_bytes())]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path} cannot be read, which lists the files of a version: run `dvc fetch`") from None


def _remove(path: Path) -> None:
    """Remove a file or folder; a folder is renamed first, so that what is half removed does not look whole."""
    with disk_errors(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path.replace(tempfile.mkdtemp(prefix=_TRASH, dir=path.parent)))
        else:
            path.unlink(missing_ok=True)
