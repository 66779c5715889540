"""What is needed of `.ganflow`: trainings, feature nets and all that is kept to save time."""

from __future__ import annotations

from collections.abc import Iterable

from ...gan.errors import UserError
from ...ingest.inbox.bucket import folder_of
from ...services.tracking import champions
from ...training import begun
from ...workspace.artifacts import Model
from ...workspace.chosen_nets import hash_of_file, stem_of_own
from ...workspace.feature_nets import KINDS, stem_of
from ...workspace.graph import key_of, stage_named
from .survey import Survey, children


def trainings(survey: Survey) -> None:
    """Look at trainings: those of named versions, of the present model and of what is to go on are needed."""
    folder = survey.workspace.state / "training"
    if not (found := children(folder, survey.workspace)):
        return
    needed = {version.key for version in survey.aliased} | {_resumed(survey)}
    needed |= {waiting.key.id for waiting in begun.open_trainings(survey.params, survey.workspace)}
    if (survey.workspace.model / Model.manifest).exists():
        needed.add(Model.load(survey.workspace.model).key.id)
    # Whether it is champion elsewhere only the other server knows.
    needed |= {*survey.ledger.values("registered elsewhere")}
    known_keys = {version.key for version in survey.registry.versions}
    known_keys |= survey.ledger.named(training.name for training in found)
    survey.roots |= {f"training {key}" for key in needed}
    for training in found:
        key, node = training.name, f"training {training.name}"
        known = key in known_keys
        if known and (training / "checkpoints").exists():
            # Its curves and cost are what the ledger and `rebuild-registry` go back to.
            words = "checkpoints of a model that is neither champion nor challenger nor the present one"
            survey.add(node, training / "checkpoints", "trainings", words)
        elif not known and key != "ray":
            words = "neither the present parameters go on with it, nor did a known model come from it"
            survey.add(node, training, "trainings", words)
    for run in children(folder / "ray", survey.workspace):
        survey.edges[f"training {run.name}"].add(f"ray {run.name}")
        survey.add(f"ray {run.name}", run, "trainings", "what Ray noted of a training that is not needed")


def _resumed(survey: Survey) -> str:
    """Key of the training that the present parameters make or go on with."""
    if survey.dataset.key != survey.preprocessed:
        raise UserError("data, parameters or code changed since the last run: `ganflow run` tells which goes on")
    key = key_of(stage_named("train"), survey.params.train, survey.dataset)
    return begun.key_to_go_on_with(key, survey.params, survey.workspace).id


def preprocessing(survey: Survey) -> None:
    """Look at parts of data sets that are being made: those of the present data and parameters are needed."""
    if found := children(survey.workspace.state / "preprocess", survey.workspace):
        survey.roots.add(f"preprocessing {survey.preprocessed.id}")
        for scratch in found:
            words = "parts of a data set of other data or parameters"
            survey.add(f"preprocessing {scratch.name}", scratch, "preprocessing", words)


def features(survey: Survey) -> None:
    """Look at feature nets: those of the data sets of the present model and of named versions are needed."""
    if not (found := children(survey.workspace.state / "features", survey.workspace)):
        return
    contents = {survey.dataset.content, *(version.data for version in survey.aliased)}
    survey.roots |= {f"features {stem_of(kind, content)}" for content in contents for kind in KINDS}
    if (own := survey.params.evaluate.feature_net).endswith(".onnx"):
        sha256 = hash_of_file(own, survey.workspace)
        survey.roots |= {f"features {stem_of_own(sha256, content)}" for content in contents}
    for file in found:
        # Nets of other seeds have its number behind the name.
        stem = "-".join(file.name.partition(".")[0].split("-")[:2])
        survey.edges[f"features {stem}"].add(f"features file {file.name}")
        words = "neither of the present data set nor of the champion's or challenger's"
        survey.add(f"features file {file.name}", file, "feature nets", words)


def gate(survey: Survey) -> None:
    """Look at samples of champions: those of the present one are needed.

    Files do not say whose they are, but each was made while the champion whose it is was champion.
    """
    if not (found := children(survey.workspace.state / "gate", survey.workspace)):
        return
    present = {version.name: version.number for version in survey.aliased if "champion" in version.aliases}
    nets = [
        survey.workspace.state / "features" / f"{stem_of(kind, survey.dataset.content)}.safetensors" for kind in KINDS
    ]
    judged = min((net.stat().st_mtime for net in nets if net.exists()), default=0.0)
    for file in found:
        made = file.stat().st_mtime
        changes = {name: _in_force(champions.newest_changes(name, survey.workspace), made) for name in present}
        if made >= judged and any(changes[name] in (present[name], None) for name in present):
            survey.roots.add(f"gate {file.name}")
        words = "samples of a former champion, or as a feature net of other data saw them"
        survey.add(f"gate {file.name}", file, "gate caches", words)


def inboxes(survey: Survey) -> None:
    """Look at copies of buckets' new files: those of the present inbox are needed."""
    inbox = survey.params.retrain.inbox
    present = folder_of(inbox, survey.workspace).name if inbox else None
    for folder in children(survey.workspace.state / "inbox", survey.workspace):
        if folder.name != present:
            survey.add(f"inbox {folder.name}", folder, "inboxes", "copies of a bucket that retrain.inbox does not name")


def drift(survey: Survey) -> None:
    """Look at what drift is compared with: the references of all versions' data are needed."""
    if found := children(survey.workspace.state / "drift", survey.workspace):
        # Of all versions, for each may become champion again, and that of lost data cannot be made again.
        contents = {survey.dataset.content, *(version.data for version in survey.registry.versions)}
        survey.roots |= {f"drift {content[:16]}" for content in contents}
        for folder in found:
            words = "neither of the present data set nor of a registered version's"
            survey.add(f"drift {folder.name}", folder, "drift references", words)


def data_lists(survey: Survey) -> None:
    """Look at lists of the data's files: those that the ledger names are needed."""
    found = {
        file.name.removesuffix(".sha256s"): file for file in children(survey.workspace.state / "data", survey.workspace)
    }
    if found:
        survey.roots |= {f"list {source}" for source in survey.ledger.named(found)}
        for source, file in found.items():
            words = "hashes of the files of a data version that no model came from"
            survey.add(f"list {source}", file, "data lists", words)


def _in_force(changes: Iterable[champions.Change], moment: float) -> int | None:
    """Tell which version was champion at a moment, by its changes, the newest first; None where that is not known."""
    return next((change.version for change in changes if change.seconds <= moment), None)
