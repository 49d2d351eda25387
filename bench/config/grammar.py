"""The text of models and recipes: `name(key=literal, ...)`, steps joined by ` + `.

A subset of Python's expressions, read with `ast` and never evaluated. Suites and the command line use it.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

from bench.errors import InvalidInput
from bench.types import Scalar

QUOTED = 80
ALLOWED = "only numbers, 'text', True, False, None and lists of them"
Value = Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One `name(key=literal, ...)`."""

    name: str
    arguments: tuple[tuple[str, Value], ...] = ()

    def __str__(self) -> str:
        if not self.arguments:
            return self.name
        return f"{self.name}({', '.join(f'{key}={value!r}' for key, value in self.arguments)})"


def parse_calls(text: str) -> tuple[Call, ...]:
    """`"a(x=1) + b"` -> two calls; empty text -> (). Raises `InvalidInput` that quotes the text."""
    if not text.strip():
        return ()
    try:
        return _parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        why = error.msg if isinstance(error, SyntaxError) else str(error) or "nested too deeply"
        raise InvalidInput(f"cannot read {_quote(text)}: {why}; write name(key=value) + name(key=value)") from None


def _parse(text: str) -> tuple[Call, ...]:
    """The calls. Also raises what Python's parser raises; a deep text can exceed the recursion limit at any place."""
    node = ast.parse(text.strip(), mode="eval").body
    parts: list[ast.expr] = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        parts.insert(0, node.right)
        node = node.left
    return tuple(_call(part, text) for part in [node, *parts])


def parse_call(text: str) -> Call:
    """The one call in the text. Raises `InvalidInput` for any other number of calls."""
    calls = parse_calls(text)
    if len(calls) != 1:
        raise InvalidInput(f"cannot read {_quote(text)}: exactly one name(key=value) is wanted, found {len(calls)}")
    return calls[0]


def _quote(text: str) -> str:
    """The text in quotes, cut where it is long."""
    return repr(text if len(text) <= QUOTED else f"{text[:QUOTED]}...")


def _call(node: ast.expr, text: str) -> Call:
    if isinstance(node, ast.Name):
        return Call(name=node.id)
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        raise InvalidInput(f"cannot read {_quote(ast.unparse(node))} in {_quote(text)}: write name(key=value)")
    if node.args or any(keyword.arg is None for keyword in node.keywords):
        raise InvalidInput(f"arguments of {node.func.id!r} in {_quote(text)} must be named: {node.func.id}(key=value)")
    names = [str(keyword.arg) for keyword in node.keywords]
    if len(set(names)) < len(names):
        raise InvalidInput(f"an argument of {node.func.id!r} in {_quote(text)} is given twice")
    return Call(
        name=node.func.id,
        arguments=tuple((str(keyword.arg), _literal(keyword.value, text)) for keyword in node.keywords),
    )


def _literal(node: ast.expr, text: str) -> Value:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise InvalidInput(f"{_quote(ast.unparse(node))} in {_quote(text)} is not a literal: {ALLOWED}") from None
    if isinstance(value, (list, tuple)) and all(isinstance(item, (str, int, float, bool)) for item in value):
        return tuple(value)
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise InvalidInput(f"{_quote(ast.unparse(node))} in {_quote(text)}: {ALLOWED}")
