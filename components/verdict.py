"""What the gate answers about a challenger, and the page that shows it: one HTML file that holds all it shows."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, Field

from .artifacts import Registration, Workspace
from .gan.options import Options

if TYPE_CHECKING:
    from .gan.dataset import Pixels

# Rows of the pictures on the page, pictures in a row, and the longer side of each.
ROWS, COLUMNS, SIDE = 10, 6, 112
HISTORY = 20


class Check(Options):
    """One veto: what was looked at, and whether the challenger passed."""

    # Values that are not finite are kept: they are what one of the checks looks for.
    model_config = ConfigDict(ser_json_inf_nan="strings")

    name: str = Field(description="such as `finite`, `classes`, `recall of the champion`, `copying by pixels`")
    words: str = Field(description="half a sentence on what was found")
    value: float
    threshold: float
    passed: bool


class Verdict(Options):
    """The gate's answer about one version of a registered model, with all that it rests on."""

    model_config = ConfigDict(ser_json_inf_nan="strings")

    name: str = Field(description="of the registered model")
    challenger: int = Field(description="version")
    challenger_key: str
    champion: int | None = Field(description="version before this verdict, None where there was none")
    champion_key: str | None
    answer: Literal["promote", "keep", "abstain"]
    reason: str = Field(description="half a sentence, to stand behind the headline")
    improvement: float = Field(description="KID of the champion minus that of the challenger; 0 without a champion")
    low: float = Field(description="what the improvement is at least, with a confidence of 1 - alpha")
    high: float = Field(description="what it is at most, with the same confidence")
    margin: float = Field(description="least improvement that counts")
    alpha: float
    kid_challenger: float = Field(description="of its samples to the holdout")
    kid_champion: float | None
    floor: float = Field(description="KID of real images")
    samples: int
    needed: int | None = Field(description="samples that would be enough, where it abstained")
    feature_net: str = Field(description="hash of its weights")
    net_name: str
    holdout: str = Field(description="hash of the holdout's images and labels")
    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.passed)

    @property
    def word(self) -> str:
        """The answer in a word or two."""
        kept = "Vetoed" if self.failed else "Not promoted"
        return {"promote": "Promoted", "keep": kept, "abstain": "Undecided"}[self.answer]

    @property
    def headline(self) -> str:
        """Who is champion now."""
        if self.answer == "promote":
            return f"Version {self.challenger} became champion"
        if self.champion is None:
            return f"Version {self.challenger} did not become champion"
        return f"Version {self.champion} stays champion{' for now' if self.answer == 'abstain' else ''}"

    @property
    def command(self) -> str | None:
        """What would let an undecided gate decide."""
        return None if self.needed is None else f"ganflow run --set evaluate.samples={self.needed}"

    @classmethod
    def last(cls, folder: Path, name: str, version: int) -> Verdict | None:
        """The verdict in `folder`, if it is on this version of this model."""
        try:
            verdict = cls.model_validate_json((folder / "verdict.json").read_text())
        except (OSError, ValueError):
            return None
        return verdict if (verdict.name, verdict.challenger) == (name, version) else None

    @classmethod
    def of(cls, home: Workspace) -> Verdict | None:
        """The verdict on the version that is registered."""
        registration = Registration.load(home.registration)
        return cls.last(home.verdict, registration.name, registration.version)


def render(
    verdict: Verdict,
    pictures: tuple[Pixels, Pixels | None],
    classes: Sequence[str],
    history: Sequence[Mapping[str, Any]],
) -> str:
    """The page.

    `pictures`: of the challenger and of the champion, if there is one, (N, H, W, C) at the same seeds and labels;
    `classes`: the class of each (N,); `history`: every change of the champion, the oldest first.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.filters["count"] = "{:,}".format
    environment.filters["sentence"] = sentence
    challenger, champion = pictures
    rows = list(_rows(challenger, champion, classes))
    return environment.get_template("verdict.html.jinja").render(
        verdict=verdict,
        tone="veto" if verdict.failed and verdict.answer == "keep" else verdict.answer,
        scale=_scale(verdict),
        bars=_bars(verdict),
        rows=rows,
        columns=max(len(row["challenger"]) for row in rows),
        pixelated=max(challenger.shape[1:3]) < SIDE // 2,
        changes=history[::-1][:HISTORY],
        earlier=max(0, len(history) - HISTORY),
    )


def number(value: float) -> str:
    """`value` to four digits, or to a whole number, with a true minus sign; a dash where it is no number."""
    form = "{:,.0f}" if abs(value) >= 1000 else "{:.4g}"
    return form.format(value).replace("-", "\u2212") if math.isfinite(value) else "\u2013"


def sentence(text: str) -> str:
    """`text` with a capital letter and a full stop."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?')) else '.'}"


def _scale(verdict: Verdict) -> dict[str, float] | None:
    """Places in percent of the drawing's width; None where there is nothing to draw."""
    values = {"zero": 0.0, "margin": verdict.margin, "low": verdict.low, "high": verdict.high}
    values["improvement"] = verdict.improvement
    if verdict.champion is None or not all(map(math.isfinite, values.values())):
        return None
    first, last = min(values.values()), max(values.values())
    span = (last - first) or 1.0
    return {name: round(10 + 80 * (value - first) / span, 2) for name, value in values.items()}


def _bars(verdict: Verdict) -> list[tuple[str, float, float]]:
    """Name, KID and length in percent of whatever has a KID."""
    named = [(f"Challenger, version {verdict.challenger}", verdict.kid_challenger)]
    if verdict.kid_champion is not None:
        named.append((f"Champion, version {verdict.champion}", verdict.kid_champion))
    named.append(("Real images (the floor)", verdict.floor))
    longest = max((value for _, value in named if math.isfinite(value)), default=0.0)
    return [
        (name, value, round(100 * max(value, 0.0) / longest, 2) if math.isfinite(value) and longest > 0 else 0.0)
        for name, value in named
    ]


def _rows(challenger: Pixels, champion: Pixels | None, classes: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Pictures of a class in each row, as data URIs; in the given order where there is one class."""
    groups: dict[str, list[int]] = {}
    if len(set(classes)) > 1:
        for index, name in enumerate(classes):
            groups.setdefault(name, []).append(index)
    else:
        for index in range(len(challenger)):
            groups.setdefault(str(index // COLUMNS), []).append(index)
    for name, indices in sorted(groups.items())[:ROWS]:
        chosen = indices[:COLUMNS]
        yield {
            "name": name if len(set(classes)) > 1 else "",
            "challenger": [_picture(challenger[i]) for i in chosen],
            "champion": None if champion is None else [_picture(champion[i]) for i in chosen],
        }


def _picture(pixels: Pixels) -> str:
    from .gan.dataset import to_image

    image = to_image(pixels)
    if max(image.size) > SIDE:
        image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
