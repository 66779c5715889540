"""Entries of the ledger: for each kind what it takes to trace it when it is gone.

What a model was trained with, and how, stands as it was written: another version may know other options.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import ConfigDict, Field, JsonValue, field_validator

from ..gan.options import ImageFormat
from ..training.cost import Cost
from ..workspace.artifacts import Picture
from ..workspace.journal import Record
from ..workspace.verdict import Verdict

# Keys, hashes and ids become names of files, and labels are printed: neither may be more than that.
Name = Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z._-]{0,127}$")]
Kind = Literal["dataset", "model", "evaluation", "gallery", "registration", "verdict"]


class DatasetFacts(Record):
    """A data set, and the version of its raw data where that lay there still."""

    source: Name = Field(description="hash of the raw data")
    image: ImageFormat
    splits: dict[str, int]
    class_counts: dict[str, dict[str, int]]
    rejected: int
    duplicates: int
    files: str | None = Field(description="hash of the list of the raw files' hashes")
    dvc: str | None
    commit: str | None


class ModelFacts(Record):
    """A model, the run in MLflow that shows its training, and the commit of the code where that is known."""

    training: Mapping[str, JsonValue]
    image: ImageFormat
    execution: Mapping[str, JsonValue]
    images: int
    score: float
    generator_parameters: int
    run_id: Name | None
    tracking: str
    commit: str | None
    cost: Cost | None

    @field_validator("training")
    @classmethod
    def _has_a_network(cls, training: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
        network = training.get("network")
        if not (isinstance(network, dict) and isinstance(network.get("name"), str)):
            raise ValueError("it does not say which network was trained")
        if not isinstance(training.get("images"), int):
            raise ValueError("it does not say how many images were seen")
        return training

    @property
    def network(self) -> str:
        """The name of its network."""
        options = self.training["network"]
        return str(options["name"]) if isinstance(options, dict) else ""


class EvaluationFacts(Record):
    """The scores of a model, and what they were measured with."""

    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    samples: int
    training_images: int
    holdout_images: int
    feature_net: str
    holdout: str


class KnownPicture(Picture):
    """A picture of a gallery with the hash of what is seen of it."""

    model_config = ConfigDict(extra="ignore")

    pixels: str


class GalleryFacts(Record):
    """The pictures of a gallery."""

    pictures: tuple[KnownPicture, ...]


class RegistrationFacts(Record):
    """A version of a registered model; what MLflow said of it stands there if it was asked."""

    name: str
    version: int
    model_key: Name
    tracking: str
    run_id: Name | None = None
    model_id: Name | None = None
    place: str | None = Field(None, description="of its files, from `mlruns/`; None on a server")
    tags: Mapping[str, str] = {}


class VerdictFacts(Verdict):
    """A verdict, whatever else a later version may say of it."""

    model_config = ConfigDict(extra="ignore")


Facts = TypeVar("Facts", bound=Record | Verdict)


class Entry(Record, Generic[Facts]):
    """What is known of one artifact or verdict.

    `key`: of the artifact, its id; `content`: its content hash; `parents`: content hashes by kind; `flow_run`:
    Prefect's, where a flow made it; `place`: where its line begins in the ledger, once it stands there.
    """

    kind: Kind
    key: Name
    content: Name
    parents: Mapping[Kind, Name]
    facts: Facts
    flow_run: str | None
    time: str
    place: int = Field(0, exclude=True)


class DatasetEntry(Entry[DatasetFacts]):
    """A data set."""

    kind: Literal["dataset"] = "dataset"


class ModelEntry(Entry[ModelFacts]):
    """A model."""

    kind: Literal["model"] = "model"

    @field_validator("parents")
    @classmethod
    def _has_a_dataset(cls, parents: Mapping[Kind, Name]) -> Mapping[Kind, Name]:
        if "dataset" not in parents:
            raise ValueError("it does not say which data set it was trained on")
        return parents


class EvaluationEntry(Entry[EvaluationFacts]):
    """An evaluation."""

    kind: Literal["evaluation"] = "evaluation"


class GalleryEntry(Entry[GalleryFacts]):
    """A gallery."""

    kind: Literal["gallery"] = "gallery"


class RegistrationEntry(Entry[RegistrationFacts]):
    """A registration."""

    kind: Literal["registration"] = "registration"


class VerdictEntry(Entry[VerdictFacts]):
    """A verdict."""

    kind: Literal["verdict"] = "verdict"


E = TypeVar("E", bound=Entry[Any])
AnyEntry = Annotated[
    DatasetEntry | ModelEntry | EvaluationEntry | GalleryEntry | RegistrationEntry | VerdictEntry,
    Field(discriminator="kind"),
]


def of_kind(entries: Iterable[AnyEntry], kind: type[E]) -> list[E]:
    """Return the entries of one kind, in their order."""
    return [entry for entry in entries if isinstance(entry, kind)]


def kind_of(kind: type[Entry[Any]]) -> Kind:
    """Return what entries of a class are called."""
    name: Kind = kind.model_fields["kind"].default
    return name
