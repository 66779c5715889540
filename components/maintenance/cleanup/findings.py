"""What was found that nobody needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

Kind = Literal[
    "trainings",
    "preprocessing",
    "feature nets",
    "gate caches",
    "drift references",
    "inboxes",
    "MLflow runs",
    "MLflow models",
    "data lists",
    "DVC cache",
    "leftovers",
]


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
