"""The page that shows where a picture comes from, and the same in lines for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..provenance.picture import NearestImage, read_picture
from ..provenance.queries import Head, KnownVersion
from ..provenance.trace import DataTrace, EvaluationTrace, GalleryTrace, ImageTrace, ModelTrace, RunTrace, Trace
from ..workspace.artifacts import Dataset
from ..workspace.scores import Scores
from ..workspace.workspace import Workspace
from .html import image_uri, to_html

if TYPE_CHECKING:
    from PIL import Image
    from pydantic import JsonValue

SHOWN_METRICS = ("agreement", "fd", "kid", "perceptual", "psnr", "ssim")
_FOUND_BY = {"pixels": "known by its pixels", "marks": "known by what is written in it; its pixels are not known"}


def page(found: Trace, file: Path, workspace: Workspace) -> str:
    """Return a small page of its own with the picture, its nearest training images and the chain of `trace`."""
    nearest = found.data.nearest if found.data else None
    return to_html(
        "trace.html.jinja",
        name=file.name,
        picture=_inline(picture) if (picture := read_picture(file).image) else None,
        nearest=list(zip(_pictures(nearest, workspace), nearest, strict=True)) if nearest else [],
        chain=list(chain_of(found)),
    )


def chain_of(found: Trace) -> Iterator[tuple[str, list[str]]]:
    """Yield each part of a trace, with a line or more on it."""
    yield "image", _image(found.image)
    if found.gallery:
        yield "gallery", _gallery(found.gallery)
    if found.evaluation:
        yield "evaluation", _evaluation(found.evaluation)
    yield "model", _model(found.model)
    if found.version:
        yield from (("version", _version(version)) for version in (found.version, *found.version.others))
    yield "run", _runs(found.run) or ["not known"]
    yield "params", _params(found.params.train)
    yield "commit", [found.commit or "not known"]
    yield "data", _data(found.data) if found.data else ["not known"]
    if found.data and found.image.input is None:
        missing = "artifacts/dataset is not that data set any more: `dvc checkout` brings it back"
        yield "nearest", [_near(one) for one in found.data.nearest or ()] or [missing]


def _image(image: ImageTrace) -> list[str]:
    made = [f"{image.width}x{image.height}"]
    made += [f"task {image.task}"] if image.task else []
    made += [f"class {image.label}"] if image.label else []
    made += [f"seed {image.seed}"] if image.seed is not None else []
    made += [f"steps {', '.join(image.steps)}"] if image.steps else []
    of = [f"made of the picture with the sha256 {image.input}"] if image.input else []
    unseen = "known by what is written in it; it has too many pixels to be known by them"
    return [", ".join(made), *of, unseen if image.pixels is None else _FOUND_BY[image.found_by]]


def _gallery(gallery: GalleryTrace) -> list[str]:
    of = f"{gallery.file}, one of {gallery.pictures:,}" if gallery.file else "of its pictures"
    return [f"{gallery.key}, {_day(gallery)}", of]


def _evaluation(evaluation: EvaluationTrace) -> list[str]:
    shown = [
        f"{score.name} {score.value:.4g}" + (f" (real images {floor.value:.4g})" if floor else "")
        for score, floor, _ in Scores.read(evaluation.metrics).shown()
        if score.metric in SHOWN_METRICS and score.images == "samples"
    ]
    return [f"{evaluation.key}, {_day(evaluation)}", ", ".join(shown[:3])]


def _model(model: ModelTrace) -> list[str]:
    return [
        f"{model.key}, {_day(model)}",
        f"{model.network}, {model.images:,} images seen, {model.generator_parameters:,} parameters",
        *([model.cost.words] if model.cost else []),
    ]


def _version(version: KnownVersion) -> list[str]:
    verdict = [f"{version.verdict.answer}: {version.verdict.reason}"] if version.verdict else []
    return [f"{version.name} {version.version} ({', '.join(version.aliases) or 'no alias'})", *verdict]


def _runs(run: RunTrace) -> list[str]:
    flows = run.prefect or {}
    shown = [f"MLflow {run.mlflow}"] if run.mlflow else []
    return shown + [
        f"Prefect {one} ({', '.join(name for name in flows if flows[name] == one)})"
        for one in dict.fromkeys(flows.values())
    ]


def _params(train: Mapping[str, JsonValue]) -> list[str]:
    shown = (f"{name} {value}" for name, value in train.items() if name != "network" and not isinstance(value, dict))
    return textwrap.wrap(", ".join(shown), 100)


def _data(data: DataTrace) -> list[str]:
    raw = f"raw files {data.source[:16]}"
    raw += f", DVC {data.dvc}" if data.dvc else ""
    raw += f", commit {data.commit}" if data.commit else ""
    classes = len(data.class_counts["training"])
    return [f"{data.key}, {data.images['training']:,} training images in {classes} classes", raw]


def _near(image: NearestImage) -> str:
    return f"training image {image.index:,}, class {image.label}, {image.distance:.1f} grey levels away"


def _day(head: Head) -> str:
    return f"written down {head.time[:16].replace('T', ' ')} UTC"


def _pictures(nearest: Sequence[NearestImage], workspace: Workspace) -> list[str]:
    """Return the training images as addresses of themselves."""
    import numpy as np

    from ..gan.dataset import Split, to_image

    dataset = Dataset.load(workspace.dataset)
    pixels = Split(dataset.folder, "training", dataset.image).pixels(np.array([image.index for image in nearest]))
    return [_inline(to_image(image)) for image in pixels]


def _inline(image: Image.Image) -> str:
    """Return a picture as the address of itself."""
    return image_uri(image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGBA"))
