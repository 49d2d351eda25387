"""Q/DQ as TensorRT takes it: int8 or int4, zero points of 0, biases in float."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from bench.errors import Unsupported

Constants = Mapping[str, TensorProto]
TAKEN = frozenset(
    {TensorProto.INT8, TensorProto.INT4, TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT4E2M1, TensorProto.INT32}
)
DYNAMIC = frozenset({"DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "DynamicQuantizeMatMul"})
WHY = "TensorRT quantizes symmetrically, to signed integers with zero point 0"


def constants(graph: GraphProto) -> dict[str, TensorProto]:
    """Initializers and the tensors of Constant nodes, by name."""
    values = {
        node.output[0]: attribute.t
        for node in graph.node
        for attribute in node.attribute
        if node.op_type == "Constant" and attribute.name == "value"
    }
    return {item.name: item for item in graph.initializer} | values


def refuse_zero_points(model: ModelProto, file: str) -> None:
    """Raises `Unsupported` naming each node whose quantization TensorRT does not have: unsigned, zero points, dynamic."""
    known = constants(model.graph)
    found = [f"{node.name or node.op_type}: {why}" for node in model.graph.node for why in _find_faults(node, known)]
    if found:
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise Unsupported(f"{file}: {WHY}; {'; '.join(found[:5])}{more}")


def _find_faults(node: NodeProto, known: Constants) -> Iterator[str]:
    if node.op_type in DYNAMIC:
        yield f"{node.op_type} takes its range at every inference"
    if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
        return
    zero = known.get(node.input[2]) if len(node.input) > 2 else None
    stored = zero if zero is not None else known.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
    if stored is not None and stored.data_type not in TAKEN:
        yield f"{TensorProto.DataType.Name(stored.data_type).lower()} values"
    elif zero is None and node.op_type == "QuantizeLinear" and not _says_its_type(node):
        yield "no zero point, which means uint8 values"
    if zero is not None and np.any(numpy_helper.to_array(zero)):
        yield f"zero point {np.ravel(numpy_helper.to_array(zero))[0]}"


def _says_its_type(node: NodeProto) -> bool:
    """QuantizeLinear of opset 21 on may name its type instead of giving a zero point."""
    return any(item.name == "output_dtype" and item.i in TAKEN for item in node.attribute)


def fold_biases(model: ModelProto) -> int:
    """Turns int32 constants behind a DequantizeLinear into the float they mean, in place; how many there were.

    ONNX Runtime's quantizer stores biases so; TensorRT dequantizes 4 and 8 bits only.
    """
    known = constants(model.graph)
    folded = [node for node in model.graph.node if _is_bias(node, known)]
    for node in folded:
        values, scale = (numpy_helper.to_array(known[name]) for name in node.input[:2])
        tensor = numpy_helper.from_array(_dequantize(values, scale, node), node.output[0])
        model.graph.node.remove(node)
        model.graph.initializer.append(tensor)
    _drop_unread(model.graph, {name for node in folded for name in node.input})
    return len(folded)


def _drop_unread(graph: GraphProto, candidates: set[str]) -> None:
    """Removes initializers that no node reads, in place: they would be counted as weights."""
    unread = candidates - {name for node in graph.node for name in node.input}
    for item in [item for item in graph.initializer if item.name in unread]:
        graph.initializer.remove(item)


def _is_bias(node: NodeProto, known: Constants) -> bool:
    return (
        node.op_type == "DequantizeLinear"
        and all(name in known for name in node.input[:2])
        and known[node.input[0]].data_type == TensorProto.INT32
    )


def _dequantize(values: NDArray[Any], scale: NDArray[Any], node: NodeProto) -> NDArray[Any]:
    """Values times scale, the scale along the node's axis where there are several (zero point 0 is checked before)."""
    axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
    if scale.size > 1 and values.ndim > 1:
        scale = scale.reshape([-1 if index == axis % values.ndim else 1 for index in range(values.ndim)])
    return np.asarray(values.astype(scale.dtype) * scale)
