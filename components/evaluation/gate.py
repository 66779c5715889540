"""The gate's rule: promote, keep or abstain, by the distances of both to held-out images and by the vetoes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from ..services.tracking.registry import ModelVersion
from ..workspace.artifacts import Registration
from ..workspace.measure_words import compared_by
from ..workspace.params import Promote
from ..workspace.verdict import Check, Verdict
from .comparison import POWER, Comparison, spent
from .contenders import Evidence
from .task_contenders import TaskEvidence
from .task_vetoes import task_vetoes
from .vetoes import vetoes

# More than that nobody makes for a verdict.
MAX_SAMPLES = 1_000_000
# An improvement that the gate should see, as a share of the champion's KID; how likely it does, each verdict says.
TYPICAL = 1 / 3
# The same of an image task, as a share of the champion's perceptual distance, of which the baseline has much as well.
TYPICAL_OF_PAIRS = 0.05
# Looks that take half of what all looks may use: of one pair, which is rarely looked at again, and of one holdout.
EARLY_OF_PAIR, EARLY_OF_HOLDOUT = 1.0, 20.0
# Of few files the first looks at a holdout must be let see four standard errors.
EARLY_OF_FILES = 8.0
AnyEvidence = Evidence | TaskEvidence

# Errors of an improvement by a third, as shares of the champion's KID: of digits, with so many held-out images
# (docs/evaluation.md).
_OF_DIGITS = Comparison(2 / 3, 1.0, by_samples=0.08, by_held=0.18, by_nets=0.09, nets=3, samples=16_000)
_HELD_DIGITS = 2_000


class Decision(NamedTuple):
    """What the samples say, in units of KID; `low` and `high` each hold for all looks at this pair together.

    `surely` is what the improvement is at least by a bound that holds for all looks at this holdout together. `needed`:
    samples that would decide, if the improvement is what it seems. `power`: how likely an improvement by a third would
    have been seen; `power_needed`: samples with which that is `POWER`.
    """

    answer: Literal["promote", "keep", "abstain"]
    improvement: float = 0.0
    low: float = 0.0
    high: float = 0.0
    margin: float = 0.0
    surely: float | None = None
    needed: int | None = None
    power: float | None = None
    power_needed: int | None = None


def conclude(
    options: Promote,
    registration: Registration,
    champion: ModelVersion | None,
    evidence: AnyEvidence,
    accepted: str | None = None,
) -> Verdict:
    """Return what the evidence says of the challenger; a veto outweighs all scores.

    A check that could not tell keeps a champion, and leaves open whether the first one may become it, unless the user
    has `accepted` that for a reason.
    """
    checks = tuple(_checks(options, evidence))
    found, reason = _compared(options, champion, evidence)
    if failed := [check for check in checks if not check.passed]:
        found = found._replace(answer="keep", needed=None)
        reason = "; ".join(check.words for check in failed)
    elif accepted is None and (unsure := [check for check in checks if not check.tells]):
        undecided = champion is None or evidence.measure is not None
        found = found._replace(answer="abstain" if undecided else "keep", needed=None)
        words = "; ".join(check.words for check in unsure)
        reason = f"{words}: {evidence.advice}, then `ganflow promote --accept REASON` may overrule this"
    comparison, look = evidence.comparison, evidence.look
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
        measure=evidence.measure,
        baseline=evidence.baseline,
        kid_challenger=evidence.kid_challenger,
        kid_champion=comparison and comparison.champion,
        floor=evidence.floor,
        samples=evidence.samples,
        needed=found.needed,
        feature_net=evidence.net.sha256,
        net_name=evidence.net.name,
        holdout=evidence.evaluation.holdout,
        checks=checks,
        accepted=accepted,
        surely=found.surely,
        nets=comparison and comparison.nets,
        error_by_samples=comparison and comparison.by_samples,
        error_by_held=comparison and comparison.by_held,
        error_by_nets=comparison and comparison.by_nets,
        look_at_pair=look and look.of_pair,
        look_at_holdout=look and look.of_holdout,
        power=found.power,
        power_needed=found.power_needed,
    )


def _checks(options: Promote, evidence: AnyEvidence) -> Iterator[Check]:
    """Look for all vetoes: of image tasks there are others."""
    return task_vetoes(options, evidence) if isinstance(evidence, TaskEvidence) else vetoes(options, evidence)


def _compared(options: Promote, champion: ModelVersion | None, evidence: AnyEvidence) -> tuple[Decision, str]:
    """Return what the samples say, and why, in half a sentence."""
    comparison, look = evidence.comparison, evidence.look
    if champion is None or comparison is None or look is None:
        return Decision("promote"), "it is the first that passes the checks"
    margin = options.margin if evidence.measure is None else options.perceptual_margin
    found = decide(comparison, (look.of_pair, look.of_holdout), margin, options.alpha)
    what = compared_by(evidence.measure)
    both = f"its {what} is {comparison.challenger:.4g}, that of version {champion.version} {comparison.champion:.4g}"
    if found.answer == "promote":
        return found, f"{both}: better by more than the margin of {found.margin:.3g}, and not by luck"
    if found.answer == "keep":
        return found, f"{both}: not better by the margin of {found.margin:.3g}"
    if evidence.measure is not None:
        enough = f"about {found.needed:,} would do (preprocess.holdout)" if found.needed else "no number would do"
        more = f"they are seen on {comparison.samples:,} held-out files, and {enough}"
    elif found.needed:
        more = f"about {found.needed:,} samples would do (promote.samples)"
    else:
        nets = "" if comparison.by_nets is None else f", seen by {comparison.nets} feature nets,"
        more = f"{len(evidence.held):,} held-out images{nets} cannot tell so small a difference"
    return found, f"{both}: too few to tell whether that is more than the margin of {found.margin:.3g}; {more}"


def decide(comparison: Comparison, looks: tuple[int, int], margin: float, alpha: float) -> Decision:
    """Whether the challenger is nearer to the holdout than the champion, by more than `margin` of its KID.

    `looks`: the number of this look at this pair, and at this holdout, from 1 on. Two trainings of one recipe differ
    too, which no number of samples tells: that is what the margin is for.
    """
    if not math.isfinite(comparison.improvement):
        return Decision("abstain", comparison.improvement, -math.inf, math.inf, math.nan)
    improvement, of_champion = comparison.improvement, max(comparison.champion, 0.0)
    wanted, next_looks = margin * of_champion, (looks[0] + 1, looks[1] + 1)
    reach = comparison.reach(spent(alpha, looks[0], EARLY_OF_PAIR))
    answer: Literal["promote", "keep", "abstain"] = "abstain"
    if improvement > least(comparison, wanted, looks, alpha):
        answer = "promote"
    elif improvement + reach < wanted:
        answer = "keep"

    def decides(later: Comparison) -> float:
        """Probability that the next look decides if the improvement is what it seems."""
        refused = 2 * wanted - improvement
        return max(
            later.power(improvement, least(later, wanted, next_looks, alpha)),
            later.power(refused, wanted + later.reach(spent(alpha, next_looks[0], EARLY_OF_PAIR))),
        )

    def sees(later: Comparison) -> float:
        typical = TYPICAL_OF_PAIRS if later.paired else TYPICAL
        return later.power(typical * of_champion, least(later, wanted, looks, alpha))

    return Decision(
        answer,
        improvement,
        improvement - reach,
        improvement + reach,
        wanted,
        surely=improvement - comparison.reach(spent(alpha, looks[1], _early(comparison))),
        needed=fewest(comparison, decides) if answer == "abstain" else None,
        power=sees(comparison),
        power_needed=fewest(comparison, sees),
    )


def least(comparison: Comparison, wanted: float, looks: tuple[int, int], alpha: float) -> float:
    """Return the least improvement that is promoted.

    It is more than what is wanted, by a bound that holds for all looks at this pair; and more than nothing, by a bound
    that holds for all looks at this holdout, whoever is compared.
    """
    return max(
        wanted + comparison.reach(spent(alpha, looks[0], EARLY_OF_PAIR)),
        comparison.reach(spent(alpha, looks[1], _early(comparison))),
    )


def _early(comparison: Comparison) -> float:
    return EARLY_OF_FILES if comparison.paired else EARLY_OF_HOLDOUT


def expected_power(held: int, options: Promote) -> float:
    """Probability that a KID lower by a third is promoted at the first look, before there is any model.

    `held`: held-out images. By the errors that were measured for digits; those of other data differ.
    """
    nets = options.feature_nets
    expected = _OF_DIGITS.with_samples(options.samples)._replace(
        by_held=_OF_DIGITS.by_held * (_HELD_DIGITS / max(1, held)) ** 0.5,
        by_nets=None if nets == 1 else 0.09 * (_OF_DIGITS.nets / nets) ** 0.5,
        nets=nets,
    )
    return expected.power(TYPICAL, least(expected, options.margin, (1, 1), options.alpha))


def fewest(comparison: Comparison, power: Callable[[Comparison], float]) -> int | None:
    """Return with how many samples of each `power` is `POWER`, to two digits, None where that is not to be had."""
    if power(comparison) >= POWER:
        return comparison.samples
    enough, few = MAX_SAMPLES, comparison.samples
    if power(comparison.with_samples(enough)) < POWER:
        return None
    while enough > 1.02 * few:
        middle = round((enough * few) ** 0.5)
        enough, few = (middle, few) if power(comparison.with_samples(middle)) >= POWER else (enough, middle)
    digit = int(10 ** (len(str(enough)) - 2))
    return -(-enough // digit) * digit
