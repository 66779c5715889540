"""The page that shows a verdict: one HTML file that holds all it shows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..evaluation.task_contenders import Shown
    from ..gan.dataset import Pixels
from ..services.tracking.champions import Change
from ..workspace.measure_words import plain
from ..workspace.verdict import Verdict
from .html import image_uri, to_html

# Rows of the pictures on the page, pictures in a row, and the longer side of each.
ROWS, COLUMNS, SIDE = 10, 6, 112
HISTORY = 20


def render(
    verdict: Verdict,
    pictures: tuple[Pixels, Pixels | None],
    classes: Sequence[str],
    history: Sequence[Change],
) -> str:
    """Return the page.

    `pictures`: of the challenger and of the champion, if there is one, (N, H, W, C) at the same seeds and labels;
    `classes`: the class of each (N,); `history`: every change of the champion, the oldest first.
    """
    challenger, champion = pictures
    rows = list(_rows(challenger, champion, classes))
    return to_html(
        "verdict.html.jinja",
        **_said(verdict, history),
        rows=rows,
        columns=max(len(row["challenger"]) for row in rows),
        pixelated=max(challenger.shape[1:3]) < SIDE // 2,
    )


def render_task(verdict: Verdict, shown: Shown, history: Sequence[Change]) -> str:
    """Return the page of a verdict on a model of an image task, with what both were given; `history` as of `render`."""
    heads = ["Given", f"Challenger, version {verdict.challenger}", "Original"]
    columns = [shown.given, shown.challenger, shown.originals]
    if shown.champion is not None:
        heads.insert(2, f"Champion, version {verdict.champion}")
        columns.insert(2, shown.champion)
    rows = [[_picture(pixels, 2 * SIDE) for pixels in row] for row in zip(*columns, strict=True)]
    return to_html("task_verdict.html.jinja", **_said(verdict, history), rows=rows, heads=heads)


def _said(verdict: Verdict, history: Sequence[Change]) -> dict[str, Any]:
    """Return what every page says of a verdict."""
    return {
        "verdict": verdict,
        "tone": "veto" if verdict.failed and verdict.answer == "keep" else verdict.answer,
        "scale": _scale(verdict),
        "bars": _bars(verdict),
        "changes": history[::-1][:HISTORY],
        "earlier": max(0, len(history) - HISTORY),
    }


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
    """Name, distance and length in percent of whatever has a distance."""
    named = [(f"Challenger, version {verdict.challenger}", verdict.kid_challenger)]
    if verdict.kid_champion is not None:
        named.append((f"Champion, version {verdict.champion}", verdict.kid_champion))
    if verdict.baseline is None:
        named.append(("Real images (the floor)", verdict.floor))
    else:
        named.append((f"{plain(verdict.baseline).capitalize()}, the best without a network", verdict.floor))
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


def _picture(pixels: Pixels, side: int = SIDE) -> str:
    from ..gan.dataset import to_image

    image = to_image(pixels)
    if max(image.size) > side:
        image.thumbnail((side, side))
    return image_uri(image)
