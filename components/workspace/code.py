"""A digest of code that stays the same as long as the code computes the same.

It is taken of the syntax tree rather than of the text. Left out is what cannot show in a result: comments, docstrings,
layout, annotations that nothing evaluates, from where inside this package a name is imported, the order of imports,
the words of our own errors (which end a stage), `print`, and the words beside a progress bar. Fields that are empty
are left out too, because versions of Python differ in them: all of them get the same digest.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

# Keyword arguments that are shown beside a progress bar.
_SHOWN = frozenset(("desc", "unit"))
# Fields that say nothing of the result: of any node, and besides of all but the fields of a class.
_NEVER = frozenset(("ctx", "kind", "type_comment", "type_ignores"))
_ANNOTATIONS = frozenset(("annotation", "returns"))


def digest_of(file: Path) -> str:
    """Hash of what the code in `file` computes; of all bytes, if it is not Python."""
    content = file.read_bytes()
    return code_digest(content) if file.suffix == ".py" else hashlib.sha256(content).hexdigest()


@cache
def code_digest(source: bytes) -> str:
    """Hash of what this Python code computes."""
    words: list[str] = []
    _put(ast.parse(source), words.append)
    return hashlib.sha256("".join(words).encode()).hexdigest()


def _put(node: object, put: Callable[[str], None], in_class: bool = False) -> None:
    """Put the tree below `node` into words. Every command does so for dozens of files, and generators take thrice."""
    if isinstance(node, ast.Constant):
        put(f"{type(node.value).__name__} {node.value!a} ")
    elif isinstance(node, ast.JoinedStr):
        _put_joined(node.values, put)
    elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and _is_ours(node.exc.func):
        put("Raise(")
        _put(_Wordless().visit(node.exc), put)
        _put(node.cause, put)
        put(")")
    elif isinstance(node, ast.keyword) and node.arg in _SHOWN:
        put(f"{node.arg}=")
        _put(_Wordless().visit(node.value), put)
    elif isinstance(node, ast.AnnAssign) and node.value and not in_class:
        _put(ast.Assign([node.target], node.value), put)
    elif isinstance(node, ast.AST):
        put(f"{type(node).__name__}(")
        inside = isinstance(node, ast.ClassDef)
        for name in node._fields:
            if name in _NEVER or (name in _ANNOTATIONS and not isinstance(node, ast.AnnAssign)):
                continue
            value = getattr(node, name, None)
            # An empty list is the same as none: new versions of Python add fields.
            if value is not None and value != []:
                put(f"{name}=")
                _put(value, put, inside)
        put(")")
    elif isinstance(node, list):
        put("[")
        if node and isinstance(node[0], ast.stmt):
            put(_imports(node))
            node = [statement for statement in node if _counts(statement, in_class)]
        for item in node:
            _put(item, put, in_class)
        put("]")
    else:
        put(f"{node!s} ")


def _counts(statement: ast.stmt, in_class: bool) -> bool:
    """Whether a statement can show in a result, imports aside."""
    match statement:
        case ast.Expr(value=ast.Constant()) | ast.Import() | ast.ImportFrom() | ast.Pass():
            return False
        case ast.Expr(value=ast.Call(func=ast.Name(id="print"))) | ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return False
        case ast.AnnAssign(value=None):
            # In a class it makes a field.
            return in_class
    return True


def _imports(body: Sequence[ast.stmt]) -> str:
    """List what a body imports, as (module, name, name here), sorted; without the module if it is one of this package.

    Its own digest is among those of the stage, wherever its file lies.
    """
    found = set()
    for statement in body:
        if isinstance(statement, ast.Import):
            found |= {(alias.name, "", alias.asname or alias.name) for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom) and statement.module != "__future__":
            module = "" if statement.level else str(statement.module)
            found |= {(module, alias.name, alias.asname or alias.name) for alias in statement.names}
    return str(sorted(found)) if found else ""


def _put_joined(values: Sequence[ast.expr], put: Callable[[str], None]) -> None:
    """Put the parts of an f-string into words; versions of Python cut its text into other pieces."""
    text = ""
    put("f(")
    for value in values:
        if isinstance(value, ast.Constant):
            text += str(value.value)
            continue
        put(ascii(text))
        text = ""
        _put(value, put)
    put(f"{text!a})")


class _Wordless(ast.NodeTransformer):
    """Takes the words out of an expression."""

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        return ast.Constant("") if isinstance(node.value, str) else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.Constant:
        return ast.Constant("")


def _is_ours(function: ast.expr) -> bool:
    """Whether what is called is not built into Python, whose errors' words may stand in the table of rejected files."""
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return not hasattr(builtins, name)
