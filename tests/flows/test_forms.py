"""The forms of the deployments in Prefect's pages: what they ask for, in which order, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from prefect import Flow
from prefect.exceptions import ParameterTypeError
from prefect.utilities.callables import parameter_schema

from flows.clean import clean
from flows.drift import drift
from flows.render import render
from flows.retrain import retrain

FIELDS: dict[Flow[..., Any], list[str]] = {
    retrain: ["preset", "network", "images", "params", "workspace"],
    render: ["images", "label", "model", "seed", "truncation", "out", "steps", "workspace"],
    drift: ["inbox", "min_images", "max_images", "workspace"],
    clean: ["remove", "keep_days", "workspace"],
}


@pytest.mark.parametrize("flow", FIELDS, ids=lambda flow: flow.name)
def test_every_choice_is_a_field_with_help_and_the_workspace_the_last(flow: Flow[..., Any]) -> None:
    schema = parameter_schema(flow).model_dump()["properties"]
    assert sorted(schema, key=lambda name: schema[name]["position"]) == FIELDS[flow]
    for name, field in schema.items():
        assert field["description"], name
        # All of it has a default: who starts a run chooses only what is to be otherwise.
        assert "default" in field, name
        # Of a nested object there is a field to fold out; only lists of steps, and all parameters at once, are one.
        assert ("$ref" not in str(field)) or name in ("steps", "params"), name


@pytest.mark.parametrize(
    ("flow", "wrong"),
    [
        (render, {"images": 0}),
        (render, {"truncation": 1.5}),
        (render, {"truncation": "best"}),
        (render, {"model": "no such model"}),
        (render, {"out": "s3://ann:secret@bucket/prefix"}),
        (drift, {"min_images": 19}),
        (drift, {"inbox": "s3://ann:secret@bucket/prefix"}),
        (clean, {"keep_days": -1}),
    ],
)
def test_what_cannot_be_is_refused(flow: Flow[..., Any], wrong: dict[str, Any]) -> None:
    flow.validate_parameters({})
    with pytest.raises(ParameterTypeError, match=next(iter(wrong))):
        flow.validate_parameters(wrong)
