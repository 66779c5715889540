"""The commands `ganflow runs` and `ganflow compare`: what was trained before, and how two models differ."""

from __future__ import annotations

import json
import re
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from components.provenance.history import PastRun, past_runs
from components.services.tracking import pages, runs
from components.workspace.files import disk_errors, write_whole
from components.workspace.scores import Scores
from components.workspace.text import printable
from components.workspace.workspace import Workspace
from flows.cli.data import shown
from flows.cli.shared import ExistingOption, JsonOption, check_servers, existing_workspace, typed

# What a run is known by in a line: the first of these that it has.
SHOWN = ("kid", "fd")


def list_runs(
    number: Annotated[int, typer.Option("--n", min=1, help="at most so many, the newest first")] = 10,
    folder: ExistingOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """List the last trainings with score, version and verdict."""
    found = list(islice(past_runs(existing_workspace(folder)), number))
    if as_json:
        print(json.dumps([run.model_dump(mode="json") for run in found], indent=2))
        return
    if not found:
        print("none yet: `ganflow run` makes the first")
    for run in found:
        print(printable(line_of(run)))


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="a version, run or workspace")],
    b: Annotated[str, typer.Argument(metavar="B", help="another one")],
    folder: ExistingOption = Path(),
    as_json: JsonOption = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="where the page goes; default: below .ganflow")
    ] = None,
) -> None:
    """Compare two models: parameters, scores, pictures at the same seeds.

    Each is a version's number, champion, challenger, workspace, the folder of a workspace, or a name or key that
    `ganflow runs` lists.
    """
    workspace = existing_workspace(folder)
    check_servers()
    from components.reports.comparison import Comparison, Side, page

    compared = Comparison.of(Side.of(a, workspace), Side.of(b, workspace))
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{compared.a.run.name}-{compared.b.run.name}")
    target = typed(html) if html else workspace.state / "comparisons" / f"{name}.html"
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, page(compared))
    if as_json:
        print(json.dumps({**compared.described(), "page": str(target)}, indent=2))
        return
    print(f"A  {compared.a.run.title}\nB  {compared.b.run.title}")
    for remark in compared.remarks:
        print(f"   {remark}")
    print("Differs" if compared.differences else "Data, code and parameters are the same")
    for each in compared.differences:
        print(f"  {each.name:<36} {each.a:<26} {each.b}")
    print("Scores (95 % intervals)")
    for score in compared.scores:
        print(f"  {score.name:<36} {score.a:<26} {score.b:<26} {score.difference}".rstrip())
    print(f"Page     {shown(target)}")
    if address := _in_mlflow(compared.a.run, compared.b.run, workspace):
        print(f"MLflow   {address}")


def line_of(run: PastRun) -> str:
    """Return what there is to know of a run, in a line."""
    when = (run.time or "")[:16].replace("T", " ")
    version = next(iter(run.versions), None)
    named = f"version {version.version} ({', '.join(version.aliases) or 'no alias'})" if version else "not registered"
    scores = Scores.read(run.metrics)
    shown_score = next((each for metric in SHOWN for each in scores.of_metric(metric) if each.floor), None)
    score = "not evaluated"
    if shown_score and shown_score.floor:
        score = f"{shown_score.score.name} {shown_score.score.value:.4g} (real {shown_score.floor.value:.4g})"
    return f"{when}  {run.name:<22}  {score:<44}  {named}, {run.verdict or 'not judged'}"


def _in_mlflow(a: PastRun, b: PastRun, workspace: Workspace) -> str | None:
    """Return where MLflow compares them, if its pages answer and hold both."""
    server = pages.server_of(workspace)
    if server is None or a.run is None or b.run is None or a.run == b.run:
        return None
    experiments = {runs.experiment_of(run, workspace) for run in (a.run, b.run)}
    experiment = experiments.pop() if len(experiments) == 1 else None
    return pages.comparison(server, experiment, (a.run, b.run)) if experiment else None
