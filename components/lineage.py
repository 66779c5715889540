"""From a picture back to the data that it was learned from, and from data to all that came from it.

All of it is read from the ledger, so that it holds when artifacts and MLflow's database are gone.
"""

from __future__ import annotations

import base64
import io
import json
import mmap
import re
import textwrap
import warnings
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .gan.errors import UserError
from .gan.options import ImageFormat
from .ledger import Entry, Kind, Ledger, files_of, pixels_of
from .services import tracking
from .workspace.artifacts import Dataset, Evaluation, Model
from .workspace.files import sha256_of
from .workspace.workspace import Workspace

if TYPE_CHECKING:
    from PIL import Image

    from .gan.dataset import Pixels

MAX_PIXELS = 89_478_485
NEAREST = 5
SHORTEST_PREFIX = 6
_MARK = "ganflow:"


class _Picture(NamedTuple):
    """What a file says: its picture, and by name what ganflow wrote into it (`seed`, `model`, ...)."""

    image: Image.Image
    marks: Mapping[str, str]
    pixels: str


def trace(file: Path, home: Workspace) -> dict[str, Any]:
    """What the picture in `file` came from, by the keys image, gallery, evaluation, model, version, run, params, commit
    and data; None for what is not known.

    It is found by its pixels, or else by what is written in it. `data.nearest` are the training images that are
    nearest to it, by root mean square of the difference in grey levels, where `artifacts/dataset` is still that data
    set; the model's own sample is compared where `artifacts/evaluation` still has it, else the picture, reduced.

    Raises:
        UserError: it is no picture, or the ledger knows nothing of it.
    """
    picture = _read(file)
    entries = Ledger(home).entries()
    gallery, described, found_by = _in_galleries(picture, entries)
    model = _parent(entries, gallery, "model") if gallery else None
    if model is None and "model" in picture.marks:
        model = _last(entries, "model", picture.marks["model"])
        found_by = "marks"
    if model is None:
        raise _unknown(file, picture, home)
    evaluation = _parent(entries, gallery, "evaluation") if gallery else None
    if evaluation is None and "evaluation" in picture.marks:
        evaluation = _last(entries, "evaluation", picture.marks["evaluation"])
    dataset = _parent(entries, model, "dataset")
    versions = _versions(model, entries, home)
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
        "gallery": gallery and _head(gallery) | {"file": described.get("file"), "pictures": _count(gallery)},
        "evaluation": evaluation and _head(evaluation) | {"metrics": evaluation.facts["metrics"]},
        "model": _head(model)
        | {"network": model.facts["training"]["network"]["name"]}
        | {name: model.facts[name] for name in ("images", "score", "generator_parameters", "execution", "cost")},
        "version": versions[0] | {"others": versions[1:]} if versions else None,
        "run": {
            "mlflow": versions[0]["run"] if versions else model.facts["run_id"],
            "prefect": {name: entry.flow_run for name, entry in chain.items() if entry and entry.flow_run} or None,
        },
        "params": {"train": model.facts["training"], "image": model.facts["image"]},
        "commit": model.facts["commit"] or (versions[0]["commit"] if versions else None),
        "data": dataset and _data(dataset),
    }
    if dataset and found["data"]:
        found["data"]["nearest"] = _nearest(picture, found["image"]["seed"], dataset, evaluation, home)
    return found


def page(found: Mapping[str, Any], file: Path, home: Workspace) -> str:
    """A small page of its own with the picture, its nearest training images and the chain of `trace`."""
    import jinja2

    from .gan.dataset import Split, to_image

    nearest: Sequence[Mapping[str, Any]] = (found["data"] or {}).get("nearest") or ()
    pictures = []
    if nearest:
        dataset = Dataset.load(home.dataset)
        pixels = Split(dataset.folder, "training", dataset.image).pixels(_indices(nearest))
        pictures = [_inline(to_image(image)) for image in pixels]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("trace.html.jinja").render(
        found=found,
        name=file.name,
        picture=_inline(_read(file).image),
        nearest=list(zip(pictures, nearest, strict=True)),
        chain=list(chain_of(found)),
    )


