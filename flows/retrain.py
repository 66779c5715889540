"""The scheduled flow: new data, parameters or code -> a challenger, and the gate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from prefect import flow, get_run_logger
from pydantic import Field, PositiveInt

from components.gan.errors import UserError
from components.gan.network_options import NETWORKS
from components.provenance import ledger
from components.services import versioning
from components.services.cluster import session
from components.services.tracking import connection
from components.training import begun
from components.workspace.graph import STAGES, plan
from components.workspace.params import Params
from components.workspace.presets import PRESETS
from components.workspace.presets import preset as preset_named
from components.workspace.workspace import Workspace
from flows import prefect_artifacts, stages
from flows.outcomes import Outcome
from flows.pipeline import last_verdict, run_stages
from flows.runs import named, state_of, turn

# What a list of the form says that leaves the choice to the workspace's file.
AS_IN_FILE = "params.yaml"
PresetChoice = Annotated[str, Field(json_schema_extra={"enum": [AS_IN_FILE, *PRESETS]})]
NetworkChoice = Annotated[str, Field(json_schema_extra={"enum": [AS_IN_FILE, *NETWORKS]})]


@flow(flow_run_name=named)
@state_of
def retrain(
    preset: PresetChoice = AS_IN_FILE,
    network: NetworkChoice = AS_IN_FILE,
    images: PositiveInt | None = None,
    params: Params | None = None,
    workspace: Path = Path(),
) -> Outcome:
    """Fetch new data, then run what changed since the last verdict.

    What is not chosen is as the workspace's params.yaml says.

    Args:
        preset: parameters that were measured on known data; `ganflow presets` shows them with their results
        network: the pair of networks, with the options of its paper; it takes the place of the preset's
        images: length of the training, in real images seen, 1 or more; None: as in params.yaml or by the preset
            (192,000 where neither says)
        params: all parameters at once, in place of params.yaml and of the choices above
        workspace: folder with params.yaml, data/ and the results, on the worker's machine
    """
    opened = Workspace(workspace.absolute())
    chosen = _chosen(preset, network, images, params, opened)
    with turn(opened):
        arrived = stages.data(chosen, opened)
        steps = plan(opened, chosen, connection.address())
        due = [step.stage.name for step in steps if step.reason]
        half = begun.unfinished(chosen, opened)
        if not half and not due and (judged := last_verdict(opened)):
            ledger.record(opened)
            message = f"Nothing new: data, parameters and code are those of {judged.name} version {judged.challenger}"
            outcome = Outcome("nothing new", message, ("nothing new",), verdict=judged)
            prefect_artifacts.result(outcome, (), {}, opened)
            return outcome
        if half or "train" in due:
            session.start()
        outcome = run_stages(chosen, opened, steps)
        as_in_file = params is None and (preset, network, images) == (AS_IN_FILE, AS_IN_FILE, None)
        if as_in_file and not half:
            try:
                get_run_logger().info("%s", versioning.record(opened, [stage.name for stage in STAGES]))
            except UserError as error:
                get_run_logger().warning("%s", error)
        return outcome._replace(message=f"{arrived}{outcome.message}")


def _chosen(preset: str, network: str, images: int | None, params: Params | None, workspace: Workspace) -> Params:
    """Return the parameters that the fields of the form mean together.

    Raises:
        UserError: they contradict each other, or the file cannot be read.
    """
    overrides = [] if network == AS_IN_FILE else [f"train.network={{name: {network}}}"]
    overrides += [] if images is None else [f"train.images={images}"]
    if params is None:
        return Params.load(workspace.params, overrides, None if preset == AS_IN_FILE else preset_named(preset))
    if overrides or preset != AS_IN_FILE:
        raise UserError("params takes the place of all other choices: leave preset, network and images as they are")
    return params
