"""The page that shows where a picture comes from."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..workspace.artifacts import Dataset
from ..workspace.scores import Scores
from ..workspace.workspace import Workspace

if TYPE_CHECKING:
    from PIL import Image

from ..provenance.trace import _indices, _read
from .html import image_uri, to_html

SHOWN_METRICS = ("agreement", "fd", "kid")


def page(found: Mapping[str, Any], file: Path, workspace: Workspace) -> str:
    """Return a small page of its own with the picture, its nearest training images and the chain of `trace`."""
    from ..gan.dataset import Split, to_image

    nearest: Sequence[Mapping[str, Any]] = (found["data"] or {}).get("nearest") or ()
    pictures = []
    if nearest:
        dataset = Dataset.load(workspace.dataset)
        pixels = Split(dataset.folder, "training", dataset.image).pixels(_indices(nearest))
        pictures = [_inline(to_image(image)) for image in pixels]
    return to_html(
        "trace.html.jinja",
        found=found,
        name=file.name,
        picture=_inline(_read(file).image),
        nearest=list(zip(pictures, nearest, strict=True)),
        chain=list(chain_of(found)),
    )


def chain_of(found: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Yield the chain of `trace` in words: each part, and a line or more on it."""
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
        scores = (score for score in Scores.read(evaluation["metrics"]) if score.images == "samples")
        shown = [f"{score.name} {score.value:.4g}" for score in scores if score.metric in SHOWN_METRICS]
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


def _cost(cost: Mapping[str, float] | None) -> list[str]:
    if cost is None:
        return []
    gpu = f", {cost['gpu_seconds']:,.0f} s of GPUs" if cost["gpu_seconds"] else ""
    return [f"{cost['cpu_seconds']:,.0f} s of processors{gpu}, about {1000 * cost['energy_kwh']:,.3g} Wh"]


def _day(head: Mapping[str, Any]) -> str:
    return f"written down {head['time'][:16].replace('T', ' ')} UTC"


def _inline(image: Image.Image) -> str:
    """Return a picture as the address of itself."""
    return image_uri(image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGBA"))
