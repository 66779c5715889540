"""What was understood of raw data, in one block, before anything is computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from ..workspace.text import shortened
from .parts import BY_CONTENT, DEVELOPMENT, HOLDOUT, TRAINING, Source

SHOWN_CLASSES, SHOWN_REASONS = 10, 4
_NAMES = {TRAINING: "training", DEVELOPMENT: "development", HOLDOUT: "holdout"}


def summary(source: Source) -> list[str]:
    """Return the lines of the block: kinds, classes, splits, what is left out and why, and what was assumed."""
    lines = [f"{'images':<13}{len(source):,} ({source.kind})", f"{'classes':<13}{_classes(source)}"]
    lines.append(f"{'splits':<13}{_splits(source)}")
    if source.pairs:
        lines.append(f"{'pairs':<13}{source.pairs}")
    lines += _reasons("left out", source.left_out)
    lines += _reasons("not usable", source.rejected)
    lines += [f"{'assumed' if note.guess else 'not used':<13}{note.text}" for note in source.notes]
    return lines


def class_counts(source: Source) -> dict[str, int]:
    """Return how many images each class has."""
    none = np.zeros(len(source.classes), int)
    counts = sum((np.bincount(part.labels, minlength=len(source.classes)) for part in source.parts), none)
    return dict(zip(source.classes, counts.tolist(), strict=True))


def _classes(source: Source) -> str:
    if len(source.classes) < 2:
        return "none: images without labels"
    counts = sorted(class_counts(source).items(), key=lambda item: -item[1])
    more = f", and {len(counts) - SHOWN_CLASSES} more" if len(counts) > SHOWN_CLASSES else ""
    listed = ", ".join(f"{shortened(name, 40)} {count:,}" for name, count in counts[:SHOWN_CLASSES])
    return f"{len(counts)}: {listed}{more}"


def _splits(source: Source) -> str:
    counts: Counter[int] = Counter()
    for part in source.parts:
        codes, times = np.unique(part.splits, return_counts=True)
        counts.update(dict(zip(codes.tolist(), times.tolist(), strict=True)))
    if not counts[HOLDOUT]:
        return "none are stated: images are held out by their content"
    listed = ", ".join(f"{name} {counts[code]:,}" for code, name in _NAMES.items() if counts[code])
    return f"as the data state: {listed}" + (f"; {counts[BY_CONTENT]:,} by content" if counts[BY_CONTENT] else "")


def _reasons(head: str, rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield how many there are and why, the most frequent reasons first, each with the first file."""
    if not rows:
        return
    counts = Counter(reason for _, reason in rows)
    first: dict[str, str] = {}
    for name, reason in rows:
        first.setdefault(reason, name)
    yield f"{head:<13}{len(rows):,}:"
    for reason, count in counts.most_common(SHOWN_REASONS):
        yield f"{'':<13}{count:,} x {shortened(reason, 90)}, as {shortened(first[reason], 60)}"
    if len(counts) > SHOWN_REASONS:
        yield f"{'':<13}and {len(counts) - SHOWN_REASONS} more reasons"
