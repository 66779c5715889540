"""How to read each metric (`scores.toml`), beside what real images get, and what they say together."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import TypeAdapter

from ..gan.options import Options
from ..workspace.measure_words import MEASURES, WORDS, Measure, plain
from ..workspace.scores import Compared, Images, Score, Scores
from .html import number

WITHIN = "within what real images get"


class Explanation(Options):
    """How to read a metric on a split; `format` is Python's, three digits without one."""

    metric: str = ""
    split: str = ""
    title: str = ""
    better: str = ""
    text: str = ""
    format: str | None = None
    # Which way a value leaves what real images get; none where it is no score of the samples.
    worse: Literal["above", "below", "apart", ""] = ""
    # What a perfect generator would get, where that is no measurement.
    perfect: str = ""

    def explains(self, score: Score) -> bool:
        """Whether it is about the metric of `score`, or one whose name goes on after it."""
        return f"{score.metric}_".startswith(f"{self.metric}_") and self.split in ("", score.split)


class ScoreRow(NamedTuple):
    """A row of the table of scores."""

    compared: Compared
    explanation: Explanation
    # The score that asks the same of fewer images, where this one has no floor.
    paired: Score | None = None
    # By the same protocol, of what is made of the same inputs without a network.
    beside: tuple[Score, ...] = ()

    @property
    def name(self) -> str:
        return self.compared.score.name

    @property
    def title(self) -> str:
        return self.explanation.title or self.name.replace("_", " ")

    @property
    def better(self) -> str:
        return self.explanation.better

    @property
    def text(self) -> str:
        """What the metric tells, and whether it found copies that were planted."""
        control = self.compared.control
        found = "" if control is None else f" Of copies that were planted {control.value:.0%} were found."
        return self.explanation.text + found

    @property
    def value(self) -> str:
        return self._shown(self.compared.score.value)

    @property
    def floor(self) -> str | None:
        return None if self.compared.floor is None else self._shown(self.compared.floor.value)

    @property
    def interval(self) -> list[str]:
        return self._ends(self.compared.score)

    @property
    def floor_interval(self) -> list[str]:
        return [] if self.compared.floor is None else self._ends(self.compared.floor)

    @property
    def baselines(self) -> list[tuple[str, str, list[str]]]:
        """Name, value and interval of each baseline."""
        return [(plain(each.images), self._shown(each.value), self._ends(each)) for each in self.beside]

    @property
    def real(self) -> str:
        """What a perfect generator would get, with its interval, or where that is to be found."""
        if self.floor is not None:
            ends = " to ".join(self.floor_interval)
            return f"{self.floor} ({ends})" if ends else self.floor
        if self.paired is not None:
            return f"not so many: see {self.paired.name}"
        return self.explanation.perfect

    @property
    def standing(self) -> str:
        """Where the samples stand beside real images, as far as chance lets tell.

        A value beyond its floor is no better than one at it: real images are what is aimed at.
        """
        floor, worse = self.compared.floor, self.explanation.worse
        if floor is None or not worse:
            return ""
        (low, high), (least, most) = (_ends_of(score) for score in (self.compared.score, floor))
        if low > most and worse in ("above", "apart"):
            return "above what real images get"
        if high < least and worse in ("below", "apart"):
            return "below what real images get"
        return WITHIN

    def _ends(self, score: Score) -> list[str]:
        return [self._shown(end) for end in score.interval or ()]

    def _shown(self, value: float) -> str:
        return number(value, digits=3, form=self.explanation.format)


@cache
def explanations() -> tuple[Explanation, ...]:
    """All explanations, in the order of the pages."""
    with Path(__file__).with_name("scores.toml").open("rb") as file:
        return TypeAdapter(tuple[Explanation, ...]).validate_python(tomllib.load(file)["explanation"])


def score_rows(scores: Scores, compared: Iterable[Compared] | None = None) -> list[ScoreRow]:
    """Rows of the table, each with its floor and control, those explained first, in their order.

    Of the scores that are `compared`, by default of those that are shown to people.
    """
    known = explanations()
    rows = []
    for each in scores.shown() if compared is None else compared:
        place = next((i for i, one in enumerate(known) if one.explains(each.score)), len(known))
        paired = None if each.floor else scores.paired(each.score)
        explanation = known[place] if place < len(known) else Explanation()
        beside = tuple(scores.baselines(each.score)) if each.score.images == "samples" else ()
        rows.append((place, ScoreRow(each, explanation, paired, beside)))
    return [row for _, row in sorted(rows, key=lambda row: row[0])]


def _ends_of(score: Score) -> tuple[float, float]:
    return score.interval or (score.value, score.value)


class Rating(NamedTuple):
    """Whether a model is good: a word, and a sentence without a full stop."""

    word: str
    reason: str


