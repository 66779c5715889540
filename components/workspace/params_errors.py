"""What is wrong with parameters, in a sentence that names the key and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from .text import shortened

# Kinds of values that pydantic names among the keys; others have brackets in their names.
_KINDS = frozenset(("Elastic", "constrained-float", "constrained-int", "float", "int", "Ramp"))


def sentence_of(schema: type[BaseModel], error: ValidationError) -> str:
    """Return the first thing that is wrong, with the key and what is allowed."""
    errors = error.errors(include_url=False)
    # Where several kinds of value are allowed, there is an error for each kind.
    place = _keys(errors[0])
    here = [each for each in errors if _keys(each)[: len(place)] == place]
    # Of these kinds the one that was followed furthest.
    first = max(here, key=lambda each: (not _is_other_kind(each), len(each["loc"])))
    key = ".".join(_keys(first))
    if first["type"] == "extra_forbidden":
        *parents, last = _keys(first)
        known = _siblings(schema.model_json_schema(), parents)
        close = difflib.get_close_matches(last, known, 1)
        hint = f"did you mean {close[0]}? Allowed here" if close else "allowed here"
        return f"{shortened(key)} is not a parameter; {hint}: {', '.join(known)}"
    if first["type"] == "value_error":
        # What concerns several sections names their keys itself.
        return f"{f'{key}: ' if key else ''}{first['msg'].removeprefix('Value error, ')}"
    if first["type"] in ("missing", "union_tag_not_found"):
        return f"{key}{'' if first['type'] == 'missing' else '.name'} is missing"
    value, allowed = first["input"], first["msg"]
    if first["type"] == "union_tag_invalid":
        key, value, allowed = f"{key}.name", first["ctx"]["tag"], f"Input should be {first['ctx']['expected_tags']}"
    elif _is_other_kind(first):
        kinds = (each["msg"].removeprefix("Input should be ") for each in here if _is_other_kind(each))
        # What follows a comma or names a class says nothing more to a user.
        plain = (
            kind.partition(", unable")[0].partition(" or instance")[0].partition(" or object")[0] for kind in kinds
        )
        allowed = f"Input should be {' or '.join(dict.fromkeys(plain))}"
        allowed = allowed.replace("a valid dictionary", "a mapping of keys").replace("a valid tuple", "a list")
    return f"{shortened(key)} = {shortened(repr(value))} is not allowed: {shortened(allowed[0].lower() + allowed[1:])}"


def _keys(error: ErrorDetails) -> list[str]:
    """Return the keys that lead to what is wrong; tags of unions stand among them."""
    return [str(part) for part in error["loc"] if part not in _KINDS and "[" not in str(part)]


def _is_other_kind(error: ErrorDetails) -> bool:
    """Whether the value is of another kind than this error asks for, so that others may say more."""
    return error["type"] == "literal_error" or error["type"].endswith(("_type", "_parsing"))


def _siblings(schema: Mapping[str, Any], path: Sequence[str]) -> list[str]:
    """Names of the keys allowed at `path` of a JSON schema; empty where the path is not followed."""
    definitions, node = schema.get("$defs", {}), schema
    for part in path:
        node = node.get("properties", {}).get(part, node)
        for option in (node, *node.get("oneOf", ()), *node.get("items", {}).get("oneOf", ())):
            target = definitions.get(str(option.get("$ref", "")).rpartition("/")[2])
            if target and (option is node or target.get("properties", {}).get("name", {}).get("const") == part):
                node = target
                break
    return list(node.get("properties", ()))
