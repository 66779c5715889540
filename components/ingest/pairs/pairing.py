"""Pictures in pairs: the targets among all pictures, each with the input that belongs to it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from ..parts import Builder, Part, rows_of
from ..tables import Text
from .folders import pairs_by_folders
from .names import Pairs
from .table import pairs_by_table


def with_inputs(parts: Sequence[Part], texts: Sequence[Text], builder: Builder, side: str) -> list[Part]:
    """Return the targets among the pictures of `parts`, each with its input; `side` names where the inputs are.

    What has no partner is rejected.

    Raises:
        UserError: nothing here has that name, or there is no pair.
    """
    found = pairs_by_table(parts, texts, builder, side) or pairs_by_folders(parts, builder, side)
    return _regrouped(parts, found)


def _regrouped(parts: Sequence[Part], pairs: Pairs) -> list[Part]:
    """Return parts of the targets in their order, each with the part of their inputs."""
    runs: dict[tuple[int, int], tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for target in sorted(pairs):
        for given in pairs[target]:
            rows, inputs = runs[target.part, given.part]
            rows.append(target.row)
            inputs.append(given.row)
    made: list[Part] = []
    for (of, other), (rows, inputs) in runs.items():
        images = _rows(parts[of], len(made), rows)
        made.append(replace(images, inputs=_rows(parts[other], len(made), inputs)))
    return made


def _rows(part: Part, number: int, rows: list[int]) -> Part:
    return rows_of(part, number, rows, part.labels[rows].tolist(), part.splits[rows].tolist())
