"""The graph of a workspace: what lies there, what reaches what, and from where."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from pathlib import Path

from ...gan.errors import UserError
from ...provenance.ledger import Ledger
from ...services.tracking import inventory
from ...workspace.artifacts import Dataset, Key
from ...workspace.data_hashes import data_content
from ...workspace.graph import key_of, stage_named
from ...workspace.params import Params
from ...workspace.workspace import Workspace
from .findings import Item, Kind

DAY = 86_400


def unneeded(nodes: Iterable[str], edges: Mapping[str, Iterable[str]], roots: Iterable[str]) -> set[str]:
    """Find the `nodes` that no path of `edges` from `roots` reaches; edges and roots may name what is not there."""
    reached: set[str] = set()
    waiting = [*roots]
    while waiting:
        at = waiting.pop()
        if at not in reached:
            reached.add(at)
            waiting += edges.get(at, ())
    return {*nodes} - reached


class Survey:
    """A graph of one workspace: what lies there, what reaches what, and from where.

    Each look adds a part to it, or raises UserError where what decides over that part cannot be read.
    """

    def __init__(self, workspace: Workspace, params: Params) -> None:
        self.workspace, self.params = workspace, params
        # Measured only where nothing reaches them: of what is needed there may be thousands of folders.
        self.things: dict[str, Callable[[], Item]] = {}
        self.edges: dict[str, set[str]] = defaultdict(set)
        self.roots: set[str] = set()

    @cached_property
    def registry(self) -> inventory.Inventory:
        """What MLflow's database in the workspace holds."""
        return inventory.take_inventory(self.workspace)

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger, if all that it names is known.

        Raises:
            UserError: it is damaged or gone.
        """
        workspace, found = self.workspace, Ledger(self.workspace)
        if wrong := next(found.wrong(), None):
            raise UserError(f"the ledger may name them, and is damaged ({wrong}): bring it back from a copy")
        if not workspace.ledger.exists() and self.registry.versions:
            raise UserError(
                "the ledger may name them, and is gone: `ganflow run` writes down what artifacts still tell"
            )
        return found

    @cached_property
    def preprocessed(self) -> Key:
        """Key of the data set that the present data and parameters make."""
        data = data_content(self.workspace.data, self.workspace.state)
        return key_of(stage_named("preprocess"), self.params.preprocess, data)

    @cached_property
    def dataset(self) -> Dataset:
        """The data set that lies in the workspace."""
        return Dataset.load(self.workspace.dataset)

    @property
    def aliased(self) -> list[inventory.KnownVersion]:
        """The champion, the challenger, and what else has a name."""
        return [version for version in self.registry.versions if version.aliases]

    def add(self, node: str, path: Path, kind: Kind, words: str) -> None:
        """Note a thing that lies there; `words` say why nobody needs it, if nothing reaches it."""
        self.things[node] = partial(item_of, path, kind, words)


def children(folder: Path, workspace: Workspace) -> list[Path]:
    """List what lies in `folder`, but for what is half removed.

    Raises:
        UserError: it lies outside of the workspace.
    """
    if not folder.is_dir():
        return []
    if not is_inside(folder, workspace):
        raise UserError(f"{folder} lies outside of the workspace, where others may need it")
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def is_inside(folder: Path, workspace: Workspace) -> bool:
    """Whether `folder` is no link to a place outside of the workspace."""
    return folder.resolve().is_relative_to(workspace.root.resolve())


def item_of(path: Path, kind: Kind, words: str) -> Item:
    """Describe a thing, by the size of all below `path` and the age of the youngest."""
    stats = []
    for file in (path, *(path.rglob("*") if path.is_dir() and not path.is_symlink() else ())):
        try:
            stats.append(file.lstat())
        except FileNotFoundError:
            continue
    # DVC moves files, with their times, into its cache: only the time of the last change of the entry tells.
    newest = max((max(stat.st_mtime, stat.st_ctime) for stat in stats), default=0.0)
    return Item(path, kind, sum(stat.st_size for stat in stats), (time.time() - newest) / DAY, words)
