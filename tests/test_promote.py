"""The gate: what it answers, and that the registry does what it said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from components.evaluation import gate, looks
from components.evaluation.contenders import Evidence, load_rival
from components.gan.errors import UserError
from components.services.tracking import champions, registry
from components.workspace.artifacts import Dataset, Evaluation, Model, Registration
from components.workspace.params import Promote
from components.workspace.verdict import Verdict
from components.workspace.workspace import Workspace
from tests.conftest import ganflow, refused, succeeded


@pytest.fixture(scope="module")
def judged(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose version 1 is champion, and that trained a second model since. To be copied, not changed."""
    root = tmp_path_factory.mktemp("judged") / "copy"
    shutil.copytree(finished, root)
    params = root / "params.yaml"
    params.write_text(params.read_text().replace("images: 4096", "images: 12288"))
    for stage in ("train", "evaluate", "postprocess", "register"):
        succeeded(ganflow(root, stage))
    return root


@pytest.fixture
def own(judged: Path, tmp_path: Path) -> Path:
    """A copy of `judged` to be changed."""
    return Path(shutil.copytree(judged, tmp_path / "own"))


def test_the_first_is_champion_and_stays_so(judged: Path, finished: Path) -> None:
    verdict = Verdict.last(Workspace(finished).verdict, "ganflow", 1)
    assert verdict is not None
    assert (verdict.answer, verdict.champion) == ("promote", None)
    assert all(check.passed for check in verdict.checks)
    assert registry.aliases("ganflow", 1, Workspace(judged)) == ["champion"]
    assert registry.aliases("ganflow", 2, Workspace(judged)) == ["challenger"]


def test_a_better_model_is_promoted_once_and_rolled_back_once(own: Path) -> None:
    workspace = Workspace(own)
    out = succeeded(ganflow(own, "promote"))
    assert "ganflow version 2: promote" in out
    verdict = json.loads((workspace.verdict / "verdict.json").read_text())
    assert verdict["low"] > verdict["margin"] > 0
    assert (verdict["nets"], verdict["samples"], verdict["look_at_pair"], verdict["look_at_holdout"]) == (2, 500, 1, 1)
    assert verdict["surely"] > 0 and verdict["error_by_nets"] > 0
    assert verdict["kid_challenger"] < verdict["kid_champion"]
    assert registry.aliases("ganflow", 2, workspace) == ["challenger", "champion"]
    assert succeeded(ganflow(own, "promote")) == out
    assert len(champions.history("ganflow", workspace)) == 2

    assert "version 1 is champion again, instead of version 2" in succeeded(ganflow(own, "rollback"))
    assert "version 1 is champion again already" in succeeded(ganflow(own, "rollback"))
    assert registry.aliases("ganflow", 1, workspace) == ["champion"]
    # What was taken back does not come again by itself.
    assert "version 2: keep; version 2 was rolled back" in succeeded(ganflow(own, "promote"))
    assert [change.version for change in champions.history("ganflow", workspace)] == [1, 2, 1]


def test_a_veto_outweighs_a_better_score(own: Path) -> None:
    workspace = Workspace(own)
    out = succeeded(ganflow(own, "promote", "--set", "promote.min_recall=1"))
    assert "version 2: keep; the samples cover" in out
    assert "VETO     recall: " in out
    assert registry.aliases("ganflow", 1, workspace) == ["champion"]


def test_a_search_that_misses_planted_copies_is_no_pass(own: Path) -> None:
    """A champion stays; the first one needs someone who takes the responsibility, which overrules no veto."""
    workspace = Workspace(own)
    registration, model = Registration.load(workspace.registration), Model.load(workspace.model)
    evaluation, dataset = Evaluation.load(workspace.evaluation), Dataset.load(workspace.dataset)
    blind = evaluation.model_copy(update={"metrics": evaluation.metrics | {"copied_mirrored_pixels_32_canaries": 0.1}})
    options = Promote(min_class_share=0, min_recall=0, samples=200, feature_nets=1)
    alone = Evidence.gather(options, model, blind, dataset, None, workspace)
    verdict = gate.conclude(options, registration, None, alone)
    assert verdict.answer == "abstain"
    assert "mirrored ones 10%" in verdict.reason
    assert "ganflow promote --accept REASON" in verdict.reason
    assert [check.name for check in verdict.unsure] == ["copying by pixels"]
    accepted = gate.conclude(options, registration, None, alone, "looked at the pairs")
    assert (accepted.answer, accepted.accepted) == ("promote", "looked at the pairs")
    strict = gate.conclude(Promote(min_recall=1), registration, None, alone, "looked at the pairs")
    assert strict.answer == "keep"

    champion = champions.champion("ganflow", workspace)
    rival = Evidence.gather(options, model, blind, dataset, champion, workspace)
    kept = gate.conclude(options, registration, champion, rival)
    assert (kept.answer, kept.word) == ("keep", "Not promoted")
    assert "planted" in kept.reason


