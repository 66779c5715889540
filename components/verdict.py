"""What the gate found, and the page that shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .gan.options import Options

if TYPE_CHECKING:
    from .gan.dataset import Pixels


class Check(Options):
    name: str
    words: str
    value: float
    threshold: float
    passed: bool


class Verdict(Options):
    name: str
    challenger: int
    challenger_key: str
    champion: int | None
    champion_key: str | None
    answer: Literal["promote", "keep", "abstain"]
    reason: str
    improvement: float
    low: float
    high: float
    margin: float
    alpha: float
    kid_challenger: float
    kid_champion: float | None
    floor: float
    samples: int
    needed: int | None
    feature_net: str
    net_name: str
    holdout: str
    checks: tuple[Check, ...]

    @classmethod
    def last(cls, folder: Path, name: str, version: int) -> Verdict | None:
        """The verdict in `folder`, if it is on this version of this model."""
        try:
            verdict = cls.model_validate_json((folder / "verdict.json").read_text())
        except (OSError, ValueError):
            return None
        return verdict if (verdict.name, verdict.challenger) == (name, version) else None


def render(
    verdict: Verdict,
    pictures: tuple[Pixels, Pixels | None],
    classes: Sequence[str],
    history: Sequence[Mapping[str, Any]],
) -> str:
    return verdict.model_dump_json()
