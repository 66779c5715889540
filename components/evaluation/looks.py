"""Looks of the gate at pairs of models and at holdouts, counted for good: `mlruns/looks.jsonl`.

Each look takes samples at seeds of its own, and the more looks there were, the more it takes to be sure. A command that
is run again looks at the same evidence, which is no other look.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime

from ..gan.errors import DamagedError
from ..workspace.journal import ChainedJournal, Record
from ..workspace.workspace import Workspace

# The journal in `mlruns/`, and in `.ganflow/` what tells how far it was written.
JOURNAL, WITNESS = "looks.jsonl", "looks.json"


class Look(Record):
    """One look; written down before its samples are made, so that none is forgotten."""

    time: str
    challenger: str
    champion: str
    holdout: str
    evidence: str
    of_pair: int
    of_holdout: int

    @property
    def first_seed(self) -> int:
        """The seed of its first sample: one that no evaluation uses, and that chance has not chosen before."""
        named = f"{self.challenger} {self.champion} {self.holdout} {self.of_pair}"
        return int(hashlib.sha256(named.encode()).hexdigest()[:12], 16)


def take(challenger: str, champion: str, holdout: str, evidence: str, workspace: Workspace) -> Look:
    """Return the look at this pair, by the ids of both, on this holdout: the earlier one if the `evidence` is equal.

    `evidence` names all else that the samples and what is seen in them depend on.

    Raises:
        DamagedError: the journal is not what was written.
    """
    kept = journal(workspace)
    if wrong := next(damage(workspace), None):
        raise DamagedError(
            f"{kept.path} is not what was written ({wrong}), so the gate does not know how often it has looked at this "
            "holdout: bring it back from a copy"
        )
    earlier = [look for look in kept.records(Look) if look.holdout == holdout]
    pair = [look for look in earlier if (look.challenger, look.champion) == (challenger, champion)]
    if same := next((look for look in pair if look.evidence == evidence), None):
        return same
    look = Look(
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        challenger=challenger,
        champion=champion,
        holdout=holdout,
        evidence=evidence,
        of_pair=len(pair) + 1,
        of_holdout=len(earlier) + 1,
    )
    kept.append(look.model_dump(mode="json"))
    return look


def journal(workspace: Workspace) -> ChainedJournal:
    """Return the journal of looks."""
    return ChainedJournal(workspace.mlruns / JOURNAL, workspace.state / WITNESS)


def damage(workspace: Workspace) -> Iterator[str]:
    """Yield what is wrong with the journal."""
    kept = journal(workspace)
    yield from kept.damage()
    if kept.head() and not kept.path.exists():
        yield "it is gone"
