"""From a picture back to the data that it was learned from."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..gan.errors import NotThereError, UnreachableError, UserError
from ..gan.options import ImageFormat
from ..services.tracking import champions, connection, registry
from ..workspace.artifacts import Dataset, Evaluation
from ..workspace.files import sha256_of
from ..workspace.workspace import Workspace
from .ledger import Entry, Ledger, pixels_of

if TYPE_CHECKING:
    from PIL import Image

    from ..gan.dataset import Pixels
from .queries import data_of, head_of, last_entry, model_key_of, parent_of, picture_count

MAX_PIXELS = 89_478_485
NEAREST = 5
_MARK = "ganflow:"


class _Picture(NamedTuple):
    """What a file says: its picture, and by name what ganflow wrote into it (`seed`, `model`, ...)."""

    image: Image.Image
    marks: Mapping[str, str]
    pixels: str


def trace(file: Path, workspace: Workspace) -> dict[str, Any]:
    """Trace the picture in `file` back to the data that its model was trained on.

    The keys are image, gallery, evaluation, model, version, run, params, commit and data; None where it is not known.

    It is found by its pixels, or else by what is written in it. `data.nearest` are the training images that are
    nearest to it, by root mean square of the difference in grey levels, where `artifacts/dataset` is still that data
    set; the model's own sample is compared where `artifacts/evaluation` still has it, else the picture, reduced.

    Raises:
        NotThereError: there is no such file, or the ledger knows nothing of it.
        DamagedError: `artifacts/dataset` or `artifacts/evaluation` is damaged.
        UserError: it is no picture.
    """
    picture = _read(file)
    entries = Ledger(workspace).entries()
    gallery, described, found_by = _in_galleries(picture, entries)
    model = parent_of(entries, gallery, "model") if gallery else None
    if model is None and "model" in picture.marks:
        model = last_entry(entries, "model", picture.marks["model"])
        found_by = "marks"
    if model is None:
        raise _unknown(file, picture, workspace)
    evaluation = parent_of(entries, gallery, "evaluation") if gallery else None
    if evaluation is None and "evaluation" in picture.marks:
        evaluation = last_entry(entries, "evaluation", picture.marks["evaluation"])
    dataset = parent_of(entries, model, "dataset")
    versions = _versions(model, entries, workspace)
    chain = {"dataset": dataset, "model": model, "evaluation": evaluation, "gallery": gallery}
    seed = described.get("seed", picture.marks.get("seed"))
    found: dict[str, Any] = {
        "image": {
            "file": str(file),
            "sha256": sha256_of(file),
            "pixels": picture.pixels,
            "width": picture.image.width,
            "height": picture.image.height,
            "found_by": found_by,
            "seed": int(seed) if seed is not None and str(seed).isdecimal() else None,
            "class": described.get("label", picture.marks.get("class")),
            "steps": described.get("steps", [s for s in picture.marks.get("steps", "").split(", ") if s]),
        },
        "gallery": gallery and head_of(gallery) | {"file": described.get("file"), "pictures": picture_count(gallery)},
        "evaluation": evaluation and head_of(evaluation) | {"metrics": evaluation.facts["metrics"]},
        "model": head_of(model)
        | {"network": model.facts["training"]["network"]["name"]}
        | {name: model.facts[name] for name in ("images", "score", "generator_parameters", "execution", "cost")},
        "version": versions[0] | {"others": versions[1:]} if versions else None,
        "run": {
            "mlflow": versions[0]["run"] if versions else model.facts["run_id"],
            "prefect": {name: entry.flow_run for name, entry in chain.items() if entry and entry.flow_run} or None,
        },
        "params": {"train": model.facts["training"], "image": model.facts["image"]},
        "commit": model.facts["commit"] or (versions[0]["commit"] if versions else None),
        "data": dataset and data_of(dataset),
    }
    if dataset and found["data"]:
        found["data"]["nearest"] = _nearest(picture, found["image"]["seed"], dataset, evaluation, workspace)
    return found


def _read(file: Path) -> _Picture:
    from PIL import Image

    if not file.is_file():
        raise NotThereError(f"there is no picture {file}: name a file")
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(file) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UserError(f"{file} has more than {MAX_PIXELS:,} pixels: ganflow makes no such pictures")
            image.load()
            # Whoever wrote them: nothing that a terminal takes for a command.
            marks = {
                name.removeprefix(_MARK): "".join(filter(str.isprintable, value))[:200]
                for name, value in image.info.items()
                if isinstance(name, str) and name.startswith(_MARK) and isinstance(value, str)
            }
            return _Picture(image.copy(), marks, pixels_of(image))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise UserError(f"{file} is not a picture that can be read: name a PNG that ganflow made") from None


def _in_galleries(picture: _Picture, entries: Sequence[Entry]) -> tuple[Entry | None, Mapping[str, Any], str]:
    """Return the gallery with the picture, what it says of it, and by what it was found: its pixels, or else its marks.

    Of several the one that it names, else the newest.
    """
    galleries = [entry for entry in reversed(entries) if entry.kind == "gallery"]
    galleries.sort(key=lambda entry: entry.key != picture.marks.get("gallery"))
    for gallery in galleries:
        for described in gallery.facts["pictures"]:
            if described["pixels"] == picture.pixels:
                return gallery, described, "pixels"
    marks = picture.marks
    for gallery in galleries:
        model = model_key_of(entries, gallery)
        if marks.get("gallery", gallery.key) != gallery.key or marks.get("model") != model:
            continue
        for described in gallery.facts["pictures"]:
            own = (str(described["seed"]), described["label"], ", ".join(described["steps"]))
            if own == (marks.get("seed"), marks.get("class"), marks.get("steps")):
                return gallery, described, "marks"
        if "gallery" in marks:
            return gallery, {}, "marks"
    return None, {}, "marks"


def _unknown(file: Path, picture: _Picture, workspace: Workspace) -> NotThereError:
    if "model" in picture.marks:
        return NotThereError(
            f"{file} says that model {picture.marks['model'][:40]} made it, which {workspace.root} does not know: name "
            "the folder where it was made by --workspace"
        )
    return NotThereError(
        f"{file} was not made in {workspace.root}, or was changed since: its pixels are in no gallery and nothing of "
        "ganflow is written in it; name another folder by --workspace, or the picture as it was made"
    )


def _nearest(
    picture: _Picture, seed: int | None, dataset: Entry, evaluation: Entry | None, workspace: Workspace
) -> list[dict[str, Any]] | None:
    try:
        present = Dataset.load(workspace.dataset)
    except NotThereError:
        return None
    if present.content != dataset.content:
        return None
    import numpy as np

    from ..gan.dataset import Split

    own = _sample(seed, evaluation, workspace)
    compared = _reduced(picture, present.image) if own is None else own
    if compared is None:
        return None
    flat = compared.reshape(1, -1).astype(np.float32)
    split = Split(present.folder, "training", present.image)
    distances = np.concatenate(
        [np.square(pixels.reshape(len(pixels), -1) - flat).mean(1) for pixels, _ in split.batches(1024)]
    )
    return [
        {
            "index": int(index),
            "class": present.image.classes[split.labels[index]],
            "distance": float(np.sqrt(distances[index])),
            "compared": "picture" if own is None else "sample",
        }
        for index in np.argsort(distances, kind="stable")[:NEAREST]
    ]


def _sample(seed: int | None, evaluation: Entry | None, workspace: Workspace) -> Pixels | None:
    """Return the model's sample (H, W, C) with this seed, before it was finished."""
    import numpy as np
    import pandas as pd

    try:
        present = Evaluation.load(workspace.evaluation)
    except NotThereError:
        return None
    if evaluation is None or present.content != evaluation.content:
        return None
    table = pd.read_csv(present.folder / "samples.csv")
    rows = np.flatnonzero(table["seed"] == seed)
    if not len(rows):
        return None
    sample: Pixels = np.load(present.folder / "samples.npy", mmap_mode="r", allow_pickle=False)[rows[0]]
    return sample


