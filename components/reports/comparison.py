"""Two models beside each other: parameters that differ, scores with intervals, and pictures at the same seeds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..gan.dataset import Pixels
from ..gan.errors import DamagedError, NotThereError
from ..gan.published import Published
from ..pictures.tiles import tile, tile_size
from ..provenance.history import PastRun, find_run
from ..services.tracking.named_model import named_model
from ..services.tracking.runs import flat
from ..workspace.artifacts import Model
from ..workspace.params import Params
from ..workspace.scores import Scores
from ..workspace.workspace import Workspace
from .html import image_uri, to_html
from .scores import ScoreRow, score_rows

# Classes that are shown, and pictures of each by either model.
CLASSES, PICTURES, FIRST_SEED = 10, 5, 1
# The longer side of each, in pixels.
SIDE = 112


class Side(NamedTuple):
    """One of the two, and its networks where they are still there."""

    run: PastRun
    model: Published | None

    @classmethod
    def of(cls, wanted: str, workspace: Workspace) -> Side:
        """Return what `wanted` names: see `find_run`; or the model of another workspace, by its folder.

        Raises:
            NotThereError: there is none.
            UnreachableError: the registry does not answer.
        """
        folder = Path(wanted).expanduser()
        if folder.is_dir() and ((folder / "params.yaml").exists() or (folder / "artifacts").exists()):
            workspace, wanted = Workspace(folder.absolute()), "workspace"
        name = Params.load(workspace.params).register.name if workspace.params.exists() else "ganflow"
        run = find_run(wanted, name, workspace)
        return cls(run, _networks(run, name, workspace))


class Difference(NamedTuple):
    """A parameter or a fact that is not the same."""

    name: str
    a: str
    b: str


class ScorePair(NamedTuple):
    """A score of both, in words, and whether chance explains the difference."""

    title: str
    name: str
    better: str
    a: str
    b: str
    real: str
    difference: str


class Comparison(NamedTuple):
    """All that is said of two models."""

    a: Side
    b: Side
    differences: Sequence[Difference]
    scores: Sequence[ScorePair]
    remarks: Sequence[str]

    @classmethod
    def of(cls, a: Side, b: Side) -> Comparison:
        """Compare two models."""
        remarks = list(_remarks(a.run, b.run))
        comparable = a.run.feature_net == b.run.feature_net and a.run.holdout == b.run.holdout
        return cls(a, b, list(_differences(a.run, b.run)), list(_scores(a.run, b.run, comparable)), remarks)

    def described(self) -> dict[str, Any]:
        """Return it for programs."""
        sides = {"a": self.a.run.model_dump(mode="json"), "b": self.b.run.model_dump(mode="json")}
        return sides | {
            "differences": [each._asdict() for each in self.differences],
            "scores": [each._asdict() for each in self.scores],
            "remarks": [*self.remarks],
        }


def page(compared: Comparison) -> str:
    """Return the page, with pictures of both at the same seeds."""
    rows, missing = _pictures(compared)
    return to_html("comparison.html.jinja", compared=compared, rows=rows, missing=missing, first_seed=FIRST_SEED)


def _networks(run: PastRun, name: str, workspace: Workspace) -> Published | None:
    """Return the networks of a training: of its version, or those that lie in the workspace."""
    own = [version for version in run.versions if version.name == name]
    for wanted in [str(version.version) for version in own] or ["workspace"]:
        try:
            if wanted == "workspace" and Model.load(workspace.model).key.id != run.key:
                return None
            return named_model(wanted, name, workspace).published
        except (NotThereError, DamagedError):
            continue
    return None


def _differences(a: PastRun, b: PastRun) -> Iterator[Difference]:
    facts = (("data set", "data"), ("code", "commit"), ("images at the published state", "images"))
    for words, field in facts:
        left, right = getattr(a, field), getattr(b, field)
        if left != right:
            yield Difference(words, _text(left), _text(right))
    flat_a, flat_b = dict(flat(a.training)), dict(flat(b.training))
    for name in sorted(flat_a.keys() | flat_b.keys()):
        left, right = flat_a.get(name), flat_b.get(name)
        # What came from MLflow is text.
        if left != right and _text(left) != _text(right):
            yield Difference(f"train.{name}", _text(left), _text(right))


def _text(value: Any) -> str:
    if value is None:
        return "not known"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:59]}\u2026"


def _remarks(a: PastRun, b: PastRun) -> Iterator[str]:
    if a.key == b.key:
        yield "both are the same model"
    for words, field in (("feature nets", "feature_net"), ("held-out images", "holdout")):
        if getattr(a, field) != getattr(b, field):
            yield f"they were measured by different {words}: their scores say nothing of which is better"
    for side, run in (("A", a), ("B", b)):
        if not run.metrics:
            yield f"{side} has no scores: it was not evaluated"
        elif not run.intervals:
            yield f"intervals of {side} are not known: the ledger of this workspace does not have it"
    yield "scores are of each one's own evaluation; the gate (`ganflow promote`) compares on samples made for it alone"


def _scores(a: PastRun, b: PastRun, comparable: bool) -> Iterator[ScorePair]:
    rows_a, rows_b = ({row.name: row for row in score_rows(Scores.read(run.metrics, run.intervals))} for run in (a, b))
    for name in [*rows_a, *(name for name in rows_b if name not in rows_a)]:
        left, right = rows_a.get(name), rows_b.get(name)
        known = left or right
        assert known is not None
        yield ScorePair(
            known.title,
            name,
            known.better,
            _value(left),
            _value(right),
            known.real,
            _difference(left, right) if comparable and left and right else "",
        )


def _value(row: ScoreRow | None) -> str:
    if row is None:
        return "\u2013"
    return f"{row.value} ({' to '.join(row.interval)})" if row.interval else row.value


def _difference(a: ScoreRow, b: ScoreRow) -> str:
    """Say which is higher, where the intervals lie apart."""
    left, right = a.compared.score.interval, b.compared.score.interval
    if a.compared.score.value == b.compared.score.value:
        return "none"
    if left is None or right is None:
        return ""
    if left[1] < right[0]:
        return "B is higher"
    return "A is higher" if right[1] < left[0] else "may be chance"


def _pictures(compared: Comparison) -> tuple[list[dict[str, Any]], str]:
    """Return rows of pictures, a class in each, and what there is to say where one has none."""
    a, b = compared.a.model, compared.b.model
    if a is None or b is None:
        who = " and ".join(side for side, model in (("A", a), ("B", b)) if model is None)
        return [], f"no pictures of {who}: its networks are not kept, because it was not registered"
    if "generate" not in (a.task.name, b.task.name):
        return [], "no pictures side by side: models of image tasks make pictures of pictures; report.html shows theirs"
    if a.task.name != b.task.name:
        return [], "no pictures side by side: one of the two makes pictures of pictures"
    if a.image.classes != b.image.classes:
        return [], "no pictures side by side: the two models have other classes"
    classes = a.image.classes[:CLASSES]
    each = PICTURES if len(classes) > 1 else CLASSES
    labels = np.repeat(np.arange(len(classes)), each)
    seeds = range(FIRST_SEED, FIRST_SEED + len(labels))
    made = [[_inline(pixels) for pixels in model.sample(seeds, labels)] for model in (a, b)]
    return [
        {
            "name": name,
            **{side: pictures[at * each : (at + 1) * each] for side, pictures in zip("ab", made, strict=True)},
        }
        for at, name in enumerate(classes)
    ], ""


def _inline(pixels: Pixels) -> str:
    return image_uri(tile(pixels, tile_size(pixels, SIDE)))
