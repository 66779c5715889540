"""The gate: whether a challenger becomes champion, by evidence on images that neither was trained on.

Not a stage: what it finds depends on who is champion, so it lies in `mlruns/verdict`, outside of what DVC versions.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from .evaluation import reference
from .evaluation.contenders import Contender, Labels, sample_champion, shown_on_the_page
from .evaluation.gate import Decision, decide
from .evaluation.vetoes import vetoes
from .gan.dataset import Split
from .gan.distances import Features, kernel_distance
from .gan.errors import UserError
from .gan.features import FeatureNet, feature_net
from .reports import cards
from .reports.verdict_page import render
from .services.tracking import champions
from .services.tracking.registry import ModelVersion
from .workspace.artifacts import Dataset, Evaluation, Model, Registration
from .workspace.files import staging
from .workspace.params import Promote
from .workspace.verdict import Check, Verdict
from .workspace.workspace import Workspace


def promote(
    options: Promote,
    registration: Registration,
    model: Model,
    evaluation: Evaluation,
    dataset: Dataset,
    workspace: Workspace,
) -> Verdict:
    """Compare the registered `model` with the champion, make it champion if it is better, and write down why.

    Raises:
        UserError: the champion makes other images or was taken away meanwhile, or the registry cannot be reached.
    """
    name, version = registration.name, registration.version
    champion = champions.champion(name, workspace)
    crowned = champion is not None and champion.version == version
    if crowned:
        if known := Verdict.last(workspace.verdict, name, version):
            cards.attach(workspace)
            return known
        # It is the workspace's model again, after another one was judged.
        champion = None
    training = Split(dataset.folder, "training", dataset.image)
    judge = feature_net(training, dataset.content, workspace.state / "features")
    table = pd.read_csv(evaluation.folder / "samples.csv")
    labels: Labels = table["label"].to_numpy(np.int64, copy=True)
    seeds = range(int(table["seed"].iloc[0]), int(table["seed"].iloc[-1]) + 1)
    held: Features = np.load(evaluation.folder / "holdout.npy", allow_pickle=False).astype(np.float64)
    shown = np.load(evaluation.folder / "samples.npy", mmap_mode="r", allow_pickle=False)
    challenger = Contender(
        np.load(evaluation.folder / "features.npy", allow_pickle=False).astype(np.float64),
        np.asarray(shown[shown_on_the_page(labels)]),
        np.load(evaluation.folder / "training_images.npy", allow_pickle=False),
    )
    rival = None
    if champion is not None:
        rival = sample_champion(champion, judge, model.image, seeds, labels, workspace)
    checks = tuple(vetoes(options, model, evaluation, challenger, rival, judge, dataset))
    verdict = _concluded(options, registration, champion, challenger, rival, held, labels, judge, evaluation, checks)
    if crowned:
        verdict = verdict.model_copy(update={"answer": "promote", "reason": "it is the champion already"})
    elif verdict.answer == "promote" and champions.was_rolled_back(name, version, workspace):
        verdict = verdict.model_copy(
            update={"answer": "keep", "reason": f"version {version} was rolled back by `ganflow rollback`"}
        )
    if (
        verdict.answer == "promote"
        and not crowned
        and not champions.set_champion(name, version, verdict.champion, workspace)
    ):
        raise UserError(f"another version of {name} became champion meanwhile: run `ganflow promote` again")
    history = champions.history(name, workspace)
    pictures = challenger.shown, None if rival is None else rival.shown
    page = render(
        verdict, pictures, [model.image.classes[label] for label in labels[shown_on_the_page(labels)]], history
    )
    with staging(workspace.verdict) as folder:
        (folder / "verdict.json").write_text(verdict.model_dump_json(indent=2) + "\n")
        (folder / "verdict.html").write_text(page, encoding="utf-8")
    if verdict.answer == "promote":
        reference.keep_reference(dataset, judge, held, workspace)
    cards.attach(workspace)
    return verdict


def _concluded(
    options: Promote,
    registration: Registration,
    champion: ModelVersion | None,
    challenger: Contender,
    rival: Contender | None,
    held: Features,
    labels: Labels,
    judge: FeatureNet,
    evaluation: Evaluation,
    checks: tuple[Check, ...],
) -> Verdict:
    kid = kernel_distance(challenger.features, held)
    found = Decision("promote", 0.0, 0.0, 0.0, 0.0)
    reason = "it is the first that passes the checks"
    kid_champion = None
    if champion is not None and rival is not None:
        kid_champion = kernel_distance(rival.features, held)
        found = decide(challenger.features, rival.features, held, labels, options.margin, options.alpha)
        both = f"its KID is {kid:.4g}, that of version {champion.version} {kid_champion:.4g}"
        reason = {
            "promote": f"{both}: better by more than the margin of {found.margin:.3g}, and not by luck",
            "keep": f"{both}: not better by the margin of {found.margin:.3g}",
            "abstain": f"{both}: too few to tell whether that is more than the margin of {found.margin:.3g}; "
            + (
                f"about {found.needed:,} samples would do (evaluate.samples)"
                if found.needed
                else f"{len(held):,} held-out images cannot tell so small a difference"
            ),
        }[found.answer]
    if failed := [check for check in checks if not check.passed]:
        found = found._replace(answer="keep", needed=None)
        reason = "; ".join(check.words for check in failed)
    return Verdict(
        name=registration.name,
        challenger=registration.version,
        challenger_key=registration.model_key,
        champion=champion.version if champion else None,
        champion_key=champion.key if champion else None,
        answer=found.answer,
        reason=reason,
        improvement=found.improvement,
        low=found.low,
        high=found.high,
        margin=found.margin,
        alpha=options.alpha,
        kid_challenger=kid,
        kid_champion=kid_champion,
        floor=kernel_distance(judge.real, held),
        samples=len(challenger.features),
        needed=found.needed,
        feature_net=judge.sha256,
        net_name=judge.name,
        holdout=evaluation.holdout,
        checks=checks,
    )
