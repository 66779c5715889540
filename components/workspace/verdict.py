"""What the gate answers about a challenger, with all that it rests on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from ..gan.options import Options
from .artifacts import Registration
from .measure_words import Measure, compared_by
from .workspace import Workspace


def _later(description: str) -> Any:
    """Return a field that earlier verdicts lack, and that is not written where there is nothing to say."""
    return Field(None, exclude_if=lambda value: value is None, description=description)


class Check(Options):
    """One veto: what was looked at, and whether the challenger passed."""

    # Values that are not finite are kept: they are what one of the checks looks for.
    model_config = ConfigDict(ser_json_inf_nan="strings")

    name: str = Field(description="such as `finite`, `classes`, `recall of the champion`, `copying by pixels`")
    words: str = Field(description="half a sentence on what was found")
    value: float
    threshold: float
    passed: bool
    # What came later is left out where it says nothing new: earlier verdicts are then written as they were.
    tells: bool = Field(
        True,
        exclude_if=bool,
        description="false: it could not have seen what it looks for, so that it passed says nothing",
    )

    @property
    def result(self) -> Literal["passed", "VETO", "UNSURE"]:
        """The outcome in a word."""
        return "VETO" if not self.passed else "passed" if self.tells else "UNSURE"


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
    low: float = Field(
        description="what the improvement is at least, with a confidence of 1 - alpha over all looks at this pair"
    )
    high: float = Field(description="what it is at most, with the same confidence")
    margin: float = Field(description="least improvement that counts")
    alpha: float
    kid_challenger: float = Field(description="of its samples to the holdout, a mean over feature nets")
    kid_champion: float | None
    floor: float = Field(description="KID of real images")
    samples: int
    needed: int | None = Field(description="samples that would be enough, where it abstained")
    feature_net: str = Field(description="hash of its weights")
    net_name: str
    holdout: str = Field(description="hash of the holdout's images and labels")
    checks: tuple[Check, ...]
    accepted: str | None = Field(
        None,
        exclude_if=lambda reason: reason is None,
        description="why the user lets the scores decide although a check could not tell",
    )
    # What a verdict with a champion says since confidence holds over all looks.
    surely: float | None = _later(
        "what the improvement is at least, by a bound that holds for all looks at the holdout"
    )
    nets: int | None = _later("feature nets whose KIDs were averaged")
    error_by_samples: float | None = _later("standard error of the improvement that is owed to the choice of samples")
    error_by_held: float | None = _later("that is owed to the choice of held-out images")
    error_by_nets: float | None = _later("that is owed to the seeds of feature nets; None where there is one net alone")
    look_at_pair: int | None = _later("number of this look among those at this pair of models")
    look_at_holdout: int | None = _later("number of this look among those at this holdout, whoever was compared")
    power: float | None = _later("probability of promotion if the challenger's KID were lower by a third")
    power_needed: int | None = _later("samples with which that would be 90 %; None where no number is enough")
    # Of image tasks.
    measure: Measure | None = _later(
        "what was compared in place of KID to the training images: perceptual distances to originals, or KID to the "
        "classes wanted where there are none, on as many held-out files as `samples`; "
        "the floor is then that of the best baseline, and power that of a distance lower by a twentieth"
    )
    baseline: str | None = _later("which is the best that is made of the same inputs without a network")

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.passed)

    @property
    def unsure(self) -> tuple[Check, ...]:
        """Those checks that passed without having been able to fail, unless the user has accepted that."""
        return () if self.accepted else tuple(check for check in self.checks if check.result == "UNSURE")

    @property
    def copying(self) -> tuple[Check, ...]:
        """Those checks that look for copies of training images."""
        return tuple(check for check in self.checks if check.name.startswith("copying"))

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
    def distance(self) -> str:
        """What was compared, in words."""
        return compared_by(self.measure)

    @property
    def command(self) -> str | None:
        """What would let an undecided gate decide."""
        if self.answer == "abstain" and self.unsure:
            return "ganflow promote --accept REASON"
        # Of an image task it takes more files, which no command brings.
        if self.needed is None or self.measure is not None:
            return None
        return f"ganflow promote --set promote.samples={self.needed}"

    @property
    def power_words(self) -> str | None:
        """How likely a much better challenger would have been seen, in half a sentence, and what would raise that."""
        if self.power is None:
            return None
        if self.measure is not None:
            words = f"a {self.distance} lower by 5% would have been promoted with a probability of {self.power:.0%}"
            if self.power_needed == self.samples:
                return words
            enough = (
                "no number of files is enough" if self.power_needed is None else f"it takes {self.power_needed:,} files"
            )
            return f"{words}, for 90% {enough} (preprocess.holdout)"
        words = f"a KID lower by a third would have been promoted with a probability of {self.power:.0%}"
        if self.power_needed == self.samples:
            return words
        if self.power_needed is None:
            # What is left by ever so many samples.
            nets = (
                ""
                if not self.error_by_nets or self.error_by_nets < (self.error_by_held or 0.0)
                else (", or more feature nets (promote.feature_nets)")
            )
            return f"{words}; for 90% it takes more held-out images (preprocess.holdout){nets}"
        return f"{words}, for 90% it takes {self.power_needed:,} samples (promote.samples)"

    @classmethod
    def last(cls, folder: Path, name: str, version: int) -> Verdict | None:
        """Return the verdict in `folder`, if it is on this version of this model."""
        try:
            verdict = cls.model_validate_json((folder / "verdict.json").read_text())
        except (OSError, ValueError):
            return None
        return verdict if (verdict.name, verdict.challenger) == (name, version) else None

    @classmethod
    def of(cls, workspace: Workspace) -> Verdict | None:
        """Return the verdict on the version that is registered."""
        registration = Registration.load(workspace.registration)
        return cls.last(workspace.verdict, registration.name, registration.version)
