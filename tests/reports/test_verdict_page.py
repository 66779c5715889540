"""The verdict's data and its page."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.reports import verdict_page
from components.reports.html import number
from components.reports.verdict_page import render
from components.services.tracking.champions import Change
from components.workspace.verdict import Check, Verdict

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(1)>'
PASSED = Check(name="recall", words="the samples cover 98% of the images", value=0.981, threshold=0.8, passed=True)
FAILED = Check(name="copying by pixels", words="61% of them are copies", value=0.612, threshold=0.05, passed=False)


def made(**changes: Any) -> Verdict:
    """A promotion with changes."""
    facts = {
        "name": "ganflow",
        "challenger": 3,
        "challenger_key": "aaaa",
        "champion": 2,
        "champion_key": "bbbb",
        "answer": "promote",
        "reason": "its KID is better by 0.01234",
        "improvement": 0.01234,
        "low": 0.00789,
        "high": 0.01679,
        "margin": 0.00512,
        "alpha": 0.05,
        "kid_challenger": 0.03123,
        "kid_champion": 0.04357,
        "floor": 0.00113,
        "samples": 8000,
        "needed": None,
        "feature_net": "c" * 64,
        "net_name": "classifier",
        "holdout": "d" * 64,
        "checks": (PASSED,),
    }
    return Verdict.model_validate({**facts, **changes})


def changed(day: int, **changes: Any) -> Change:
    """The change to version `day` on that day of a month."""
    facts = {"time": f"2026-01-{day:02d}T10:00:00+00:00", "name": "ganflow", "version": day, "before": day - 1 or None}
    return Change.model_validate(facts | {"state": "done", "tracking": "embedded"} | changes)


class Page(HTMLParser):
    """Tags with their attributes, and the text that a person reads."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._style = False
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._style = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._style = False

    def handle_data(self, data: str) -> None:
        if not self._style:
            self.words.append(data)

    def images(self) -> list[str]:
        return [str(attributes["src"]) for tag, attributes in self.tags if tag == "img"]


def pictures(count: int = 20, side: int = 28, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, channels), np.uint8)


def page(verdict: Verdict, classes: list[str] | None = None, history: list[Change] | None = None) -> Page:
    champion = None if verdict.champion is None else pictures()
    return Page(render(verdict, (pictures(), champion), classes or [], history or []))


@pytest.mark.parametrize(
    ("changes", "word", "headline", "tone"),
    [
        ({}, "Promoted", "Version 3 became champion", "promote"),
        ({"answer": "keep"}, "Not promoted", "Version 2 stays champion", "keep"),
        ({"answer": "keep", "checks": (PASSED, FAILED)}, "Vetoed", "Version 2 stays champion", "veto"),
        ({"answer": "abstain", "needed": 31_000}, "Undecided", "Version 2 stays champion for now", "abstain"),
        ({"champion": None, "kid_champion": None}, "Promoted", "Version 3 became champion", "promote"),
        (
            {"champion": None, "kid_champion": None, "answer": "keep", "checks": (FAILED,)},
            "Vetoed",
            "Version 3 did not become champion",
            "veto",
        ),
    ],
)
def test_the_answer_stands_on_top_with_its_reason(changes: dict[str, Any], word: str, headline: str, tone: str) -> None:
    found = page(made(**changes))
    assert f"{word} {headline} Its KID is better by 0.01234." in found.text
    assert ("header", {"class": tone}) in found.tags


def test_the_numbers_are_those_of_the_verdict() -> None:
    given = made(low=-0.00189, checks=(PASSED, FAILED))
    text = page(given).text
    values = (given.improvement, given.high, given.margin, given.alpha, given.kid_challenger, given.floor)
    for value in (*values, given.kid_champion or 0, FAILED.value, FAILED.threshold, PASSED.value, PASSED.threshold):
        assert re.search(rf"(?<![\d.]){re.escape(f'{value:.4g}')}(?!\d)", text), value
    assert "\u22120.00189" in text
    assert "8,000 samples" in text and "a confidence of 95%" in text
    assert all(word in text for word in (given.challenger_key, given.feature_net, given.holdout))
    assert "Copying by pixels 61% of them are copies. 0.612 0.05 \u2717 failed" in text


def test_the_drawing_is_to_scale() -> None:
    """Zero, margin and interval lie where their values are, on one scale."""
    given = made(low=-0.002)
    scale = verdict_page._scale(given)
    assert scale is not None
    per_unit = (scale["high"] - scale["zero"]) / given.high
    for name, value in (("low", given.low), ("margin", given.margin), ("improvement", given.improvement)):
        assert scale[name] == pytest.approx(scale["zero"] + per_unit * value, abs=0.05)
    drawn = {a.get("cx") for tag, a in page(given).tags if tag == "circle"}
    assert drawn == {f"{scale['improvement']}%"}
    assert verdict_page._scale(made(improvement=0, low=0, high=0, margin=0)) == dict.fromkeys(scale, 10.0)


def test_undecided_says_what_is_needed() -> None:
    text = page(made(answer="abstain", needed=31_000)).text
    assert "About 31,000 samples would be enough to decide, instead of 8,000: ganflow promote" in text
    assert "--set promote.samples=31000" in text
    assert "takes more data" in page(made(answer="abstain")).text