def _reduced(picture: _Picture, image: ImageFormat) -> Pixels | None:
    """Return the picture in the format of the training images (H, W, C), if a picture can show it."""
    import numpy as np
    from PIL import Image

    mode = {1: "L", 3: "RGB", 4: "RGBA"}.get(image.channels)
    if mode is None:
        return None
    small = picture.image.convert(mode).resize((image.width, image.height), Image.Resampling.LANCZOS)
    pixels: Pixels = np.asarray(small).reshape(image.shape)
    return pixels


def _versions(model: Entry, entries: Sequence[Entry], workspace: Workspace) -> list[dict[str, Any]]:
    """Each version of a model with its aliases now, the one that was registered last first."""
    found: dict[tuple[str, int, str], dict[str, Any]] = {}
    for entry in reversed(entries):
        if entry.kind == "registration" and entry.facts["model_key"] == model.key:
            facts = entry.facts
            name, number, where = facts["name"], int(facts["version"]), facts["tracking"]
            commit = facts.get("tags", {}).get("commit", "none")
            verdict = _verdict(entries, name, number)
            found.setdefault(
                (name, number, where),
                {
                    "name": name,
                    "version": number,
                    "aliases": _aliases(name, number, where, entries, workspace),
                    "tracking": where,
                    "run": facts.get("run_id"),
                    "commit": None if commit == "none" else commit,
                    "verdict": verdict and {name: verdict.facts[name] for name in ("answer", "reason", "champion")},
                    "time": entry.time,
                },
            )
    return list(found.values())


def _verdict(entries: Sequence[Entry], name: str, version: int) -> Entry | None:
    """Return the last that the gate said of a version."""
    judged = (e for e in reversed(entries) if e.kind == "verdict" and e.facts["name"] == name)
    return next((entry for entry in judged if entry.facts["challenger"] == version), None)


def _aliases(name: str, version: int, where: str, entries: Sequence[Entry], workspace: Workspace) -> list[str]:
    """By the registry where there is one, else by the journal of champions and by what was registered last."""
    if where != connection.address():
        return []
    if where != "embedded" or (workspace.mlruns / "mlflow.db").exists():
        with suppress(UnreachableError):
            return registry.aliases(name, version, workspace)
    last = [e.facts["version"] for e in entries if e.kind == "registration" and e.facts["name"] == name][-1]
    champion = champions.written_champion(name, workspace)
    return [alias for alias, number in (("challenger", last), ("champion", champion)) if number == version]


def _indices(nearest: Sequence[Mapping[str, Any]]) -> Any:
    import numpy as np

    return np.array([one["index"] for one in nearest])
