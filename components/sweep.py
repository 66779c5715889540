"""A search over parameters of the training: trials by the same loop and score, the bad ones ended early.

No stage: nothing depends on its result, which the user takes over into params.yaml.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd
from pydantic import ValidationError
from tqdm import tqdm

from .gan.dataset import Split
from .gan.errors import DivergedError, UserError
from .gan.models import build
from .gan.options import Execution, Options, Ramp, Scheduled
from .measures.features import require_feature_net
from .reports.markdown import code
from .services import storage
from .services.cluster import placement, search, session
from .services.cluster.search import Row, TrialReport
from .services.tracking import live, runs
from .training import shared_data
from .training.scoring import resolve_precision, scored_training
from .training.worker import TrainingJob
from .workspace.artifacts import Dataset
from .workspace.feature_nets import load_feature_net
from .workspace.files import disk_errors, sync
from .workspace.graph import key_of, stage_named
from .workspace.params import Params, Resources, Train
from .workspace.params_file import as_yaml, rewritten
from .workspace.workspace import Workspace
from .workspace.yaml_text import read_yaml

# The present values first: what comes later has to beat them.
FACTORS = (1.0, 0.5, 2.0)
# Trials that the description of a sweep's run names.
NOTED = 20
# What changes where a training runs, and not its score.
_ELSEWHERE = tuple(f"train.{name}" for name in Resources.model_fields)

Values = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Trial:
    """One combination: the values that are tried, by their keys `train.r1_gamma`, and all options with them."""

    values: Values
    options: Train

    @property
    def name(self) -> str:
        return " ".join(f"{key.removeprefix('train.')}={as_yaml(value)}" for key, value in self.values.items())


class Result(Options):
    """How a trial ended. A failed one, whose process died, is tried again by the next sweep."""

    state: Literal["finished", "stopped", "diverged", "failed"]
    images: int
    history: list[Row]
    sweep: str

    @property
    def score(self) -> float:
        """The best of its checkpoints, which is what a training publishes; infinite if it would publish none."""
        scores = [row["score"] for row in self.history if "score" in row]
        return min(scores, default=math.inf) if self.state in ("finished", "stopped") else math.inf


class Outcome(NamedTuple):
    """A trial and what came of it."""

    trial: Trial
    result: Result


# --- which trials ---


def combinations(
    path: Path, overrides: Sequence[str], over: Sequence[str], images: int | None, count: int | None
) -> list[Trial]:
    """Return the trials over the parameters in the file `path`; of more than `count` the first and a random choice.

    Raises:
        UserError: a key or a value is not allowed.
    """
    changed = [*overrides, *([f"train.images={images}"] if images else [])]
    train = Params.load(path, changed).train
    choices = [parse(text) for text in over] if over else around(train)
    keys = [key for choice in choices for key in choice[0]]
    if doubled := next((key for key in keys if keys.count(key) > 1), None):
        raise UserError(f"--over {doubled} is given twice: list all of its values behind one --over")
    trials: dict[str, Trial] = {}
    for combination in itertools.product(*choices):
        values = {key: value for choice in combination for key, value in choice.items()}
        options = Params.load(path, [*changed, *words(values)]).train
        # 0 has no half, and 1 is 1.0.
        trials.setdefault(options.model_dump_json(), Trial(values, options))
    first, *others = trials.values()
    if count is not None and count <= len(others):
        chosen = sorted(random.Random(train.seed).sample(range(len(others)), count - 1))
        others = [others[i] for i in chosen]
    return [first, *others]


def parse(text: str) -> list[Values]:
    """Return the choices of `train.r1_gamma=0.5,1,2`; the values are YAML, and may be lists and mappings themselves.

    Raises:
        UserError: it is not written like that, or no parameter of the training.
    """
    key, _, listed = text.partition("=")
    try:
        values = read_yaml(f"[{listed}]")
    except ValueError:
        values = None
    if not values:
        raise UserError(f"--over {text}: write it as KEY=VALUE,VALUE, such as --over train.r1_gamma=0.5,1,2")
    if not key.startswith("train.") or key in _ELSEWHERE:
        raise UserError(f"--over {key}: only parameters of train that change its score can be searched over")
    return [{key: value} for value in values]


def around(train: Train) -> list[list[Values]]:
    """Half and double the gradient penalties that there are, and the same of both learning rates.

    Of an image task the weights of the adversarial loss and of the discriminator's layers instead, which trade errors
    for texture.
    """
    together: list[tuple[str, ...]] = [
        ("r1_gamma", "r2_gamma"),
        ("learning_rate_generator", "learning_rate_discriminator"),
    ]
    if train.task.name != "generate":
        together = [("adversarial_weight",), ("feature_weight",)]
    present = [[name for name in names if getattr(train, name)] for names in together]
    return [
        [{f"train.{name}": scaled(getattr(train, name), factor) for name in names} for factor in FACTORS]
        for names in present
        if names
    ]


def scaled(value: Scheduled, factor: float) -> Any:
    """`factor` times a value or both ends of its ramp, as params.yaml has it."""
    if not isinstance(value, Ramp):
        return value * factor
    ends = {"start": value.start * factor, "end": value.end * factor}
    return value.model_copy(update=ends).model_dump(mode="json", exclude_unset=True)


def words(values: Values) -> list[str]:
    """Return what stands behind `--set` to use these values."""
    return [f"{key}={as_yaml(value)}" for key, value in values.items()]


def write(path: Path, values: Values) -> None:
    """Put `values` into the file `path`, of which all else stays as it is.

    Raises:
        UserError: its form does not allow that, or it cannot be written.
    """
    staged = path.with_suffix(".tmp")
    with disk_errors(path):
        staged.write_bytes(rewritten(path.read_bytes().decode(), values).encode())
        staged.chmod(path.stat().st_mode)
        staged.replace(path)


# --- the search ---


def sweep(trials: Sequence[Trial], dataset: Dataset, workspace: Workspace, at_once: int | None) -> list[Outcome]:
    """Try all `trials` that are not done yet; the outcomes, best first.

    Raises:
        UserError: the networks cannot make such images, or there are too few processors.
        StoppedError: the user pressed Ctrl-C; what is done stays done.
    """
    require_feature_net(dataset.image)
    dataset.verified()
    for network, task in {(trial.options.network, trial.options.task) for trial in trials}:
        build(network, dataset.image, task)
    records = _Records(trials, dataset, workspace)
    if records.due:
        session.start()
        _search(records, dataset, workspace, at_once)
        session.release()
    outcomes = records.outcomes()
    records.log.close(table(outcomes).to_csv(index=False), note(outcomes))
    return outcomes


def table(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """Return a row for each outcome: score, state, images seen, and the values tried."""
    return pd.DataFrame(
        {"score": result.score, "state": result.state, "images": result.images}
        | {key: as_yaml(value) for key, value in trial.values.items()}
        for trial, result in outcomes
    )


def note(outcomes: Sequence[Outcome]) -> str:
    """Return what came of a sweep, in Markdown: the best trials, each in words that no value can break."""
    rows = [
        f"| {result.score:.4g} | {result.state} | {result.images:,} | `{code(trial.name)}` |"
        for trial, result in outcomes[:NOTED]
    ]
    more = f"\n\nand {len(outcomes) - NOTED} more in `results.csv`" if len(outcomes) > NOTED else ""
    head = f"{len(outcomes)} trials, the best first. The score is that of a training's checkpoints: lower is better."
    return "\n".join([head, "", "| Score | State | Images | Values |", "| --- | --- | --- | --- |", *rows]) + more


class _Records:
    """The trials, those that are done first, with their results on the disk and in MLflow."""

    def __init__(self, trials: Sequence[Trial], dataset: Dataset, workspace: Workspace) -> None:
        stage = stage_named("train")
        keys = {trial: key_of(stage, trial.options, dataset).id for trial in trials}
        self.sweep = hashlib.sha256("".join(sorted(keys.values())).encode()).hexdigest()[:16]
        self._files = {trial: workspace.state / "sweeps" / key / "result.json" for trial, key in keys.items()}
        self._keys = keys
        facts = runs.dataset_facts(
            dataset.image, dataset.splits["training"], dataset.splits["holdout"], dataset.content
        )
        self.log = live.SweepLog(workspace, self.sweep, trials[0].options.model_dump(mode="json"), facts)
        self.results = {trial: result for trial in trials if (result := self._found(trial))}
        self.due = [trial for trial in trials if trial not in self.results]
        self.trials = [*self.results, *self.due]
        for trial, result in self.results.items():
            self._log(trial, result)

    def _found(self, trial: Trial) -> Result | None:
        try:
            result = Result.model_validate_json(self._files[trial].read_bytes())
        except (OSError, ValidationError):
            return None
        # A trial is stopped early for being worse than the others of its sweep.
        return result if result.state != "stopped" or result.sweep == self.sweep else None

    def keep(self, trial: Trial, result: Result) -> None:
        self.results[trial] = result
        if result.state != "failed":
            file = self._files[trial]
            with disk_errors(file):
                file.parent.mkdir(parents=True, exist_ok=True)
                staged = file.with_suffix(".tmp")
                staged.write_text(result.model_dump_json())
                sync(file.parent)
                staged.replace(file)
            self._log(trial, result)

    def _log(self, trial: Trial, result: Result) -> None:
        self.log.add(self._keys[trial], trial.name, trial.options.model_dump(mode="json"), result.history)

    def outcomes(self) -> list[Outcome]:
        """Best first."""
        outcomes = [Outcome(trial, result) for trial, result in self.results.items()]
        return sorted(outcomes, key=lambda outcome: outcome.result.score)


class _Watch:
    """Hears of the trials in the process that started them: shows what happens, and keeps what is done."""

    def __init__(self, records: _Records, bar: tqdm[Any]) -> None:
        self._records, self._bar = records, bar
        self._results: dict[int, list[TrialReport]] = {}

    def reported(self, number: int, result: TrialReport) -> None:
        trial = self._records.trials[number]
        if trial in self._records.due:
            results = self._results.setdefault(number, [])
            self._bar.update(result["images"] - (results[-1]["images"] if results else 0))
            results.append(result)

    def ended(self, number: int, error: str | None) -> None:
        trial = self._records.trials[number]
        if trial not in self._records.due:
            return
        results = self._results.get(number, [])
        images = int(results[-1]["images"]) if results else 0
        reason = error or (results[-1].get("diverged") if results else "it reported nothing")
        state: Literal["finished", "stopped", "diverged", "failed"] = "failed"
        if not error and results:
            state = "diverged" if reason else "finished" if images >= trial.options.images else "stopped"
        history = [row for result in results for row in result.get("rows", ())]
        result = Result(state=state, images=images, history=history, sweep=self._records.sweep)
        self._records.keep(trial, result)
        if self._bar.total:
            # What the trial leaves undone is not waited for.
            self._bar.total -= max(0, trial.options.images - images)
        told = reason or f"score {result.score:.4g}"
        count = f"trial {len(self._records.results)} of {len(self._records.trials)}"
        self._bar.write(f"{count} {state} at image {images:,}, {trial.name}: {told}")


def _search(records: _Records, dataset: Dataset, workspace: Workspace, at_once: int | None) -> None:
    longest = max(trial.options.images for trial in records.trials)
    first = min(longest, *(trial.options.checkpoint_every for trial in records.trials))
    placed = placement.place(at_once or "auto", "--at-once")
    device = "a GPU" if placed.gpu else f"{placed.threads} CPU thread{'s' if placed.threads > 1 else ''}"
    early = f"the worse ones are stopped early, from image {first:,} on" if first < longest else "none is stopped early"
    print(f"{len(records.due)} trials of {longest:,} images, {placed.workers} at once on {device} each; {early}")
    placement.check_free(placed)
    uri = records.trials[0].options.storage
    if uri:
        shared_data.publish_dataset(dataset, storage.Storage(uri))
    else:
        placement.check_every_node_sees(dataset.folder.absolute())
        # Now, because trials beside each other would all make it.
        load_feature_net(
            Split(dataset.folder, "training", dataset.image), dataset.content, workspace.state / "features"
        )
    jobs = [_job(trial, records.results.get(trial), dataset, workspace, placed) for trial in records.trials]
    total = sum(trial.options.images for trial in records.due)
    with (
        tempfile.TemporaryDirectory(prefix="sweep-", dir=workspace.state) as scratch,
        tqdm(total=total, desc="sweep", unit="img", unit_scale=True, disable=None, leave=False) as bar,
    ):
        search.search(_trial, jobs, placed, (first, longest), Path(scratch), _Watch(records, bar))


class _Job(NamedTuple):
    """What a trial is told; `done`: the curves of one that need not be run again."""

    training: TrainingJob
    done: list[Row] | None


def _job(
    trial: Trial, done: Result | None, dataset: Dataset, workspace: Workspace, placed: placement.Placement
) -> _Job:
    precision = resolve_precision(trial.options, placed.gpu)
    device: Literal["cpu", "cuda"] = "cuda" if placed.gpu else "cpu"
    execution = Execution(workers=1, threads=placed.threads, device=device, precision=precision)
    training = TrainingJob.of(trial.options, execution, dataset, workspace)
    return _Job(training, done.history if done else None)


def _trial(trial: _Job) -> Iterator[TrialReport]:
    """In a process of Ray's: scores, each with the rows up to it. Those of a trial that is done measure the others."""
    if trial.done is not None:
        for row in trial.done:
            if "score" in row:
                yield {"images": int(row["images"]), "score": row["score"]}
        return
    job = trial.training
    os.environ.update(job.environment)
    dataset = job.load_dataset()
    rows: list[Row] = []
    images = 0
    try:
        for progress, row, _ in scored_training(job.options, dataset, job.execution, job.cache):
            images = progress.images
            if not math.isfinite(row.get("score", 0.0)):
                raise DivergedError(f"its images have no score at image {images}")
            rows.append(row)
            if "score" in row:
                yield {"images": images, "score": row["score"], "rows": rows}
                rows = []
    except DivergedError as error:
        yield {"images": images, "rows": rows, "diverged": str(error)}
