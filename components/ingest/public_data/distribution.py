"""What a public data set is, and the forms in which it is published."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class NeededFile:
    """A file of a distribution. Where `gzipped`, it may be so or plain, and size and hash are those of the content."""

    name: str
    size: int
    sha256: str
    gzipped: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return (f"{self.name}.gz", self.name) if self.gzipped else (self.name,)


@dataclass(frozen=True)
class Distribution:
    """One form in which a data set is published; all its files are needed.

    `convert` takes the checked files, in order, and the folder to fill. `places` are tried one after another.
    """

    files: tuple[NeededFile, ...]
    convert: Callable[[Sequence[Path], Path], None]
    places: tuple[str, ...]
    brought_by: str

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for file in self.files for name in file.names)


@dataclass(frozen=True)
class DataSet:
    """What `fetch` can bring; `megabytes` to download at most.

    `collect` takes what the user names by --from and the folder to fill, and returns what was done: for what has no
    distributions, because not all of its files are needed.
    """

    name: str
    title: str
    content: str
    megabytes: int
    licence: str
    origin: str
    distributions: tuple[Distribution, ...] = ()
    collect: Callable[[str | None, Path], str] | None = None