def rating(scores: Scores, conditional: bool) -> Rating | None:
    """Rate a model by its scores beside those of unseen real images; None without such scores.

    Four questions, each answered well, fairly or badly by how far the samples are from real images; the word is the
    worst answer's. How they stand is said as in the table, with what chance may do. `conditional`: the network was told
    the classes. A model of an image task is rated by its baselines.
    """
    if compared := best_baseline(scores):
        return _against(compared, scores)
    # What is wrong comes first.
    answers = sorted(_answers(scores, conditional), key=lambda answer: -answer[0])
    if not answers:
        return None
    return Rating(("Good", "Fair", "Poor")[answers[0][0]], "; ".join(text for _, text in answers))


class Beaten(NamedTuple):
    """The best baseline, its distance and the model's own, and by how much this is nearer, if it is.

    By the measure of the task.
    """

    measure: Measure
    name: Images
    distance: float
    own: float
    gain: Score


def best_baseline(scores: Scores) -> Beaten | None:
    """Return the baseline that is hardest to beat; None of a model that makes images of noise."""
    for metric in MEASURES:
        for found in scores.of_metric(metric):
            beside = scores.baselines(found.score)
            if beside:
                best = min(beside, key=lambda score: score.value)
                gain = scores.beside(replace(found.score, metric=f"{metric}_gain"), best.images)
                if gain is not None:
                    return Beaten(metric, best.images, best.value, found.score.value, gain)
    return None


def _against(best: Beaten, scores: Scores) -> Rating:
    """Rate a model of an image task: whether it beats what is made of the same inputs without a network."""
    named, words = plain(best.name), WORDS[best.measure]
    distances = f"{words.distance} {number(best.own, 3)} against {number(best.distance, 3)}"
    share = f"{abs(best.gain.value) / max(best.distance, 1e-12):.0%}"
    if best.gain.value <= 0:
        return Rating(
            "Poor",
            f"it does not beat what is made without a network: {named} is as near to {words.all} ({distances})",
        )
    nearer = f"its images are {share} nearer to {words.all} than {named}, the best baseline ({distances})"
    if best.gain.low is None or best.gain.low <= 0:
        return Rating("Fair", f"whether it beats what is made without a network may be chance: {nearer}")
    errors = next(((f.score, scores.baselines(f.score)) for f in scores.of_metric("psnr")), None)
    if errors is None or not errors[1]:
        return Rating("Good", f"it beats what is made without a network: {nearer}")
    own, strongest = errors[0].value, max(errors[1], key=lambda score: score.value)
    error = f"{own:.2f} dB, {plain(strongest.images)} {strongest.value:.2f} dB"
    if own < strongest.value:
        return Rating(
            "Fair", f"it looks better than what is made without a network, and errs more: {nearer}; PSNR {error}"
        )
    return Rating("Good", f"it beats what is made without a network: {nearer}; PSNR {error}")


def _answers(scores: Scores, conditional: bool) -> Iterator[tuple[int, str]]:
    """Yield a level from 0 (good) to 2 (poor) with half a sentence, for each question that has scores."""
    if conditional and (row := _row(scores, "agreement")):
        level, stands = _stands(row, 0.97, 0.85)
        yield level, f"{row.value} of the samples show the class asked for (real images {row.floor}), {stands}"
    for metric, asked, bounds in (("precision", "realism", (0.9, 0.7)), ("recall", "variety", (0.8, 0.5))):
        if row := _row(scores, metric):
            level, stands = _stands(row, *bounds)
            yield level, f"{asked} {stands} ({metric} {row.value}, real images {row.floor})"
    if (row := _row(scores, "copied")) and row.compared.floor:
        level = _level(row.compared.floor.value - row.compared.score.value, -0.02, -0.05)
        few = (
            "no sign of copies" if row.standing == WITHIN else "more look-alikes of training images than real ones have"
        )
        likeness = (few, "some copies of training images", "copies of training images")[level]
        yield level, f"{likeness} ({row.value} of the samples, {row.floor} of unseen real images)"


def _row(scores: Scores, metric: str) -> ScoreRow | None:
    """Return the row of the first score by this metric that has a floor."""
    compared = [found for found in scores.of_metric(metric) if found.floor][:1]
    return next(iter(score_rows(scores, compared)), None)


def _stands(row: ScoreRow, good: float, fair: float) -> tuple[int, str]:
    """Return the level of a share of which more is better, by its ratio to that of real images, and how it stands."""
    score, floor = row.compared.score, row.compared.floor
    level = _level(score.value / max(floor.value if floor else 0.0, 1e-9), good, fair)
    if row.standing != WITHIN:
        return level, f"{('a little ', '', 'far ')[level]}{row.standing}"
    return level, f"{WITHIN}, as far as so few samples tell" if level else WITHIN


def _level(value: float, good: float, fair: float) -> int:
    return 0 if value >= good else 1 if value >= fair else 2