def test_the_first_champion_cannot_be_rolled_back(finished: Path) -> None:
    assert "there is no one before" in refused(finished, "rollback")


def test_a_champion_of_other_images_is_no_rival(finished: Path) -> None:
    workspace = Workspace(finished)
    champion, image = champions.champion("ganflow", workspace), Dataset.load(workspace.dataset).image
    assert champion is not None
    assert load_rival(champion, image).image == image
    for change in ({"width": 32}, {"classes": ("cat", "dog")}):
        with pytest.raises(UserError, match=r"give it another register\.name"):
            load_rival(champion, image.model_copy(update=change))


@pytest.mark.long
def test_what_the_champion_saw_refuses_no_challenger(finished: Path, tmp_path: Path) -> None:
    """The named finding: with another share held out no challenger was ever promoted, however much better it was."""
    root = Path(shutil.copytree(finished, tmp_path / "own"))
    params = root / "params.yaml"
    text = params.read_text().replace("resolution: 28", "resolution: 28, holdout: 0.45")
    params.write_text(text.replace("images: 4096", "images: 12288"))
    for stage in ("preprocess", "train", "evaluate", "postprocess", "register"):
        succeeded(ganflow(root, stage))
    told = succeeded(ganflow(root, "promote"))
    verdict = Verdict.last(Workspace(root).verdict, "ganflow", 2)
    assert verdict is not None
    assert (verdict.answer, verdict.champion) == ("promote", 1), told
    (check,) = (check for check in verdict.checks if check.name == "unseen")
    held, seen = (
        Dataset.load(root / "artifacts" / "dataset").splits["holdout"],
        np.load(next(root.glob("mlruns/artifacts/**/seen_identities.npy"))),
    )
    assert held * 0.3 < check.value < held * 0.6
    assert len(seen) > 500
    # The same champion, registered before images had identities: known by its pixels, and the verdict says so.
    for version in root.glob("mlruns/artifacts/**/seen_*.npy"):
        version.unlink()
    (root / "mlruns" / "verdict" / "verdict.json").unlink()
    succeeded(ganflow(root, "rollback"))
    succeeded(ganflow(root, "promote"))
    again = Verdict.last(Workspace(root).verdict, "ganflow", 2)
    assert again is not None
    (old,) = (check for check in again.checks if check.name == "unseen")
    assert old.value == check.value
    assert "what the champion saw is known by its processed pixels" in old.words
    # Where too few are left there is no telling.
    assert "VETO     unseen: " in succeeded(ganflow(root, "promote", "--set", "promote.min_unseen=2000"))


def test_the_same_evidence_is_the_same_look_and_other_evidence_has_other_seeds(own: Path) -> None:
    """A margin that nothing reaches leaves the champion, so that all of them look at one pair."""
    workspace, kept = Workspace(own), ("--set", "promote.margin=0.99")

    def verdict(*more: str) -> tuple[Verdict, bytes]:
        succeeded(ganflow(own, "promote", *kept, *more))
        return Verdict.of(workspace), (workspace.verdict / "verdict.json").read_bytes()  # type: ignore[return-value]

    (first, said), (_, again) = verdict(), verdict()
    assert said == again
    # Neither is a cache that is gone or damaged.
    for file in (workspace.state / "gate").glob("*.npz"):
        file.write_bytes(b"torn")
    assert verdict()[1] == said
    more, _ = verdict("--set", "promote.samples=600")
    assert [(v.look_at_pair, v.look_at_holdout, v.samples) for v in (first, more)] == [(1, 1, 500), (2, 2, 600)]
    one, other = looks.journal(workspace).records(looks.Look)
    assert one.first_seed != other.first_seed
    evaluated = range(1_000_000, 1_000_000 + 500)
    assert not {one.first_seed, other.first_seed} & {*evaluated}


def test_looks_that_were_removed_are_not_forgotten(own: Path) -> None:
    workspace = Workspace(own)
    succeeded(ganflow(own, "promote", "--set", "promote.margin=0.99"))
    (workspace.mlruns / looks.JOURNAL).unlink()
    assert "looks.jsonl is not what was written" in refused(own, "promote")
