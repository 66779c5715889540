"""The command `ganflow sweep`: which parameters to try, and what came out."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from components.gan.errors import UserError
from components.workspace.artifacts import Dataset
from components.workspace.params import Params
from components.workspace.workspace import Workspace
from flows.cli.data import shown
from flows.cli.shared import SetOption, WorkspaceOption, away, ready
from flows.runner import run_stage

if TYPE_CHECKING:
    from components.sweep import Outcome


def sweep(
    over: Annotated[
        list[str],
        typer.Option(
            "--over",
            metavar="KEY=VALUE,VALUE",
            help="values to try, all combinations of several: --over train.r1_gamma=0.5,1,2; default: half and double "
            "the gradient penalty and both learning rates, of an image task the adversarial and the feature weight",
        ),
    ] = [],  # noqa: B006 - typer copies it
    trials: Annotated[
        int | None, typer.Option(min=1, help="at most so many of the combinations: the first, and others by chance")
    ] = None,
    images: Annotated[int | None, typer.Option(min=1, help="length of a trial; default: train.images")] = None,
    at_once: Annotated[
        int | None,
        typer.Option(min=1, help="trials that run at the same time; default: one for each GPU, or each machine"),
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="put the best values into params.yaml")] = False,
    folder: WorkspaceOption = None,
    overrides: SetOption = [],  # noqa: B006
) -> None:
    """Search for better parameters.

    Trains with several, stops the worse trials early, and names the best by its score.
    """
    workspace, params = ready(folder, overrides)
    import components.sweep as search

    chosen = search.combinations(workspace.params, overrides, over, images, trials)
    with away(workspace):
        dataset = run_stage("preprocess", params, workspace)
        assert isinstance(dataset, Dataset)
        outcomes = search.sweep(chosen, dataset, workspace, at_once)
    _show(outcomes)
    best = outcomes[0]
    if not math.isfinite(best.result.score):
        raise UserError("no trial has a score: lower the learning rates or raise train.r1_gamma, and sweep again")
    if write:
        search.write(workspace.params, best.trial.values)
        _show_change(workspace, params, best.trial.values)
    else:
        print("Use the best by --set, or put it into params.yaml by the same command with --write:\n")
        print("  ganflow run " + " ".join(f"--set {shlex.quote(word)}" for word in search.words(best.trial.values)))


def _show(outcomes: Sequence[Outcome]) -> None:
    print("Score (lower is better)")
    for trial, result in outcomes:
        score = f"{result.score:12.5g}" if math.isfinite(result.score) else f"{'none':>12}"
        print(f"{score}   {result.state:<8} at {result.images:>11,}   {trial.name}")


def _show_change(workspace: Workspace, before: Params, values: Mapping[str, Any]) -> None:
    print(f"{shown(workspace.params)} now has")
    for key, value in values.items():
        old: Any = before.model_dump(mode="json")
        for name in key.split("."):
            old = old.get(name) if isinstance(old, dict) else None
        print(f"  {key}: {value}" + (f" (was {old})" if old != value else " (as before)"))
