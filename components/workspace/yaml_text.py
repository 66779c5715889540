"""YAML that anybody may have written: read without objects, and no larger than it looks."""

from __future__ import annotations

from typing import Any

import yaml

MAX_LETTERS = 2**18
# Of values, each counted as often as aliases and merge keys repeat it, and of values within values.
MAX_VALUES = 20_000
MAX_DEPTH = 50


def read_yaml(text: str) -> Any:
    """Return what a YAML text says; None for an empty one.

    Raises:
        ValueError: it is no valid YAML, or says more than parameters ever do.
    """
    if len(text) > MAX_LETTERS:
        raise ValueError(f"it has more than {MAX_LETTERS:,} letters")
    try:
        node = yaml.compose(text, _Loader)
        if node is None:
            return None
        # Before anything is built of it: merge keys copy what they name.
        _check(node, {}, 0)
        return yaml.SafeLoader("").construct_document(node)
    except (RecursionError, MemoryError):
        raise ValueError("its values lie too deep within each other") from None
    # PyYAML raises whatever Python does for a date that is none, or a number of 5,000 digits.
    except Exception as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None


class _Loader(yaml.SafeLoader):
    """PyYAML's own one, which stops at values that lie too deep instead of looking on."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a node, and what is in it."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError("its values lie too deep within each other")
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _check(node: yaml.Node, known: dict[int, int], depth: int) -> int:
    """Return how many values a node says; each is looked at once, however often it is named."""
    if depth > MAX_DEPTH:
        raise ValueError("its values lie too deep within each other")
    if id(node) in known:
        return known[id(node)]
    if not isinstance(node, yaml.CollectionNode):
        return 1
    # Met again before it is known: it holds itself.
    known[id(node)] = MAX_VALUES + 1
    inner = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
    count = 1
    for part in inner:
        count += _check(part, known, depth + 1)
        if count > MAX_VALUES:
            raise ValueError(f"by its aliases it says more than {MAX_VALUES:,} values")
    known[id(node)] = count
    return count
