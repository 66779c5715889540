"""The page that shows a verdict: one HTML file that holds all it shows."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..gan.dataset import Pixels
from ..workspace.verdict import Verdict

# Rows of the pictures on the page, pictures in a row, and the longer side of each.
ROWS, COLUMNS, SIDE = 10, 6, 112
HISTORY = 20


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
    from ..gan.dataset import to_image

    image = to_image(pixels)
    if max(image.size) > SIDE:
        image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
