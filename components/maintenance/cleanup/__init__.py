"""What lies in a workspace and nobody needs any more: found by what reaches what, removed only on request.

Registry, ledger, the workspace's own artifacts and parameters, and every git commit are the roots; what they do not
reach is not needed. Where one of them cannot be read, all that it may reach stays.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack

from ...gan.errors import UserError
from ...services import versioning
from ...services.tracking import inventory
from ...workspace.params import Clean, Params
from ...workspace.workspace import Workspace
from . import leftovers, state, stores
from .findings import Found
from .survey import Survey, unneeded


def cleanup(options: Clean, workspace: Workspace, remove: bool = False) -> Found:
    """List what nobody needs and is older than `options.keep_days`; `remove` it while the workspace is held.

    Raises:
        UserError: there are no parameters, or something cannot be removed.
        BusyError: it is to be removed, and another process holds the workspace.
    """
    with ExitStack() as held:
        if not remove:
            return _look(options, workspace, held, remove=False)
        # Whoever holds the workspace first removes them.
        staged = [item for item in leftovers.staged(workspace) if item.age >= options.keep_days]
        held.enter_context(workspace.exclusive())
        found = _look(options, workspace, held, remove=True)
        runs, models = (
            [item.path.name for item in found.items if item.kind == kind] for kind in ("MLflow runs", "MLflow models")
        )
        # Before their files: MLflow could restore a run without any otherwise.
        inventory.forget(runs, models, workspace)
        for item in found.items:
            leftovers.remove(item.path)
        return Found([*staged, *found.items], found.kept)


def _look(options: Clean, workspace: Workspace, held: ExitStack, remove: bool) -> Found:
    def dvc(survey: Survey) -> None:
        stores.dvc(survey, held.enter_context(versioning.own_cache(workspace, hold=remove)))

    looks: dict[str, Callable[[Survey], None]] = {
        "trainings": state.trainings,
        "preprocessing": state.preprocessing,
        "feature nets": state.features,
        "gate caches": state.gate,
        "drift references": state.drift,
        "inboxes": state.inboxes,
        "MLflow's runs and models": stores.mlflow,
        "data lists": state.data_lists,
        "DVC's cache": dvc,
        "leftovers": leftovers.leftovers,
    }
    survey = Survey(workspace, Params.load(workspace.params))
    kept: dict[str, list[str]] = defaultdict(list)
    for name, look in looks.items():
        before = {**survey.things}
        try:
            look(survey)
        except UserError as error:
            survey.things = before
            kept[str(error)].append(name)
    left = unneeded(survey.things, survey.edges, survey.roots)
    measured = {node: measure() for node, measure in survey.things.items() if node in left}
    young = {node for node, item in measured.items() if item.age < options.keep_days}
    left = unneeded(measured, survey.edges, young)
    items = [item for node, item in measured.items() if node in left]
    return Found(items, [f"kept ({', '.join(names)}): {reason}" for reason, names in kept.items()])
