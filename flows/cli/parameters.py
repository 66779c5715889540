"""The commands about parameters: `ganflow params` and `ganflow presets`."""

from __future__ import annotations

import json
from typing import Annotated

import typer
import yaml

from components.workspace.params import Params
from components.workspace.presets import PRESETS, preset
from flows.cli.shared import JsonOption


def presets(
    name: Annotated[str | None, typer.Argument(help="show this one as it would stand in params.yaml")] = None,
    as_json: JsonOption = False,
) -> None:
    """List parameters for known data, with measured results.

    `ganflow run --preset NAME` uses one.
    """
    if name is not None:
        chosen = preset(name)
        sections = {"preprocess": dict(chosen.preprocess), "train": dict(chosen.train)}
        print(json.dumps(sections, indent=2) if as_json else yaml.safe_dump(sections, sort_keys=False).rstrip())
        return
    if as_json:
        print(json.dumps({each: found._asdict() for each, found in PRESETS.items()}, indent=2))
        return
    for each, (data, preprocess, train, measured) in PRESETS.items():
        side = preprocess["resolution"]
        pieces = "pieces of " if preprocess.get("fit") == "patches" else ""
        print(f"{each:<18} {data}, {pieces}{side}x{side}: {train['network']['name']}")
        if measured is None:
            print(f"{'':<18} not measured yet{'' if preprocess.get('fit') else '; made for GPUs'}")
        else:
            images, minutes, hardware, scores = measured
            print(f"{'':<18} {scores}\n{'':<18} {images:,} images in {minutes:g} minutes on {hardware}")


def list_params(as_json: JsonOption = False) -> None:
    """List every key of params.yaml with its default."""
    if as_json:
        print(json.dumps(Params().model_dump(mode="json"), indent=2))
        return
    for section, field in Params.model_fields.items():
        defaults = field.default
        print(f"{section}:  # {(type(defaults).__doc__ or '').partition(chr(10))[0]}")
        for name, described in type(defaults).model_fields.items():
            value = defaults.model_dump(mode="json")[name]
            print(f"  {name}: {json.dumps(value)}")
            if described.description:
                print(f"      # {described.description}")
