"""The gate's rule: promote, keep or abstain, by the distances of both to held-out images and by the vetoes."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Literal, NamedTuple

from ..gan import metrics
from ..gan.distances import Features, kernel_distance
from ..gan.metrics import Resampled
from ..services.tracking.registry import ModelVersion
from ..workspace.artifacts import Registration
from ..workspace.params import Promote
from ..workspace.verdict import Verdict
from .contenders import Evidence, Labels
from .vetoes import vetoes

# More than that nobody makes for a verdict.
MAX_SAMPLES = 1_000_000


class Decision(NamedTuple):
    """What the samples say, in units of KID; `low` and `high` each hold with a confidence of 1 - alpha."""

    answer: Literal["promote", "keep", "abstain"]
    improvement: float
    low: float
    high: float
    margin: float
    needed: int | None = None


def conclude(
    options: Promote,
    registration: Registration,
    champion: ModelVersion | None,
    evidence: Evidence,
    accepted: str | None = None,
) -> Verdict:
    """Return what the evidence says of the challenger; a veto outweighs all scores.

    A check that could not tell keeps a champion, and leaves open whether the first one may become it, unless the user
    has `accepted` that for a reason.
    """
    checks = tuple(vetoes(options, evidence))
    found, reason = _compared(options, champion, evidence)
    if failed := [check for check in checks if not check.passed]:
        found = found._replace(answer="keep", needed=None)
        reason = "; ".join(check.words for check in failed)
    elif accepted is None and (unsure := [check for check in checks if not check.tells]):
        found = found._replace(answer="abstain" if champion is None else "keep", needed=None)
        words = "; ".join(check.words for check in unsure)
        reason = f"{words}: look for copies in report.html, then `ganflow promote --accept REASON` may overrule this"
    return Verdict(
        name=registration.name,
        challenger=registration.version,
        challenger_key=registration.model_key,
        champion=champion and champion.version,
        champion_key=champion and champion.key,
        answer=found.answer,
        reason=reason,
        improvement=found.improvement,
        low=found.low,
        high=found.high,
        margin=found.margin,
        alpha=options.alpha,
        kid_challenger=evidence.kid_challenger,
        kid_champion=evidence.kid_champion,
        floor=kernel_distance(evidence.net.real, evidence.held),
        samples=len(evidence.challenger.features),
        needed=found.needed,
        feature_net=evidence.net.sha256,
        net_name=evidence.net.name,
        holdout=evidence.evaluation.holdout,
        checks=checks,
        accepted=accepted,
    )


def _compared(options: Promote, champion: ModelVersion | None, evidence: Evidence) -> tuple[Decision, str]:
    """Return what the samples say, and why, in half a sentence."""
    if champion is None or evidence.champion is None:
        return Decision("promote", 0.0, 0.0, 0.0, 0.0), "it is the first that passes the checks"
    features = evidence.challenger.features, evidence.champion.features
    found = decide(*features, evidence.held, evidence.labels, options.margin, options.alpha)
    both = f"its KID is {evidence.kid_challenger:.4g}, that of version {champion.version} {evidence.kid_champion:.4g}"
    if found.answer == "promote":
        return found, f"{both}: better by more than the margin of {found.margin:.3g}, and not by luck"
    if found.answer == "keep":
        return found, f"{both}: not better by the margin of {found.margin:.3g}"
    more = f"about {found.needed:,} samples would do (evaluate.samples)"
    if not found.needed:
        more = f"{len(evidence.held):,} held-out images cannot tell so small a difference"
    return found, f"{both}: too few to tell whether that is more than the margin of {found.margin:.3g}; {more}"


def decide(
    challenger: Features, champion: Features, held: Features, labels: Labels, margin: float, alpha: float
) -> Decision:
    """Whether the challenger is nearer to the holdout than the champion, by more than `margin` of its KID.

    Shapes: (N, F), (N, F), (M, F), and the labels of both, (N,).
    """
    new, old = (metrics.kernel_resampled(f, held, labels, stream) for stream, f in enumerate((challenger, champion)))
    return decided(new, old, margin, alpha, len(challenger))


def decided(new: Resampled, old: Resampled, margin: float, alpha: float, samples: int) -> Decision:
    """`decide` by distances of `samples` images of each that are known already.

    Two trainings of one recipe differ too, which no number of samples tells: that is what the margin is for.
    """
    improvement, by_samples, by_held = metrics.kernel_difference(new, old)
    wanted = margin * max(old.value, 0.0)
    z = NormalDist().inv_cdf(1 - alpha)
    reach = z * math.hypot(by_samples, by_held)
    low, high = improvement - reach, improvement + reach
    if low > wanted:
        return Decision("promote", improvement, low, high, wanted)
    if high < wanted:
        return Decision("keep", improvement, low, high, wanted)
    # An error falls with the root of the number; more samples make up for no choice of held-out images.
    left = (abs(improvement - wanted) / z) ** 2 - by_held**2
    needed = math.ceil(samples * by_samples**2 / left) if left > 0 else None
    return Decision("abstain", improvement, low, high, wanted, needed if needed and needed <= MAX_SAMPLES else None)
