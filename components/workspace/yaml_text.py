"""YAML that anybody may have written: read without objects, no larger than it looks, and all of it."""

from __future__ import annotations

from typing import Any

import yaml

MAX_LETTERS = 2**18
# Of values, each counted as often as aliases and merge keys repeat it, and of values within values.
MAX_VALUES = 20_000
MAX_DEPTH = 50
# Longer numbers are none of ours; Python takes long to read them, and refuses to write them.
MAX_DIGITS = 100
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def read_yaml(text: str) -> Any:
    """Return what a YAML text says; None for an empty one.

    Raises:
        ValueError: it is no valid YAML, says more than parameters ever do, or the same key twice.
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
        if node.tag in _NUMBERS and len(node.value) > MAX_DIGITS:
            raise ValueError(f"a number has more than {MAX_DIGITS} digits")
        return 1
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
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


def _check_keys(node: yaml.MappingNode) -> None:
    """Refuse a key that stands twice, of which PyYAML drops the first without a word."""
    seen: set[tuple[str, str]] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if (key.tag, key.value) in seen:
                raise ValueError(
                    f"the key {key.value[:MAX_DIGITS]} stands twice, in line {key.start_mark.line + 1} again"
                )
            seen.add((key.tag, key.value))
