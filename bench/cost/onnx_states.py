"""Shapes of the states that a Loop hands from pass to pass, where its body does not say them.

onnx gives them none, because a body may change a shape. A state that comes out of one pass as it went in keeps its
shape in all of them (https://onnx.ai/onnx/operators/onnx__Loop.html).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

Infer = Callable[[ModelProto], GraphProto]
ROUNDS = 8
"""Most Loops behind each other whose states are settled one after the other."""


def settle_states(model: ModelProto, infer: Infer) -> GraphProto:
    """The graph with its shapes inferred; `model` has the shapes of states that keep theirs written in."""
    found = infer(model)
    for _ in range(ROUNDS):
        kept = ModelProto()
        kept.CopyFrom(model)
        if not _suppose(model.graph, found):
            return found
        tried = infer(model)
        if not _keep_their_shapes(tried):
            model.CopyFrom(kept)
            return found
        found = tried
    return found


def _loops(graph: GraphProto) -> Iterator[tuple[NodeProto, GraphProto]]:
    for node in graph.node:
        for item in node.attribute:
            if node.op_type == "Loop" and item.name == "body":
                yield node, item.g


def _suppose(graph: GraphProto, found: GraphProto) -> bool:
    """Writes the shapes that states begin with into the bodies and outputs of Loops; whether there were new ones."""
    known = {item.name: item for item in (*found.input, *found.value_info, *found.output) if _sizes(item) is not None}
    stored = {item.name: item for item in found.initializer}
    outputs = {item.name: item for item in (*graph.value_info, *graph.output)}
    changed = False
    for node, body in _loops(graph):
        for place, name in enumerate(node.input[2:]):
            state, given = body.input[place + 2], node.output[place] if place < len(node.output) else ""
            if _sizes(state) is not None or not (name in known or name in stored):
                continue
            kind = known[name].type.tensor_type.elem_type if name in known else stored[name].data_type
            sizes = _sizes(known[name]) if name in known else list(stored[name].dims)
            for value in (state, *([outputs.get(given) or graph.value_info.add(name=given)] if given else [])):
                value.type.tensor_type.elem_type = kind
                value.type.tensor_type.ClearField("shape")
                value.type.tensor_type.shape.SetInParent()
                for size in sizes or ():
                    value.type.tensor_type.shape.dim.add(dim_value=size)
            changed = True
    return changed


def _keep_their_shapes(graph: GraphProto) -> bool:
    """Whether every state leaves its body in the shape that it has there."""
    return all(
        _sizes(before) is None or _sizes(before) == _sizes(after)
        for node, body in _loops(graph)
        for before, after in zip(body.input[2:], body.output[1:], strict=False)
    )


def _sizes(item: ValueInfoProto) -> list[int] | None:
    """None where one is not known."""
    tensor = item.type.tensor_type
    if not tensor.HasField("shape") or any(not dim.HasField("dim_value") for dim in tensor.shape.dim):
        return None
    return [dim.dim_value for dim in tensor.shape.dim]
