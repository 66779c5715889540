"""The commands about parameters: `ganflow params` and `ganflow presets`."""

from __future__ import annotations

import json
from typing import Annotated

import typer
import yaml

from components.workspace.params import Params
from components.workspace.presets import PRESETS, preset


def presets(
    name: Annotated[str | None, typer.Argument(help="show this one as it would stand in params.yaml")] = None,
) -> None:
    """List parameters for known data, with measured results.

    `ganflow run --preset NAME` uses one.
    """
    if name is not None:
        chosen = preset(name)
        sections = {"preprocess": {"resolution": chosen.resolution}, "train": dict(chosen.train)}
        print(yaml.safe_dump(sections, sort_keys=False).rstrip())
        return
    for each, (data, resolution, train, measured) in PRESETS.items():
        print(f"{each:<18} {data}, {resolution}x{resolution}: {train['network']['name']}")
        if measured is None:
            print(f"{'':<18} made for GPUs; not measured yet")
        else:
            images, minutes, hardware, scores = measured
            print(f"{'':<18} {scores}\n{'':<18} {images:,} images in {minutes:g} minutes on {hardware}")


def list_params() -> None:
    """List every key of params.yaml with its default."""
    for section, field in Params.model_fields.items():
        defaults = field.default
        print(f"{section}:  # {(type(defaults).__doc__ or '').partition(chr(10))[0]}")
        for name, described in type(defaults).model_fields.items():
            value = defaults.model_dump(mode="json")[name]
            print(f"  {name}: {json.dumps(value)}")
            if described.description:
                print(f"      # {described.description}")
