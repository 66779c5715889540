"""Questions to the entries of the ledger, and the records that answer them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from ..gan.errors import UnreachableError
from ..services.tracking import champions, connection, registry
from ..workspace.workspace import Workspace
from .entries import DatasetEntry, E, Entry, GalleryEntry, ModelEntry, RegistrationEntry, VerdictEntry, kind_of
from .index import version_term
from .ledger import Ledger


class Answer(BaseModel):
    """What a query finds; `--json` shows its fields by their aliases."""

    model_config = ConfigDict(frozen=True, validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)


class Head(Answer):
    """What is known of every entry: its key, its content hash, and when it was written down."""

    key: str
    content: str
    time: str


class KnownData(Head):
    """A data set, with the version of its raw data where that is known."""

    source: str
    dvc: str | None
    commit: str | None
    class_counts: Mapping[str, Mapping[str, int]]
    images: Mapping[str, int]

    @classmethod
    def of(cls, dataset: DatasetEntry, **more: Any) -> Self:
        """Describe a data set, with `more` of a subclass."""
        facts = dataset.facts
        return cls(
            **head_of(dataset),
            source=facts.source,
            dvc=facts.dvc,
            commit=facts.commit,
            class_counts=facts.class_counts,
            images=facts.splits,
            **more,
        )


class KnownVerdict(Answer):
    """What the gate said last of a version, and who was champion until then."""

    answer: str
    reason: str
    champion: int | None


class KnownVersion(Answer):
    """A registered version with its aliases now."""

    name: str
    version: int
    aliases: Sequence[str]
    tracking: str
    run: str | None
    commit: str | None
    verdict: KnownVerdict | None
    time: str


def parent_of(ledger: Ledger, child: Entry[Any], kind: type[E]) -> E | None:
    """Return what `child` came from: of equal contents under several keys the last that was written down before it."""
    content = child.parents.get(kind_of(kind))
    if content is None:
        return None
    same = list(ledger.find(kind, "content", content))
    return next((entry for entry in same if entry.place < child.place), next(iter(same), None))


def model_key_of(ledger: Ledger, gallery: GalleryEntry) -> str | None:
    """Return the key of the model that made a gallery."""
    model = parent_of(ledger, gallery, ModelEntry)
    return model.key if model else None


def unique_entries(entries: Iterable[E]) -> list[E]:
    """Return one entry for each key and content."""
    return list({(entry.key, entry.content): entry for entry in entries}.values())


def head_of(entry: Entry[Any]) -> dict[str, str]:
    """Return the fields of `Head`."""
    return {"key": entry.key, "content": entry.content, "time": entry.time}


def seconds_of(entry: Entry[Any]) -> float:
    """Return when it was written down, in seconds since 1970; 0 where it does not say."""
    try:
        return datetime.fromisoformat(entry.time).astimezone(UTC).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0


def versions_of(model: ModelEntry, ledger: Ledger, workspace: Workspace) -> list[KnownVersion]:
    """Return each version of a model, the one that was registered last first."""
    found: dict[tuple[str, int, str], KnownVersion] = {}
    for entry in ledger.find(RegistrationEntry, "model_key", model.key):
        facts = entry.facts
        place = facts.name, facts.version, facts.tracking
        if place not in found:
            commit = facts.tags.get("commit", "none")
            found[place] = KnownVersion(
                name=facts.name,
                version=facts.version,
                aliases=_aliases(*place, ledger, workspace),
                tracking=facts.tracking,
                run=facts.run_id,
                commit=None if commit == "none" else commit,
                verdict=_verdict(ledger, facts.name, facts.version),
                time=entry.time,
            )
    return list(found.values())


def _verdict(ledger: Ledger, name: str, version: int) -> KnownVerdict | None:
    judged = next(ledger.find(VerdictEntry, "version", version_term(name, version)), None)
    if judged is None:
        return None
    return KnownVerdict(answer=judged.facts.answer, reason=judged.facts.reason, champion=judged.facts.champion)


def _aliases(name: str, version: int, where: str, ledger: Ledger, workspace: Workspace) -> list[str]:
    """Ask the registry where there is one, else the journal of champions and what was registered last."""
    if where != connection.address():
        return []
    if where != "embedded" or (workspace.mlruns / "mlflow.db").exists():
        with suppress(UnreachableError):
            return registry.aliases(name, version, workspace)
    last = next(ledger.find(RegistrationEntry, "name", name)).facts.version
    champion = champions.written_champion(name, workspace)
    return [alias for alias, number in (("challenger", last), ("champion", champion)) if number == version]
