"""The data set card, in the Hugging Face format, derived from the artifact alone.

The format: https://github.com/huggingface/hub-docs, `datasetcard.md`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from pydantic import JsonValue

from ..workspace.artifacts import Artifact, Dataset
from ..workspace.graph import options_hash
from ..workspace.params import Params
from ..workspace.text import uncelled
from .markdown import bare, to_markdown

CLASSES = 200


def dataset_card(
    dataset: Dataset, name: str = "ganflow", data_version: str | None = None, params: Params | None = None
) -> str:
    """Return the card of the data set as preprocessing left it; `name` is what it is called."""
    task = "image-to-image" if dataset.image.paired else "unconditional-image-generation"
    tasks = [task, *(["image-classification"] if dataset.image.labelled else [])]
    facts = {
        "license": "unknown",
        "pretty_name": f"Images of {bare(name)}",
        "tags": ["ganflow", "image"],
        "annotations_creators": ["found" if dataset.image.labelled else "no-annotation"],
        "size_categories": [size_category(sum(dataset.splits.values()))],
        "task_categories": tasks,
    }
    return to_markdown(
        "dataset_card.md.jinja",
        facts=facts,
        dataset=dataset,
        name=name,
        data_version=data_version,
        most=CLASSES,
        reasons=_reasons(dataset),
        commands=[*(["dvc checkout data.dvc"] if data_version else []), "ganflow preprocess"],
        sections=sections_of(params, {"preprocess": dataset}),
    )


def _reasons(dataset: Dataset) -> list[tuple[str, int]]:
    """Return why files were left out, and how many, the most frequent first."""
    import pandas as pd

    table = pd.read_csv(dataset.folder / "rejected.csv", dtype=str, keep_default_na=False)
    return Counter(uncelled(str(reason)) for reason in table["reason"]).most_common()


def sections_of(params: Params | None, artifacts: Mapping[str, Artifact]) -> dict[str, Mapping[str, JsonValue]]:
    """Sections of `params` that made these artifacts: those that were changed since are left out."""
    if params is None:
        return {}
    sections = {name: getattr(params, name) for name in artifacts}
    return {
        name: options.hashed
        for name, options in sections.items()
        if options_hash(options) == artifacts[name].key.options
    }


def size_category(images: int) -> str:
    """`1K<n<10K`, one of the powers of ten that the format names."""
    if images < 1_000:
        return "n<1K"
    names = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
    power = min(len(str(images)) - 4, len(names) - 1)
    return f"{names[power]}<n<{names[power + 1]}" if power + 1 < len(names) else f"n>{names[-1]}"
