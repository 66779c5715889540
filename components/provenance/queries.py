"""Questions to the entries of the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from .ledger import Entry, Kind


def last_entry(entries: Sequence[Entry], kind: Kind, key: str) -> Entry | None:
    """Return the newest entry of a kind with this key."""
    return next((entry for entry in reversed(entries) if (entry.kind, entry.key) == (kind, key)), None)


def parent_of(entries: Sequence[Entry], child: Entry, kind: Kind) -> Entry | None:
    """Return what `child` came from: of equal contents under several keys the last that was written down before it."""
    same = [entry for entry in entries if (entry.kind, entry.content) == (kind, child.parents[kind])]
    before = [entry for entry in entries[: entries.index(child)] if entry in same]
    return next(iter((before or same)[-1:]), None)


def model_key_of(entries: Sequence[Entry], gallery: Entry) -> str | None:
    model = parent_of(entries, gallery, "model")
    return model.key if model else None


def unique_entries(entries: Iterator[Entry] | Sequence[Entry]) -> list[Entry]:
    """One entry for each key and content."""
    return list({(entry.key, entry.content): entry for entry in entries}.values())


def head_of(entry: Entry) -> dict[str, Any]:
    return {"key": entry.key, "content": entry.content, "time": entry.time}


def data_of(dataset: Entry) -> dict[str, Any]:
    names = ("source", "dvc", "commit", "class_counts")
    return head_of(dataset) | {name: dataset.facts[name] for name in names} | {"images": dataset.facts["splits"]}


def picture_count(gallery: Entry) -> int:
    return len(gallery.facts["pictures"])


def seconds_of(entry: Entry) -> float:
    return datetime.fromisoformat(entry.time).timestamp()