def chain_of(found: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """The chain of `trace` in words: each part, and a line or more on it."""
    image, model, data, version = (found[name] for name in ("image", "model", "data", "version"))
    made = [f"class {image['class']}"] if image["class"] else []
    made += [f"seed {image['seed']}"] if image["seed"] is not None else []
    made += [f"steps {', '.join(image['steps'])}"] if image["steps"] else []
    how = {"pixels": "known by its pixels", "marks": "known by what is written in it; its pixels are not known"}
    yield "image", [", ".join([f"{image['width']}x{image['height']}", *made]), how[image["found_by"]]]
    if gallery := found["gallery"]:
        of = f"{gallery['file']}, one of {gallery['pictures']:,}" if gallery["file"] else "of its pictures"
        yield "gallery", [f"{gallery['key']}, {_day(gallery)}", of]
    if evaluation := found["evaluation"]:
        scores = ((n, v) for n, v in evaluation["metrics"].items() if not n.endswith("_floor"))
        shown = [f"{name} {value:.4g}" for name, value in scores if name.startswith(("fd_", "kid_", "agreement"))]
        yield "evaluation", [f"{evaluation['key']}, {_day(evaluation)}", ", ".join(shown[:3])]
    yield (
        "model",
        [
            f"{model['key']}, {_day(model)}",
            f"{model['network']}, {model['images']:,} images seen, {model['generator_parameters']:,} parameters",
            *_cost(model["cost"]),
        ],
    )
    if version:
        for one in (version, *version["others"]):
            verdict = [f"{one['verdict']['answer']}: {one['verdict']['reason']}"] if one["verdict"] else []
            yield "version", [f"{one['name']} {one['version']} ({', '.join(one['aliases']) or 'no alias'})", *verdict]
    runs = [f"MLflow {found['run']['mlflow']}"] if found["run"]["mlflow"] else []
    flows: dict[str, str] = found["run"]["prefect"] or {}
    runs += [
        f"Prefect {run} ({', '.join(n for n in flows if flows[n] == run)})" for run in dict.fromkeys(flows.values())
    ]
    yield "run", runs or ["not known"]
    training = {name: value for name, value in found["params"]["train"].items() if name != "network"}
    words = ", ".join(f"{name} {value}" for name, value in training.items() if not isinstance(value, dict))
    yield "params", textwrap.wrap(words, 100)
    yield "commit", [found["commit"] or "not known"]
    if data:
        yield (
            "data",
            [
                f"{data['key']}, {data['images']['training']:,} training images in "
                f"{len(data['class_counts']['training'])} classes",
                f"raw files {data['source'][:16]}"
                + (f", DVC {data['dvc']}" if data["dvc"] else "")
                + (f", commit {data['commit']}" if data["commit"] else ""),
            ],
        )
        if data["nearest"]:
            yield (
                "nearest",
                [
                    f"training image {one['index']:,}, class {one['class']}, {one['distance']:.1f} grey levels away"
                    for one in data["nearest"]
                ],
            )
        else:
            yield "nearest", ["artifacts/dataset is not that data set any more: `dvc checkout` brings it back"]
    else:
        yield "data", ["not known"]


def impact(asked: str, home: Workspace) -> dict[str, Any]:
    """What came from a data version, by a hash of it (at least 6 characters), or from one of its files.

    By the keys data, models, versions and galleries, each a list, oldest first.

    Raises:
        UserError: neither a file nor such a hash is known.
    """
    entries = Ledger(home).entries()
    datasets = [entry for entry in entries if entry.kind == "dataset"]
    if Path(asked).is_file():
        digest = bytes.fromhex(sha256_of(Path(asked)))
        sources = {entry.facts["source"] for entry in datasets}
        holding = {source for source in sources if _holds(files_of(home, source), digest)}
        chosen = [entry for entry in datasets if entry.facts["source"] in holding]
        if not chosen:
            raise UserError(
                f"no data version that {home.root} knows holds the bytes of {asked}: name a file of data/ as it was "
                "then, not an image inside of an archive, or another folder by --workspace"
            )
    elif re.fullmatch(rf"[0-9a-fA-F]{{{SHORTEST_PREFIX},}}(\.dir)?", asked):
        chosen = [
            entry
            for entry in datasets
            if any(
                str(known).startswith(asked.lower())
                for known in (entry.facts["source"], entry.content, entry.key, entry.facts["dvc"])
            )
        ]
        if not chosen:
            raise UserError(f"{home.root} knows no data version {asked}: `ganflow trace` and data.dvc show such hashes")
    else:
        raise UserError(
            f"{asked} is neither a file nor a hash of data: give one of at least {SHORTEST_PREFIX} hexadecimal digits, "
            "from `ganflow trace` or data.dvc"
        )
    contents = {entry.content for entry in chosen}
    models = _unique(e for e in entries if e.kind == "model" and e.parents["dataset"] in contents)
    galleries = _unique(e for e in entries if e.kind == "gallery" and e.parents["dataset"] in contents)
    versions = [version | {"model": model.key} for model in models for version in _versions(model, entries, home)]
    return {
        "asked": asked,
        "data": [_data(entry) for entry in _unique(chosen)],
        "models": [
            _head(model)
            | {"network": model.facts["training"]["network"]["name"], "images": model.facts["images"]}
            | {"dataset": model.parents["dataset"]}
            for model in models
        ],
        "versions": sorted(versions, key=lambda version: (version["name"], version["version"])),
        "galleries": [
            _head(gallery) | {"pictures": _count(gallery), "model": _model_key(entries, gallery)}
            for gallery in galleries
        ],
    }


def rebuild_registry(home: Workspace) -> Iterator[tuple[str, str]]:
    """Make runs, versions and aliases again that MLflow's own database lacks.

    Yields each of them, and what could not be restored of it: "" if nothing is missing.

    Raises:
        UserError: a server is named, or nothing was ever registered here.
    """
    entries = Ledger(home).entries()
    registrations = [e for e in entries if e.kind == "registration" and e.facts["tracking"] == "embedded"]
    runs = []
    for model in _unique(entry for entry in entries if entry.kind == "model"):
        own = [entry for entry in registrations if entry.facts["model_key"] == model.key and entry.facts.get("place")]
        run_id = own[-1].facts["run_id"] if own else model.facts["run_id"]
        if run_id is not None and (own or model.facts["tracking"] == "embedded"):
            runs.append(_recorded_run(model, run_id, own, entries, home))
    if not runs:
        raise UserError(f"{home.ledger} knows no run or version: run `ganflow run`, which makes and registers a model")
    challengers = {entry.facts["name"]: int(entry.facts["version"]) for entry in registrations}
    yield from tracking.rebuild(home, runs, challengers)
    known = {version.place for run in runs for version in run.versions}
    for folder in sorted((home.mlruns / "artifacts" / "models").glob("*/artifacts")):
        if (place := folder.relative_to(home.mlruns).as_posix()) not in known:
            yield f"the model in {place}", "the ledger knows no version with its files"


def _recorded_run(
    model: Entry, run_id: str, registrations: Sequence[Entry], entries: Sequence[Entry], home: Workspace
) -> tracking.RecordedRun:
    dataset = _parent(entries, model, "dataset")
    evaluation = next(
        (e for e in reversed(entries) if e.kind == "evaluation" and e.parents["model"] == model.content), None
    )
    splits = dataset.facts["splits"] if dataset else {"training": 0, "holdout": 0}
    image = ImageFormat.model_validate(model.facts["image"])
    latest = {(entry.facts["name"], int(entry.facts["version"])): entry for entry in registrations}
    return tracking.RecordedRun(
        key=model.key,
        run_id=run_id,
        training=model.facts["training"],
        dataset=tracking.dataset_facts(image, splits["training"], splits["holdout"], model.parents["dataset"]),
        curves=_curves(model, home),
        scores={"images": model.facts["images"], **evaluation.facts["metrics"]} if evaluation else None,
        begun=_seconds(model),
        ended=_seconds(registrations[-1] if registrations else model),
        versions=[
            tracking.RecordedVersion(name, number, entry.facts["model_id"], entry.facts["place"], entry.facts["tags"])
            for (name, number), entry in sorted(latest.items())
        ],
    )


def _curves(model: Entry, home: Workspace) -> list[dict[str, Any]]:
    """The training's curves: from its own folder if that was kept, else of the present model."""
    training = home.state / "training" / model.key
    with suppress(OSError, ValueError):
        rows = [json.loads(line) for line in (training / "progress.jsonl").read_text().splitlines()]
        return [row for row in rows if "images" in row]
    with suppress(UserError):
        present = Model.load(home.model)
        if present.content == model.content:
            import pandas as pd

            table = pd.read_csv(present.folder / "history.csv").to_dict("records")
            return [{str(name): value for name, value in row.items()} for row in table]
    return []


def _read(file: Path) -> _Picture:
    from PIL import Image

    if not file.is_file():
        raise UserError(f"there is no picture {file}: name a file")
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
    """The gallery with the picture, what it says of it, and by what it was found: its pixels, or else its marks.

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
        model = _model_key(entries, gallery)
        if marks.get("gallery", gallery.key) != gallery.key or marks.get("model") != model:
            continue
        for described in gallery.facts["pictures"]:
            own = (str(described["seed"]), described["label"], ", ".join(described["steps"]))
            if own == (marks.get("seed"), marks.get("class"), marks.get("steps")):
                return gallery, described, "marks"
        if "gallery" in marks:
            return gallery, {}, "marks"
    return None, {}, "marks"


def _unknown(file: Path, picture: _Picture, home: Workspace) -> UserError:
    if "model" in picture.marks:
        return UserError(
            f"{file} says that model {picture.marks['model'][:40]} made it, which {home.root} does not know: name the "
            "folder where it was made by --workspace"
        )
    return UserError(
        f"{file} was not made in {home.root}, or was changed since: its pixels are in no gallery and nothing of "
        "ganflow is written in it; name another folder by --workspace, or the picture as it was made"
    )


def _nearest(
    picture: _Picture, seed: int | None, dataset: Entry, evaluation: Entry | None, home: Workspace
) -> list[dict[str, Any]] | None:
    try:
        present = Dataset.load(home.dataset)
    except UserError:
        return None
    if present.content != dataset.content:
        return None
    import numpy as np

    from .gan.dataset import Split

    own = _sample(seed, evaluation, home)
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


def _sample(seed: int | None, evaluation: Entry | None, home: Workspace) -> Pixels | None:
    """The model's sample (H, W, C) with this seed, before it was finished."""
    import numpy as np
    import pandas as pd

    try:
        present = Evaluation.load(home.evaluation)
    except UserError:
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
    """The picture in the format of the training images (H, W, C), if a picture can show it."""
    import numpy as np
    from PIL import Image

    mode = {1: "L", 3: "RGB", 4: "RGBA"}.get(image.channels)
    if mode is None:
        return None
    small = picture.image.convert(mode).resize((image.width, image.height), Image.Resampling.LANCZOS)
    pixels: Pixels = np.asarray(small).reshape(image.shape)
    return pixels


def _versions(model: Entry, entries: Sequence[Entry], home: Workspace) -> list[dict[str, Any]]:
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
                    "aliases": _aliases(name, number, where, entries, home),
                    "tracking": where,
                    "run": facts.get("run_id"),
                    "commit": None if commit == "none" else commit,
                    "verdict": verdict and {name: verdict.facts[name] for name in ("answer", "reason", "champion")},
                    "time": entry.time,
                },
            )
    return list(found.values())


