"""What stages hand to each other: a folder, and the JSON that describes it and is written last.

Everything in an artifact is a pure function of its key: no date, duration, run id, host or absolute path.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, Field

from ..gan.errors import DamagedError, NotThereError
from ..gan.options import STORED, Execution, ImageFormat, LatentsName, Options, TrainingOptions
from .files import sealed, sha256_of, unsealed


class Key(Options):
    """What a stage's result depends on, as three hashes; equal keys mean equal results."""

    options: str
    inputs: str
    code: str

    @property
    def id(self) -> str:
        return hashlib.sha256(f"{self.options}{self.inputs}{self.code}".encode()).hexdigest()[:16]


class OtherVersionError(NotThereError):
    """An artifact whose JSON this version does not know: it counts as not there, and is made again."""


class FileRecord(Options):
    """Size and hash of one file of an artifact."""

    size: int
    sha256: str


def _inside(name: str) -> str:
    if not name or name.startswith("/") or "\\" in name or {"", ".", ".."} & {*name.split("/")}:
        raise ValueError(f"{name!r} does not lie in the artifact's folder")
    return name


class Artifact(Options):
    """A folder and the JSON that describes it; subclasses say what the JSON holds."""

    manifest: ClassVar[str]

    key: Key
    files: dict[Annotated[str, AfterValidator(_inside)], FileRecord]
    folder: Path = Field(exclude=True)

    @cached_property
    def content(self) -> str:
        """Hash of all that its JSON says but the key, so that an edit of code that changes no result goes no further.

        What the JSON does not say, because it is of an earlier version, does not count.
        """
        described = self.model_dump(mode="json", exclude={"key"}, exclude_unset=True)
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the artifact in `folder`, its files checked for presence and size.

        Raises:
            NotThereError: it is missing, or of another version.
            DamagedError: a file is missing or has another size.
        """
        path = folder / cls.manifest
        if not path.exists():
            made_by = cls.__name__.lower()
            raise NotThereError(f"there is no {made_by} at {folder}: run `ganflow run`, which makes it")
        try:
            artifact = cls.model_validate({**unsealed(path.read_text()), "folder": folder}, context=STORED)
        except (ValueError, TypeError):
            raise OtherVersionError(
                f"{path} is damaged, or of another version of ganflow: `ganflow run` makes it again"
            ) from None
        for name, record in artifact.files.items():
            file = folder / name
            if not file.is_file() or file.stat().st_size != record.size:
                raise _damaged(folder, f"{name} is missing or has another size")
        return artifact

    def verified(self) -> Self:
        """Itself, after a check of every byte.

        Raises:
            DamagedError: a file does not have the recorded hash.
        """
        for name, record in self.files.items():
            if sha256_of(self.folder / name) != record.sha256:
                raise _damaged(self.folder, f"{name} does not have the recorded hash")
        return self

    @classmethod
    def describe(cls, folder: Path, key: Key, **facts: Any) -> None:
        """Write the JSON of the files in `folder`: the last act before it is published."""
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        files = {
            path.relative_to(folder).as_posix(): FileRecord(size=path.stat().st_size, sha256=sha256_of(path))
            for path in paths
        }
        artifact = cls(key=key, files=files, folder=folder, **facts)
        (folder / cls.manifest).write_text(sealed(artifact.model_dump(mode="json")))


class Dataset(Artifact):
    """uint8 shards and labels of three splits (`gan.dataset`), and the table of rejected files `rejected.csv`.

    For each image of a split `<split>-identities.npy` (N, 2) and `<split>-signatures.npy` (N, views, values), by which
    it is known whatever the options (`ingest.identity`), `<split>-places.npy` (N,), which decides its side, and
    `<split>-groups.npy` (N,): images with the same number belong together, as all pieces of one photo do. Identity,
    signature and place of a piece are those of its photo. With hidden pairs
    `<split>-subjects.npy` (N,) has equal numbers for pictures that show the same, and -1 for others. Earlier data sets
    have two splits of pixels and labels alone.
    """

    manifest = "dataset.json"

    image: ImageFormat
    splits: dict[str, int] = Field(description="images in each split")
    photos: dict[str, int] = Field(
        {}, exclude_if=lambda photos: not photos, description="of images that are pieces: photos in each split"
    )
    class_counts: dict[str, dict[str, int]] = Field(description="images of each class in each split")
    mean: tuple[float, ...] = Field(description="of each channel of the training split, in [0, 1]")
    std: tuple[float, ...]
    rejected: int
    duplicates: int
    near_duplicates: int = Field(0, description="images that are nearly the same as others")
    near_groups: int = Field(0, description="groups of these, each on one side")
    between_sides: int = Field(0, description="images left out as near-duplicates of images on two sides")
    bits: int = Field(16, description="how many bits of images of 16 bits were used, if there were any")
    source: str = Field(description="hash of the raw data")

    @property
    def sizes(self) -> str:
        """How many images there are in each split, and of how many photos where they are pieces of some."""
        if not self.photos:
            return ", ".join(f"{count:,} {name}" for name, count in self.splits.items())
        listed = ", ".join(
            f"{self.photos[name]:,} {words}"
            for name, words in (
                ("training", "to train on"),
                ("development", "for development"),
                ("holdout", "held out"),
            )
        )
        total = sum(self.splits.values())
        return f"{total:,} pieces of {sum(self.photos.values()):,} photos: {listed}"

    @property
    def near_duplicates_found(self) -> str:
        """A sentence on images that are nearly the same."""
        kind = "piece" if self.photos else "image"
        if not self.near_duplicates and not self.between_sides:
            return f"No {'photo' if self.photos else 'image'} is nearly the same as another one."
        groups = (
            "one group, which stands" if self.near_groups == 1 else f"{self.near_groups:,} groups, each of which stands"
        )
        others = "are of photos that are nearly the same as others" if self.photos else "are nearly the same as others"
        words = f"{self.near_duplicates:,} {kind}s {others}, in {groups} on one side"
        if self.between_sides:
            words += f"; {self.between_sides:,} left out, near to {kind}s on two sides"
        return f"{words}."


class Model(Artifact):
    """`generator.safetensors` (moving average), `discriminator.safetensors`, `history.csv`."""

    manifest = "model.json"

    training: TrainingOptions
    image: ImageFormat
    execution: Execution
    images: int = Field(description="images seen by the published networks")
    score: float = Field(description="the in-training score that chose them: the distance to the development split")
    generator_parameters: int
    discriminator_parameters: int
    dataset: str = Field(description="content hash of the data set")
    # Not written where it is the first way, which no model named that was made with it.
    latents: LatentsName = Field(
        "torch-mt19937", exclude_if=lambda name: name == "torch-mt19937", description="how a seed becomes a latent"
    )
    averages: dict[str, float] = Field(
        {},
        exclude_if=lambda scores: not scores,
        description="where there were several moving averages, the score of each, of which the lowest is published",
    )


# The table of scores at each truncation in an evaluation.
TRUNCATION = "truncation.csv"
# The table of a row for each class that pictures were carried into.
DIRECTIONS = "directions.csv"


# Of an evaluation without pairs: what was carried into another class and back.
RETURNED = "returned.npy"


class Evaluation(Artifact):
    """`metrics.json`, and the samples it was measured on: `samples.npy` (N, H, W, C) with the table `samples.csv`.

    For the gate features of both, `features.npy` (N, F) and `holdout.npy` (M, F), of the held-out images at
    `holdout_rows.npy` (M,), and what the model has seen (`evaluation.seen`): hashes of pixels `training_images.npy`,
    `seen_identities.npy` and `seen_signatures.npy`. By
    `evaluate.full` also `truncation.csv`, the scores at each truncation; of restyle `directions.csv`, by classes.
    """

    manifest = "evaluation.json"
    # What the model has seen; registered with it.
    seen: ClassVar[tuple[str, str, str]] = ("training_images.npy", "seen_identities.npy", "seen_signatures.npy")

    metrics: dict[str, float] = Field(description="the same as metrics.json")
    intervals: dict[str, tuple[float, float]] = Field(
        description="95 % intervals of those that have one, from resampling"
    )
    samples: int
    training_images: int
    holdout_images: int
    feature_net: str = Field(description="hash of the classifier's weights")
    holdout: str = Field(description="hash of the holdout's images and labels")
    model: str = Field(description="content hash of the model")
    truncation: float | None = Field(
        None, description="with the least Frechet distance to the training split; only by evaluate.full"
    )


class Picture(Options):
    """One finished image of a gallery."""

    file: str
    seed: int
    label: str
    steps: tuple[str, ...]


class Gallery(Artifact):
    """Finished images, `contact_sheet.png`, `interpolation.webp`, `report.html`."""

    manifest = "gallery.json"

    pictures: tuple[Picture, ...]
    model: str = Field(description="content hash of the model")


class Registration(Artifact):
    """Which version of the registered model this model is; nothing that changes later."""

    manifest = "registration.json"

    name: str
    version: int
    model_key: str
    tracking: str = Field(description="address of the tracking server, `embedded` for the workspace's own")


def _damaged(folder: Path, what: str) -> DamagedError:
    return DamagedError(f"{folder} is damaged ({what}): delete that folder and run `ganflow run`, which makes it again")
