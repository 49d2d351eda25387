"""Shapes that onnx's inference leaves open: sizes that are computed from sizes, and states of a Loop.

onnx follows sizes through a few operators only; those of torch's LSTM and of masks of transformers lead through others.
It gives a state of a Loop no shape, because a body may change one. A state that comes out of one pass as it went in keeps
its shape in all of them (https://onnx.ai/onnx/operators/onnx__Loop.html).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

Infer = Callable[[ModelProto], GraphProto]
Sizes = NDArray[np.generic]
ROUNDS = 8
"""Most Loops behind each other whose states are settled one after the other, and most rounds of computing sizes."""
SMALL = 1024
"""Constants of at most this many values take part in shape inference; of larger ones only the shape does."""
INVALID = (
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    AssertionError,
    MemoryError,
)
"""What onnx's reference raises for a node that is not valid."""
ARITHMETIC = {
    "Abs",
    "Add",
    "Cast",
    "Ceil",
    "Concat",
    "ConstantOfShape",
    "Div",
    "Equal",
    "Floor",
    "Gather",
    "Identity",
    "Max",
}
ARITHMETIC |= {
    "Min",
    "Mod",
    "Mul",
    "Neg",
    "Range",
    "ReduceProd",
    "Reshape",
    "Round",
    "Shape",
    "Size",
    "Slice",
    "Squeeze",
    "Sub",
}
ARITHMETIC |= {"Unsqueeze", "Where"}
"""Operators that graphs compute sizes with."""
OF_A_SHAPE = ("Shape", "Size")
"""Those of them that need the shape of their input only."""
NUMBERS = (TensorProto.INT32, TensorProto.INT64, TensorProto.FLOAT, TensorProto.BOOL)
"""The types that sizes take on their way."""


def settle(model: ModelProto, infer: Infer) -> GraphProto:
    """The graph with its shapes inferred; `model` has the sizes that its inputs decide as constants."""
    found = settle_states(model, infer)
    for _ in range(ROUNDS):
        if not _leaves_open(found) or not _compute_sizes(model, found):
            break
        found = settle_states(model, infer)
    return found


def _leaves_open(found: GraphProto) -> bool:
    known = {item.name for item in (*found.value_info, *found.output) if _sizes(item) is not None}
    return any(name and name not in known for node in found.node for name in node.output)


def _compute_sizes(model: ModelProto, found: GraphProto) -> bool:
    """Puts constants in the places of nodes that compute a few numbers from shapes; whether there were any."""
    shapes = {item.name: _sizes(item) for item in (*found.input, *found.value_info, *found.output)}
    values = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer if item.data_type in NUMBERS}
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    changed = False
    for node in model.graph.node:
        if node.op_type == "Constant":
            value = _run(node, {}, opsets)
        elif (value := _compute(node, values, shapes, opsets)) is not None:
            node.CopyFrom(helper.make_node("Constant", [], [node.output[0]], value=numpy_helper.from_array(value)))
            changed = True
        if value is not None:
            values[node.output[0]] = value
    return changed


def _compute(
    node: NodeProto, values: Mapping[str, Sizes], shapes: Mapping[str, list[int] | None], opsets: Mapping[str, int]
) -> Sizes | None:
    """The few numbers that a node gives; None where it gives more, or something else, or its inputs are not known."""
    needed = {name for name in node.input if name}
    if node.op_type not in ARITHMETIC or node.domain not in ("", "ai.onnx") or len(node.output) != 1:
        return None
    if node.op_type in OF_A_SHAPE:
        sizes = [shapes.get(name) for name in needed]
        return None if None in sizes else _run(node, _without_values(needed, sizes), opsets)
    given = {name: values[name] for name in needed if name in values}
    if len(given) < len(needed) or not _stays_small(node, given):
        return None
    if node.op_type == "Div" and all(np.issubdtype(one.dtype, np.integer) for one in given.values()):
        return _divide(node, given)
    return _run(node, given, opsets)


def _divide(node: NodeProto, given: Mapping[str, Sizes]) -> Sizes | None:
    """Whole numbers divided towards zero (https://onnx.ai/onnx/operators/onnx__Div.html): not every onnx's reference does."""
    try:
        a, b = (given[name] for name in node.input)
        with np.errstate(all="raise"):
            value: Sizes = (np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))).astype(a.dtype)
    except INVALID:
        return None
    return value if value.size <= SMALL else None


def _without_values(names: Iterable[str], sizes: Iterable[list[int] | None]) -> dict[str, Sizes]:
    """Arrays of these sizes that take no memory; none where numpy has no array so large."""
    try:
        return {
            name: np.broadcast_to(np.int8(0), one) for name, one in zip(names, sizes, strict=True) if one is not None
        }
    except ValueError:
        return {}


def _stays_small(node: NodeProto, given: Mapping[str, Sizes]) -> bool:
    """Whether an operator gives few values: not by repeating its inputs' (`Max` of a row and a column), nor by making some."""
    numbers = [given[name].astype(np.float64).reshape(-1) for name in node.input if name]
    if node.op_type == "ConstantOfShape":
        return all(0 <= np.prod(sizes) <= SMALL for sizes in numbers)
    if node.op_type != "Range":
        return prod(one.size for one in numbers) <= SMALL**2
    if any(one.size != 1 for one in numbers):
        return False
    first, last, step = (one.item() for one in numbers)
    return bool(step and (last - first) / step <= SMALL)


def _run(node: NodeProto, given: Mapping[str, Sizes], opsets: Mapping[str, int]) -> Sizes | None:
    from onnx.reference import ReferenceEvaluator

    try:
        with np.errstate(all="raise"):
            results: Any = ReferenceEvaluator(node, opsets=dict(opsets)).run(None, dict(given))
            value: Sizes = np.asarray(results[0])
    except INVALID:
        return None
    return value if helper.np_dtype_to_tensor_dtype(value.dtype) in NUMBERS and value.size <= SMALL else None


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