def _verdict(entries: Sequence[Entry], name: str, version: int) -> Entry | None:
    """The last that the gate said of a version."""
    judged = (e for e in reversed(entries) if e.kind == "verdict" and e.facts["name"] == name)
    return next((entry for entry in judged if entry.facts["challenger"] == version), None)


def _aliases(name: str, version: int, where: str, entries: Sequence[Entry], home: Workspace) -> list[str]:
    """By the registry where there is one, else by the journal of champions and by what was registered last."""
    if where != tracking.address():
        return []
    if where != "embedded" or (home.mlruns / "mlflow.db").exists():
        with suppress(UserError):
            return tracking.aliases(name, version, home)
    last = [e.facts["version"] for e in entries if e.kind == "registration" and e.facts["name"] == name][-1]
    champion = tracking.written_champion(name, home)
    return [alias for alias, number in (("challenger", last), ("champion", champion)) if number == version]


def _last(entries: Sequence[Entry], kind: Kind, key: str) -> Entry | None:
    """The newest entry of a kind with this key."""
    return next((entry for entry in reversed(entries) if (entry.kind, entry.key) == (kind, key)), None)


def _parent(entries: Sequence[Entry], child: Entry, kind: Kind) -> Entry | None:
    """What `child` came from: of equal contents under several keys the last that was written down before it."""
    same = [entry for entry in entries if (entry.kind, entry.content) == (kind, child.parents[kind])]
    before = [entry for entry in entries[: entries.index(child)] if entry in same]
    return next(iter((before or same)[-1:]), None)


