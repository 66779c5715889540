"""A folder or bucket that holds one batch of pictures, and `render.json`, which says what they are of.

`render.json` is written first, so that nothing else is ever mixed with them, and again at the end, with the hash of
each file.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Container, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from ..gan.errors import UserError
from ..gan.options import Options
from ..pictures.finishing import PictureStep
from ..workspace.files import sha256_of
from .destination import Destination

MANIFEST = "render.json"
# Files on their way to or from a bucket at a time.
AT_ONCE = 8
Steps = tuple[Annotated[PictureStep, Field(discriminator="name")], ...]


class PictureBatch(Options):
    """What the pictures of a folder are of, and when all are there the sha256 of each file."""

    name: str = Field(description="of the registered model")
    version: int | None = Field(description="of the registered model; none: the model lay in the workspace")
    model: str = Field(description="the model's key")
    images: int
    label: str
    seed: int
    truncation: float
    steps: Steps
    files: dict[str, str] | None = None

    def __str__(self) -> str:
        return f"{self.images:,} images of {self.source}"

    @property
    def source(self) -> str:
        """The model in words."""
        return f"model {self.model}" if self.version is None else f"{self.name} version {self.version}"

    @property
    def id(self) -> str:
        """Hash of all that the pictures depend on."""
        return hashlib.sha256(self.model_dump_json(exclude={"files"}).encode()).hexdigest()[:16]


class PictureFolder:
    """The folder at `place`, as a user writes it, opened for one batch; `there` are the files that it holds."""

    def __init__(self, batch: PictureBatch, names: Container[str], place: Destination, scratch: Path) -> None:
        self.batch, self.place, self.storage, self._scratch = batch, place.named, place.storage, scratch
        there = place.files()
        begun = [name for name in there if _is_begun(name, names)]
        # A crash of the machine may leave empty files.
        self.there = {name for name, size in there.items() if size and name not in begun}
        # Of all files, if all were there once.
        self.hashes: Mapping[str, str] | None = None
        if there.keys() - begun:
            self.hashes = self._found().files
            if foreign := min((name for name in there if not _is_of_batch(name, names)), default=None):
                raise UserError(
                    f"{self.place} holds {foreign!a}, which is not of this rendering: choose another folder, "
                    "or move that elsewhere"
                )
        for name in begun:
            # By a process that was killed.
            self.storage.delete(name)
        if not self.there:
            self._describe(batch)

    @classmethod
    @contextmanager
    def open(cls, batch: PictureBatch, names: Container[str], place: Destination) -> Iterator[PictureFolder]:
        """Write down what is to come, where nothing is; what an interrupted batch left is found again.

        `names`: of all files of the batch.

        Raises:
            UserError: `place` holds something else.
        """
        with tempfile.TemporaryDirectory() as scratch:
            yield cls(batch, names, place, Path(scratch))

    def put(self, files: Mapping[str, bytes]) -> dict[str, str]:
        """Add files, several at a time, each whole or not at all; the sha256 of each by its name."""

        def put_one(name: str) -> None:
            file = self._scratch / name
            file.write_bytes(files[name])
            self.storage.put(file, name)
            file.unlink()

        with ThreadPoolExecutor(AT_ONCE) as hands:
            list(hands.map(put_one, files))
        return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}

    def finish(self, made: Mapping[str, str], names: Iterable[str]) -> None:
        """Write the hashes of all files `names`: those that were `made`, and those that were there."""
        kept = [name for name in names if name not in made]
        hashes = {**made, **(self.hashes or self._hashes(kept))}
        self._describe(self.batch.model_copy(update={"files": dict(sorted(hashes.items()))}))

    def _found(self) -> PictureBatch:
        """Return the batch that is there, after a check that it is this one."""
        try:
            self.storage.get(MANIFEST, self._scratch / MANIFEST)
            found = PictureBatch.model_validate_json((self._scratch / MANIFEST).read_bytes())
        except (FileNotFoundError, ValidationError):
            raise UserError(f"{self.place} holds files that are not of a rendering: choose another folder") from None
        if found.id != self.batch.id:
            raise UserError(
                f"{self.place} holds {found} or is to hold them, made with other options or by another model: choose "
                "another folder"
            )
        return found

    def _hashes(self, names: Iterable[str]) -> dict[str, str]:
        def hash_of(name: str) -> tuple[str, str]:
            file = self._scratch / name
            self.storage.get(name, file)
            digest = sha256_of(file)
            file.unlink()
            return name, digest

        with ThreadPoolExecutor(AT_ONCE) as hands:
            return dict(hands.map(hash_of, names))

    def _describe(self, batch: PictureBatch) -> None:
        (self._scratch / MANIFEST).write_text(batch.model_dump_json(indent=2) + "\n")
        self.storage.put(self._scratch / MANIFEST, MANIFEST)


def _is_of_batch(name: str, names: Container[str]) -> bool:
    return name == MANIFEST or name in names or _is_begun(name, names)


def _is_begun(name: str, names: Container[str]) -> bool:
    """Whether it is what `Storage.put` writes before it gives a file of the batch its name."""
    begun = re.fullmatch(r"(.+)\.[0-9a-f]{32}\.part", name, re.DOTALL)
    return begun is not None and (begun[1] == MANIFEST or begun[1] in names)
