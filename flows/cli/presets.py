"""The command `ganflow presets`: the table, and one of it as a section of params.yaml."""

from __future__ import annotations

from typing import Annotated

import typer
import yaml

from components.workspace.presets import PRESETS, preset


def presets(
    name: Annotated[str | None, typer.Argument(help="show this one as it would stand in params.yaml")] = None,
) -> None:
    """Parameters for known data, each with its measured result: `ganflow run --preset NAME` uses one."""
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
