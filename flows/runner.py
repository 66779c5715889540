"""A stage as all of its callers run it: the command line, and so DVC, and Prefect.

What is heavy is imported when it is run.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

from components.gan.options import ImageFormat
from components.provenance import ledger
from components.services.tracking import connection, registry
from components.training import begun
from components.workspace.artifacts import Artifact, Dataset, Evaluation, Key, Model, Registration
from components.workspace.data_hashes import data_content
from components.workspace.graph import Stage, files_named, key_of, stage_named
from components.workspace.params import Params
from components.workspace.verdict import Verdict
from components.workspace.workspace import Workspace


class Work(NamedTuple):
    """A stage with all that it takes to run it."""

    stage: Stage
    params: Params
    inputs: tuple[Artifact | str, ...]
    key: Key
    workspace: Workspace

    @classmethod
    def of(cls, name: str, params: Params, workspace: Workspace) -> Work:
        """Return what the stage with this name has to do, by the artifacts that lie in the workspace.

        Raises:
            UserError: one of its inputs is missing or damaged.
        """
        stage, options = stage_named(name), getattr(params, name)
        # They are looked for before the data set that they need may be replaced.
        begun.open_trainings(params, workspace)
        inputs = tuple(_input(source, params, workspace) for source in stage.inputs)
        key = key_of(stage, options, *inputs, *files_named(options, workspace))
        if stage.artifact is Model and not stage.find(workspace, key):
            key = begun.key_to_go_on_with(key, params, workspace)
        return cls(stage, params, inputs, key, workspace)

    def done(self) -> Artifact | None:
        """Return the result, if it is there already."""
        found = self.stage.find(self.workspace, self.key)
        return found if found and _holds(found, self.workspace) else None

    def run(self, flow_run: str | None = None, **asked: Any) -> Artifact:
        """Make the result unless it is there, and write down in the ledger what came from what.

        `flow_run`: the id of Prefect's, where one calls. `asked`: what the stage is to do beside its result.

        Raises:
            UserError: what the stage raises.
        """
        made = self.done() or self._made(**asked)
        ledger.record(self.workspace, made, flow_run)
        return made

    def _made(self, **asked: Any) -> Artifact:
        if self.stage.artifact is Dataset:
            _check_size(self.params)
        verb = getattr(import_module(f"components.{self.stage.name}"), self.stage.name)
        made: Artifact = verb(getattr(self.params, self.stage.name), *self.inputs, self.key, self.workspace, **asked)
        return made


def run_stage(name: str, params: Params, workspace: Workspace, flow_run: str | None = None) -> Artifact:
    """Return the result of the stage with this name, made unless it is there.

    Raises:
        UserError: one of its inputs is missing or damaged, or what the stage raises.
    """
    return Work.of(name, params, workspace).run(flow_run)


def run_gate(params: Params, workspace: Workspace, flow_run: str | None = None, accepted: str | None = None) -> Verdict:
    """Return the gate's answer about the workspace's model; `accepted`: see `promote`.

    Raises:
        UserError: an artifact is missing, or what the gate raises.
    """
    from components.promote import promote

    registration, model = Registration.load(workspace.registration), Model.load(workspace.model)
    evaluation, dataset = Evaluation.load(workspace.evaluation), Dataset.load(workspace.dataset)
    options, net = params.promote, params.evaluate.feature_net
    return promote(options, registration, model, evaluation, dataset, workspace, flow_run, accepted, net)


def _check_size(params: Params) -> None:
    """Make sure that the networks can make images of the size that is asked for, before any is prepared.

    Raises:
        UserError: they cannot.
    """
    from components.training.publish import parameter_counts

    height, width = params.preprocess.shape
    # How many channels and classes there are only the data tell; whether a size can be made does not depend on them.
    image = ImageFormat(height=height, width=width, channels=3, classes=("one", "other"), paired=True)
    parameter_counts(params.train.network, image, params.train.task)


def _input(source: str, params: Params, workspace: Workspace) -> Artifact | str:
    if source == "data":
        return data_content(workspace.data, workspace.state, params.preprocess.follow_links)
    return stage_named(source).load(workspace)


def _holds(found: Artifact, workspace: Workspace) -> bool:
    """Whether what an artifact stands for is there too: of a registration the version in the registry."""
    if not isinstance(found, Registration):
        return True
    here = found.tracking == connection.address()
    return here and registry.is_registered(found.name, found.version, found.model_key, workspace)
