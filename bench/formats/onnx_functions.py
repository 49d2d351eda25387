"""Functions that an ONNX model defines itself: how large they become when expanded, and the expansion.

onnx and ONNX Runtime expand them in native code without a limit. A function that calls itself ends
the whole process there, and 30 functions that each call the one before twice become a billion nodes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from onnx import FunctionProto, ModelProto, NodeProto, inliner

from bench.errors import InvalidInput, first_line
from bench.formats.onnx_walk import nested_nodes, subgraphs

MAX_NODES = 250_000
"""Nodes of a model once its functions are expanded."""
MAX_BYTES = 2**31 - 1
"""Bytes of a model once its functions are expanded: what one protobuf message can hold."""
MAX_CALLS = 64
"""Functions that may call one another in a row."""

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What nodes become when all functions are expanded.

    `references`: places that take an attribute of the call, so each holds a copy of what the call gives.
    `calls`: functions that call one another in a row, at most.
    """

    nodes: int = 0
    bytes: int = 0
    references: int = 0
    calls: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ruler:
    """Measures functions, each once."""

    file: Path
    bodies: dict[Key, list[FunctionProto]]
    known: dict[Key, Size] = field(default_factory=dict)

    def function(self, key: Key, callers: tuple[Key, ...]) -> Size:
        """Size of a function's body. Raises `InvalidInput` where it calls itself or the calls go too deep."""
        if key in callers:
            raise InvalidInput(f"{self.file}: function {_title(key)} calls itself; write the repetition as a Loop node")
        self._check_depth(len(callers))
        if key not in self.known:
            nodes = [node for body in self.bodies[key] for node in body.node]
            self.known[key] = self.nodes(nodes, (*callers, key))
        self._check_depth(len(callers) + self.known[key].calls)
        return self.known[key]

    def _check_depth(self, calls: int) -> None:
        if calls >= MAX_CALLS:
            raise InvalidInput(f"{self.file}: its functions call one another over {MAX_CALLS} deep; nest them less")

    def nodes(self, nodes: Iterable[NodeProto], callers: tuple[Key, ...]) -> Size:
        """Size of nodes and of all that they contain and call."""
        total = [self._node(node, callers) for node in nested_nodes(nodes)]
        return Size(
            nodes=sum(size.nodes for size in total),
            bytes=sum(size.bytes for size in total),
            references=sum(size.references for size in total),
            calls=max((size.calls for size in total), default=0),
        )

    def _node(self, node: NodeProto, callers: tuple[Key, ...]) -> Size:
        """Size of one node, its control-flow bodies left out of `nodes`: the walk comes to them by itself."""
        references = sum(bool(attribute.ref_attr_name) for attribute in node.attribute)
        key = _key(node.domain, node.op_type, node.overload)
        if key not in self.bodies:
            return Size(nodes=1, bytes=node.ByteSize(), references=references)
        called = self.function(key, callers)
        inside = sum(1 for body in subgraphs(node) for _ in nested_nodes(body.node))
        return Size(
            nodes=called.nodes + inside * called.references,
            bytes=called.bytes + node.ByteSize() * (1 + called.references),
            references=references * called.references,
            calls=1 + called.calls,
        )


def check_functions(model: ModelProto, file: Path) -> None:
    """Raises `InvalidInput` when the model is too large once expanded, or a function calls itself.

    The limits: `MAX_NODES`, `MAX_BYTES`, `MAX_CALLS`. Also checks functions that nothing calls.
    """
    bodies: dict[Key, list[FunctionProto]] = {}
    for function in model.functions:
        bodies.setdefault(_key(function.domain, function.name, function.overload), []).append(function)
    ruler = _Ruler(file=file, bodies=bodies)
    for key in bodies:
        ruler.function(key, ())
    size = ruler.nodes(model.graph.node, ())
    where = "once its functions are expanded" if bodies else "in its graph"
    if size.nodes > MAX_NODES:
        raise InvalidInput(f"{file}: more than {MAX_NODES:,} nodes {where}, the most that are read")
    if bodies and size.bytes > MAX_BYTES:
        raise InvalidInput(f"{file}: over 2 GB {where}, more than one ONNX file can hold")


def expand_functions(model: ModelProto, file: Path) -> ModelProto:
    """The model with every call of its own functions replaced by their nodes; `check_functions` comes first.

    Raises `InvalidInput` for functions that do not fit their calls.
    """
    if not model.functions:
        return model
    try:
        return inliner.inline_local_functions(model)
    except (RuntimeError, onnx.checker.ValidationError) as error:
        reason = first_line(error)
        raise InvalidInput(f"{file} has functions that cannot be expanded: {reason}") from error


def _key(domain: str, name: str, overload: str) -> Key:
    return ("" if domain == "ai.onnx" else domain, name, overload)


def _title(key: Key) -> str:
    return f"{key[0]}.{key[1]}".strip(".")