def _model_key(entries: Sequence[Entry], gallery: Entry) -> str | None:
    model = _parent(entries, gallery, "model")
    return model.key if model else None


def _unique(entries: Iterator[Entry] | Sequence[Entry]) -> list[Entry]:
    """One entry for each key and content."""
    return list({(entry.key, entry.content): entry for entry in entries}.values())


def _head(entry: Entry) -> dict[str, Any]:
    return {"key": entry.key, "content": entry.content, "time": entry.time}


def _data(dataset: Entry) -> dict[str, Any]:
    names = ("source", "dvc", "commit", "class_counts")
    return _head(dataset) | {name: dataset.facts[name] for name in names} | {"images": dataset.facts["splits"]}


def _count(gallery: Entry) -> int:
    return len(gallery.facts["pictures"])


def _cost(cost: Mapping[str, float] | None) -> list[str]:
    if cost is None:
        return []
    gpu = f", {cost['gpu_seconds']:,.0f} s of GPUs" if cost["gpu_seconds"] else ""
    return [f"{cost['cpu_seconds']:,.0f} s of processors{gpu}, about {1000 * cost['energy_kwh']:,.3g} Wh"]


def _day(head: Mapping[str, Any]) -> str:
    return f"written down {head['time'][:16].replace('T', ' ')} UTC"


def _seconds(entry: Entry) -> float:
    return datetime.fromisoformat(entry.time).timestamp()


def _holds(listed: Path, digest: bytes) -> bool:
    """Whether a sorted list of hashes has this one."""
    if not listed.exists() or not listed.stat().st_size:
        return False
    size = len(digest)
    with listed.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as hashes:
        count = len(hashes) // size
        at = bisect_left(range(count), digest, key=lambda i: hashes[i * size : (i + 1) * size])
        return at < count and hashes[at * size : (at + 1) * size] == digest


def _indices(nearest: Sequence[Mapping[str, Any]]) -> Any:
    import numpy as np

    return np.array([one["index"] for one in nearest])


def _inline(image: Image.Image) -> str:
    """A picture as the address of itself."""
    content = io.BytesIO()
    image = image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGBA")
    image.save(content, "PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
