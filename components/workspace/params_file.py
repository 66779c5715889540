"""Change values of parameters by `section.key=value`: as they were read, or in the text, where all else stays.

A round trip through `ruamel.yaml` would write the whole file anew: of the 31 forms of a file that the tests hold it
changes more than the value in 19, indentation, line ends, `null` and comments inside braces among them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from ..gan.errors import UserError
from .text import shortened
from .yaml_text import read_yaml


def as_yaml(value: Any) -> str:
    """`value` on one line, as it stands behind a key."""
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000).removesuffix("...\n").rstrip()


def set_value(values: dict[str, Any], override: str) -> None:
    """Apply `section.key=value` to nested `values`; the value is YAML.

    Raises:
        UserError: it has another form, or the value is no YAML.
    """
    name, equals, text = override.partition("=")
    *parents, last = name.split(".")
    if not equals or not parents:
        raise UserError(f"--set {override}: write it as section.key=value, such as --set train.images=64000")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise UserError(f"--set {override}: {parent} has no keys of its own")
    try:
        values[last] = read_yaml(text)
    except ValueError:
        raise UserError(f"--set {shortened(override)}: {shortened(text)} is not valid YAML") from None


def rewritten(text: str, values: Mapping[str, Any]) -> str:
    """Return the YAML `text` with `values` at their keys `section.key`; every other character, comments too, stays.

    Raises:
        UserError: the text is of a form that cannot be changed in place.
    """
    try:
        wanted = read_yaml(text) or {}
    except ValueError as error:
        raise UserError(f"the file is not valid YAML: {error}") from None
    if not isinstance(wanted, dict):
        raise UserError("the file holds no sections with keys: edit it by hand")
    try:
        for key, value in values.items():
            set_value(wanted, f"{key}={as_yaml(value)}")
            text = _put(text, key.split("."), as_yaml(value))
        right = read_yaml(text) == wanted
    # Keys that are lists, and other forms that nobody writes.
    except (ValueError, TypeError, AttributeError, IndexError, yaml.YAMLError):
        right = False
    if not right:
        raise UserError(f"the form of the file does not allow to change {', '.join(values)} in place: edit it by hand")
    return text


def _put(text: str, path: Sequence[str], value: str) -> str:
    node: Any = yaml.compose(text, yaml.SafeLoader)
    newline = "\r\n" if "\r\n" in text else "\n"
    if node is None:
        return f"{text.rstrip()}{newline}{_block(path, value, 0, newline)}{newline}".lstrip()
    for depth, name in enumerate(path):
        children = {key.value: child for key, child in node.value}
        if name in children:
            node = children[name]
            continue
        rest, start, end = path[depth:], node.start_mark.index, _end(node)
        if node.flow_style:
            flow = f"{': {'.join(rest)}: {value}" + "}" * (len(rest) - 1)
            return f"{text[: start + 1]}{flow}{', ' if children else ''}{text[start + 1 :]}"
        # Behind the line's own comment.
        line = end + len(re.split(r"\r?\n", text[end:], maxsplit=1)[0])
        return f"{text[:line]}{newline}{_block(rest, value, node.start_mark.column, newline)}{text[line:]}"
    start, end = node.start_mark.index, _end(node)
    return f"{text[:start]}{'' if end > start else ' '}{value}{text[end:]}"


def _block(path: Sequence[str], value: str, column: int, newline: str) -> str:
    return newline.join(f"{' ' * (column + 2 * i)}{name}:" for i, name in enumerate(path)) + f" {value}"


def _end(node: yaml.Node) -> int:
    """Where the text of `node` ends; the mark of a block stands behind the comments that follow it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        last = node.value[-1]
        return _end(last[1] if isinstance(node, yaml.MappingNode) else last)
    return node.end_mark.index