def test_what_the_bounds_rest_on_is_said() -> None:
    facts = {
        "nets": 3,
        "look_at_pair": 2,
        "look_at_holdout": 41,
        "surely": 0.00456,
        "power": 0.62,
        "power_needed": 21_000,
    }
    errors = {"error_by_samples": 0.00111, "error_by_held": 0.00222, "error_by_nets": 0.00333}
    text = page(made(**facts, **errors)).text
    assert "a mean over 3 such nets" in text and "however often this pair is compared" in text
    for value in (*errors.values(), facts["surely"]):
        assert f"{value:.4g}" in text
    assert "number 2 at this pair, number 41 at this holdout" in text
    assert "promoted with a probability of 62%, for 90% it takes 21,000 samples (promote.samples)" in text
    single = made(**{**facts, **errors, "nets": 1, "error_by_nets": None, "power_needed": None})
    assert "there was one alone" in page(single).text
    assert "for 90% it takes more held-out images (preprocess.holdout)" in page(single).text
    split = made(**{**facts, **errors, "power_needed": None})
    assert "or more feature nets (promote.feature_nets)" in page(split).text
    # Verdicts from before say nothing of it, and stay as they were.
    assert "Standard error" not in page(made()).text
    assert "look_at_pair" not in made().model_dump_json()


def test_pictures_stand_side_by_side_in_rows_of_classes() -> None:
    found = page(made(), classes=["cat", "dog"] * 10)
    assert len(found.images()) == 2 * 2 * verdict_page.COLUMNS
    assert found.text.index("cat") < found.text.index("dog")
    assert "The same seeds and classes for both" in found.text
    alone = page(made(champion=None, kid_champion=None), classes=["cat", "dog"] * 10)
    assert len(alone.images()) == 2 * verdict_page.COLUMNS
    assert "there was no champion to compare it with" in alone.text
    assert "Without a champion there is no difference to test" in alone.text
    assert len(page(made(), classes=["one"] * 20).images()) == 2 * 20


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_pictures_of_any_size_and_channels(channels: int) -> None:
    html = render(made(), (pictures(3, 256, channels), pictures(3, 256, channels)), [], [])
    assert len(html) < 6 * 150_000
    assert len(Page(html).images()) == 6


def test_nothing_is_loaded_run_or_trusted() -> None:
    bad = Check(name=HOSTILE, words=HOSTILE, value=1, threshold=1, passed=False)
    given = made(name=HOSTILE, reason=HOSTILE, net_name=HOSTILE, feature_net=HOSTILE, checks=(bad,), answer="keep")
    history = [changed(1, time=HOSTILE, name=HOSTILE)]
    found = page(given, classes=[HOSTILE, "other"] * 10, history=history)
    assert HOSTILE in found.text
    assert not {"script", "link", "iframe", "object", "form"} & {tag for tag, _ in found.tags}
    assert all(source.startswith("data:image/png;base64,") for source in found.images())
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
    policy = next(a["content"] for _, a in found.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_a_check_that_could_not_tell_is_no_pass_and_says_what_to_do() -> None:
    unsure = Check(
        name="copying by pixels", words="planted ones not found", value=0, threshold=0.05, passed=True, tells=False
    )
    verdict = made(champion=None, champion_key=None, answer="abstain", checks=(PASSED, unsure))
    text = page(verdict).text
    assert "ganflow promote --accept REASON" in text
    assert "cannot tell" in text
    assert "More samples" not in text
    accepted = made(checks=(unsure,), accepted="looked at every pair")
    assert not accepted.unsure
    assert "accepted by the user: Looked at every pair." in page(accepted).text


def test_history_names_the_latest_champions_first() -> None:
    history = [changed(day, rollback=day == 24) for day in range(1, 26)]
    text = page(made(), history=history).text
    assert "2026-01-25 10:00:00 UTC version 25 version 24 2026-01-24" in text
    assert "version 24, by a rollback version 23" in text
    assert "version 6 version 5" in text and "version 5 version 4" not in text
    assert "and 5 before" in text
    assert "There has been none." in page(made()).text


def test_values_that_are_not_finite_are_kept_and_shown_as_dashes(tmp_path: Path) -> None:
    check = Check(name="finite", words="its images are not numbers", value=math.inf, threshold=0, passed=False)
    given = made(answer="keep", kid_challenger=math.nan, improvement=math.nan, low=math.nan, high=math.nan)
    given = given.model_copy(update={"checks": (check,)})
    assert Verdict.last(tmp_path, "ganflow", 3) is None
    (tmp_path / "verdict.json").write_text(given.model_dump_json())
    again = Verdict.last(tmp_path, "ganflow", 3)
    assert again is not None and math.isnan(again.kid_challenger) and again.checks == (check,)
    text = page(again).text
    assert "nan" not in text.split() and "The difference is not a finite number" in text
    assert Verdict.last(tmp_path, "ganflow", 4) is None and Verdict.last(tmp_path, "other", 3) is None
    (tmp_path / "verdict.json").write_text("{}")
    assert Verdict.last(tmp_path, "ganflow", 3) is None


def test_numbers_are_short() -> None:
    values = (0.0123456, -9.5481, -14227.6, 0, math.nan, math.inf)
    assert [number(value) for value in values] == ["0.01235", "\u22129.548", "\u221214,228", "0", "\u2013", "\u2013"]
