"""The vetoes of the gate for image tasks: what no perceptual distance makes up for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from ..gan.dataset import Split
from ..gan.sampling import conditions_of
from ..gan.schedules import at
from ..gan.tasks.options import Colorize, Inpaint
from ..measures.fidelity import luma, psnr
from ..workspace.measure_words import compared_by, plain
from ..workspace.params import Promote
from ..workspace.scores import Scores
from ..workspace.verdict import Check
from .task_contenders import TaskEvidence
from .task_evaluation import PART
from .vetoes import Veto, finite

# Grey levels by which rounding to whole levels of each colour changes brightness, at most.
ROUNDING = 1.0


def task_vetoes(options: Promote, evidence: TaskEvidence) -> Iterator[Check]:
    """Look for everything that no perceptual distance makes up for."""
    for veto in VETOES:
        yield from (found.check for found in veto(options, evidence))


def _baseline(options: Promote, evidence: TaskEvidence) -> Iterator[Veto]:
    name, distance = evidence.best
    own = evidence.kid_challenger
    what, best = compared_by(evidence.measure), plain(name)
    words = f"its {what} is {own:.4g}, that of {best}, the best without a network, {distance:.4g}"
    # As near is not nearer.
    yield Veto("baseline", words, own, at_most=math.nextafter(distance, -math.inf))


def _psnr(options: Promote, evidence: TaskEvidence) -> Iterator[Veto]:
    if evidence.champion is None:
        return
    own, champion = psnr(evidence.challenger.squared), psnr(evidence.champion.squared)
    way = " after the way back" if evidence.measure == "kid_wanted" else ""
    words = f"its PSNR{way} is {own:.2f} dB, the champion's {champion:.2f} dB"
    yield Veto("error of the champion", words, own, at_least=champion - options.max_psnr_loss)


def _smallest_error(options: Promote, evidence: TaskEvidence) -> Iterator[Veto]:
    """By the last scores before the discriminator began to work, of development images.

    Of those the curves know the network's own baseline alone. By how much the best baseline is above that, held-out
    images tell.
    """
    training = evidence.model.training
    if at(training.adversarial_weight, 0, training):
        return
    history = pd.read_csv(evidence.model.folder / "history.csv")
    scored = history.dropna(subset=["psnr"]) if "psnr" in history else history.head(0)
    resting = scored[[at(training.adversarial_weight, int(images), training) == 0 for images in scored["images"]]]
    if not len(resting):
        words = "not checked: no checkpoint was scored before the discriminator began to work (train.checkpoint_every)"
        yield Veto("smallest error", words, 0.0, at_least=0.0, tells=False)
        return
    last = resting.iloc[-1]
    scores = Scores.of(evidence.evaluation)
    own, *others = scores.baselines(next(scores.of_metric("psnr")).score)
    best = max((own, *others), key=lambda score: score.value)
    gain, wanted = float(last["psnr"] - last["baseline_psnr"]), best.value - own.value
    words = (
        f"after {int(last['images']):,} images, before the discriminator worked, its PSNR was {gain:+.2f} dB against "
        f"{plain(own.images)}, the best without a network ({plain(best.images)}) is {wanted:+.2f} dB"
    )
    yield Veto("smallest error", words, gain, at_least=wanted)


def _known_pixels(options: Promote, evidence: TaskEvidence) -> Iterator[Veto]:
    """By the pixels outside of holes; of colouring by the brightness, but for rounding."""
    task = evidence.model.training.task
    if not isinstance(task, Inpaint | Colorize):
        return
    seeds = pd.read_csv(evidence.evaluation.folder / "samples.csv")["seed"].to_numpy(np.int64)[evidence.at]
    samples = np.load(evidence.evaluation.folder / "samples.npy", mmap_mode="r", allow_pickle=False)
    holdout, changed, known = Split(evidence.dataset.folder, "holdout", evidence.dataset.image), 0, 0
    for start in range(0, len(seeds), PART):
        part = slice(start, start + PART)
        originals, made = holdout.pixels(evidence.rows[part]), np.asarray(samples[evidence.at[part]])
        if isinstance(task, Inpaint):
            given = conditions_of(evidence.task, holdout, evidence.rows[part], seeds[part].tolist())
            keep = given[:, -1].numpy() == 0
            other = (made != originals).any(3)
        else:
            keep = np.ones(made.shape[:3], bool)
            other = np.abs(luma(made) - np.rint(luma(originals)))[..., 0] > ROUNDING
        changed, known = changed + int((other & keep).sum()), known + int(keep.sum())
    what = "pixels outside of the holes are others" if isinstance(task, Inpaint) else "pixels have another brightness"
    words = f"{changed:,} of {known:,} {what} than given"
    yield Veto("known pixels", words, changed / max(known, 1), at_most=options.max_known_changed)


def _unseen(options: Promote, evidence: TaskEvidence) -> Iterator[Veto]:
    """By how many held-out files are left to compare on, without those that one of both has seen."""
    files, least = evidence.files, options.min_unseen_files
    who = "neither has" if evidence.champion else "it has not"
    words = f"{files:,} held-out files are such as {who} seen"
    if evidence.unseen.unsure:
        words += f" ({evidence.unseen.unsure})"
    if files >= least:
        yield Veto("unseen files", words, files, at_least=least)
    else:
        words += f", too few to tell by: {least:,} at least (more pictures, or a larger preprocess.holdout)"
        yield Veto("unseen files", words, files, at_least=0, tells=False)


VETOES: tuple[Callable[[Promote, TaskEvidence], Iterator[Veto]], ...] = (
    finite,
    _baseline,
    _psnr,
    _smallest_error,
    _known_pixels,
    _unseen,
)
