"""The gate: whether a challenger becomes champion, by evidence on images that neither was trained on.

Not a stage: what it finds depends on who is champion, so it lies in `mlruns/verdict`, outside of what DVC versions.
"""

from __future__ import annotations

from collections.abc import Sequence

from .evaluation import reference
from .evaluation.contenders import Evidence, shown_on_the_page
from .evaluation.gate import AnyEvidence, conclude
from .evaluation.given import keep_given
from .evaluation.task_contenders import TaskEvidence
from .gan.errors import UserError
from .provenance import ledger
from .reports import cards
from .reports.verdict_page import render, render_task
from .services.tracking import champions
from .workspace.artifacts import Dataset, Evaluation, Model, Registration
from .workspace.files import staging
from .workspace.params import Promote
from .workspace.verdict import Verdict
from .workspace.workspace import Workspace


def promote(
    options: Promote,
    registration: Registration,
    model: Model,
    evaluation: Evaluation,
    dataset: Dataset,
    workspace: Workspace,
    flow_run: str | None = None,
    accepted: str | None = None,
    feature_net: str = "auto",
) -> Verdict:
    """Compare the registered `model` with the champion, make it champion if it is better, and write down why.

    `flow_run` is Prefect's id of the run that asks. Asked again, it answers the same. `accepted`: why the user takes
    the responsibility for what a check could not tell; it overrules no veto. `feature_net`: that of the evaluation.

    Raises:
        UserError: the champion makes other images or was taken away meanwhile, or the registry cannot be reached.
    """
    name, version = registration.name, registration.version
    champion = champions.champion(name, workspace)
    is_champion = champion is not None and champion.version == version
    verdict = Verdict.last(workspace.verdict, name, version) if is_champion else None
    if verdict is None:
        # One that is champion already has no rival: it is the workspace's model again, after another one was judged.
        rival = None if is_champion else champion
        gather = Evidence.gather if model.training.task.name == "generate" else TaskEvidence.gather
        evidence = gather(options, model, evaluation, dataset, rival, workspace, feature_net)
        verdict = _decided(conclude(options, registration, rival, evidence, accepted), is_champion, workspace)
        _write(verdict, evidence, workspace)
    _follow_up(verdict, model, evaluation, dataset, workspace, flow_run)
    return verdict


def _decided(verdict: Verdict, is_champion: bool, workspace: Workspace) -> Verdict:
    """Return the verdict after it was carried out.

    Raises:
        UserError: another version became champion meanwhile.
    """
    name, version = verdict.name, verdict.challenger
    if is_champion:
        return verdict.model_copy(update={"answer": "promote", "reason": "it is the champion already"})
    if verdict.answer != "promote":
        return verdict
    if champions.was_rolled_back(name, version, workspace):
        reason = f"version {version} was rolled back by `ganflow rollback`"
        return verdict.model_copy(update={"answer": "keep", "reason": reason})
    if not champions.set_champion(name, version, verdict.champion, workspace):
        raise UserError(f"another version of {name} became champion meanwhile: run `ganflow promote` again")
    return verdict


def _write(verdict: Verdict, evidence: AnyEvidence, workspace: Workspace) -> None:
    """Keep the verdict, and the page that shows what it rests on."""
    page = _page(verdict, evidence, champions.history(verdict.name, workspace))
    with staging(workspace.verdict) as folder:
        (folder / "verdict.json").write_text(verdict.model_dump_json(indent=2) + "\n")
        (folder / "verdict.html").write_text(page, encoding="utf-8")


def _page(verdict: Verdict, evidence: AnyEvidence, history: Sequence[champions.Change]) -> str:
    if isinstance(evidence, TaskEvidence):
        return render_task(verdict, evidence.shown, history)
    labels = evidence.labels[shown_on_the_page(evidence.labels)]
    pictures = evidence.challenger.shown, None if evidence.champion is None else evidence.champion.shown
    classes = [evidence.model.image.classes[label] for label in labels]
    return render(verdict, pictures, classes, history)


def _follow_up(
    verdict: Verdict,
    model: Model,
    evaluation: Evaluation,
    dataset: Dataset,
    workspace: Workspace,
    flow_run: str | None,
) -> None:
    """Do what follows from a verdict, as far as an interrupted command has not done it."""
    if verdict.answer == "promote":
        reference.keep_reference(dataset, evaluation, workspace)
        keep_given(dataset, model.training.task, workspace)
    cards.attach(workspace)
    ledger.record(workspace, verdict, flow_run)
