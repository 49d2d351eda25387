"""Constants of an ONNX graph: where their values come from, how many of them are zero, what they occupy in the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, numpy_helper

from bench.cost.ledger import Leaf, Operand, leaves_of
from bench.cost.onnx_shapes import Graph
from bench.cost.onnx_surrogate import attributes
from bench.formats.onnx_external import count_nonzero, tensor_values
from bench.formats.qonnx import is_quantizer

Array = NDArray[np.generic]
SAME_VALUES = {"Identity", "Cast", "CastLike", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten"}
SAME_VALUES |= {"QuantizeLinear", "Expand", "Tile", "Neg", "Dropout"}
"""Operators through which the share of zeros stays; QuantizeLinear's own rounding to zero is not followed."""

ROUNDINGS: Mapping[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "ROUND": np.round,
    "HALF_EVEN": np.round,
    "FLOOR": np.floor,
    "CEIL": np.ceil,
}
"""`rounding_mode` of a quantizer of QONNX -> what it does to a value in steps of its scale."""

BITS: Mapping[int, int] = {
    TensorProto.FLOAT: 32,
    TensorProto.UINT8: 8,
    TensorProto.INT8: 8,
    TensorProto.UINT16: 16,
    TensorProto.INT16: 16,
    TensorProto.INT32: 32,
    TensorProto.INT64: 64,
    TensorProto.BOOL: 8,
    TensorProto.FLOAT16: 16,
    TensorProto.DOUBLE: 64,
    TensorProto.UINT32: 32,
    TensorProto.UINT64: 64,
    TensorProto.COMPLEX64: 64,
    TensorProto.COMPLEX128: 128,
    TensorProto.BFLOAT16: 16,
    TensorProto.FLOAT8E4M3FN: 8,
    TensorProto.FLOAT8E4M3FNUZ: 8,
    TensorProto.FLOAT8E5M2: 8,
    TensorProto.FLOAT8E5M2FNUZ: 8,
    TensorProto.FLOAT8E8M0: 8,
    TensorProto.UINT4: 4,
    TensorProto.INT4: 4,
    TensorProto.FLOAT4E2M1: 4,
}
FLOATS = {
    kind
    for kind, name in ((kind, TensorProto.DataType.Name(kind)) for kind in BITS)
    if "FLOAT" in name or name == "DOUBLE"
}


def bytes_of(kind: int, size: int) -> int | None:
    """Bytes of `size` values, packed where the type is narrower than a byte; None for strings and the unknown."""
    bits = BITS.get(kind)
    return None if bits is None else (size * bits + 7) // 8


def array_of(graph: Graph, name: str) -> Array | None:
    """The values of a stored constant (an initializer or a Constant node), None for anything else."""
    tensor = _tensor(graph, name)
    if tensor is None or tensor.data_type not in BITS:
        return None
    return tensor_values(tensor, graph.file)


def operand(graph: Graph, name: str, zero: str = "", axis: int = 0) -> Operand | None:
    """The constant behind a value, None for an activation. `zero`: the zero point it is stored with, along `axis`."""
    key = (name, zero, axis if zero else 0)
    if key not in graph.counted:
        graph.counted[key] = _operand(graph, name, zero, axis)
    return graph.counted[key]


def _operand(graph: Graph, name: str, zero: str, axis: int) -> Operand | None:
    if name in graph.sparse:
        return _sparse(graph, name)
    if _tensor(graph, name) is not None:
        return _stored(graph, name, zero, axis)
    node = graph.constant.get(name)
    return None if node is None else _computed(graph, name, node)


def _tensor(graph: Graph, name: str) -> TensorProto | None:
    if name in graph.initializers:
        return graph.initializers[name]
    node = graph.constant.get(name)
    if node is None or node.op_type != "Constant":
        return None
    given = attributes(node)
    if isinstance(tensor := given.get("value"), TensorProto):
        return tensor
    numbers = next((given[key] for key in ("value_float", "value_floats") if key in given), None)
    if numbers is not None:
        return numpy_helper.from_array(np.asarray(numbers, dtype=np.float32))
    numbers = next((given[key] for key in ("value_int", "value_ints") if key in given), None)
    return None if numbers is None else numpy_helper.from_array(np.asarray(numbers, dtype=np.int64))


def _stored(graph: Graph, name: str, zero: str, axis: int, block: int = 0) -> Operand:
    tensor = _tensor(graph, name)
    assert tensor is not None
    size = prod(tensor.dims)
    stored = {name: bytes_of(tensor.data_type, size) or len(b"".join(tensor.string_data))}
    if tensor.data_type not in BITS or size == 0:
        return Operand(size=size, nonzero=size, stored=stored)
    points = array_of(graph, zero) if zero else None
    if points is None:
        nonzero = count_nonzero(tensor, graph.file)
    else:
        nonzero = int(np.count_nonzero(_differs(tensor_values(tensor, graph.file), points, axis, block)))
    leaves = (Leaf(key=name, size=size, nonzero=nonzero),) if tensor.dims else ()
    return Operand(size=size, nonzero=nonzero, leaves=leaves, stored=stored)


def _differs(values: Array, points: Array, axis: int, block: int) -> NDArray[np.bool_]:
    """Where quantized values are not their zero point: one for all, one per index of `axis`, one per block of it, or
    one per column of each of several matrices."""
    whole = values.astype(np.int64)
    points = points.astype(np.int64)
    if points.size == 1:
        return np.asarray(whole != points.reshape(()))
    axis %= whole.ndim
    if points.ndim == whole.ndim and block:
        points = np.take(points, np.arange(whole.shape[axis]) // block, axis=axis, mode="clip")
    elif points.shape == (*whole.shape[:-2], whole.shape[-1]) and whole.ndim > 2:
        points = np.expand_dims(points, -2)
    elif points.size == whole.shape[axis]:
        points = points.reshape([-1 if position == axis else 1 for position in range(whole.ndim)])
    else:
        return np.ones(whole.shape, dtype=np.bool_)
    return np.asarray(whole != points)


def _sparse(graph: Graph, name: str) -> Operand:
    item = graph.sparse[name]
    nonzero = int(np.count_nonzero(tensor_values(item.values, graph.file)))
    size = prod(item.dims)
    room = sum(bytes_of(part.data_type, prod(part.dims)) or 0 for part in (item.values, item.indices))
    return Operand(
        size=size, nonzero=nonzero, leaves=(Leaf(key=name, size=size, nonzero=nonzero),), stored={name: room}
    )


def _computed(graph: Graph, name: str, node: NodeProto) -> Operand:
    """A constant that the graph computes from others."""
    if node.op_type in ("Shape", "Size", "Constant"):
        return Operand(size=0, nonzero=0)
    if node.op_type == "DequantizeLinear":
        return _dequantized(graph, node)
    if node.op_type == "ConstantOfShape":
        return _filled(graph, name, node)
    parts = [part for source in node.input if source and (part := operand(graph, source)) is not None]
    stored = {key: size for part in parts for key, size in part.stored.items()}
    if parts and (node.op_type in SAME_VALUES or is_quantizer(node)):
        nonzero = _count_kept(graph, node) if is_quantizer(node) else parts[0].nonzero
        return Operand(size=parts[0].size, nonzero=nonzero, leaves=parts[0].leaves, stored=stored)
    leaves = leaves_of(parts)
    if node.op_type == "Concat":
        return Operand(
            size=sum(part.size for part in parts),
            nonzero=sum(part.nonzero for part in parts),
            leaves=leaves,
            stored=stored,
        )
    size = prod(graph.shapes.get(name, (1,)))
    return Operand(size=size, nonzero=size, leaves=leaves, stored=stored)


def _count_kept(graph: Graph, node: NodeProto) -> int:
    """How many stored values are not zero once a quantizer of QONNX has rounded them.

    All of them for one bit with a sign, which is 1 or -1, for a zero point without a sign, if its inputs are computed, and
    if its rounding is not known.
    """
    values, scale, zero, bits = (*(array_of(graph, name) for name in node.input[:4]), *[None] * 4)[:4]
    part = operand(graph, node.input[0])
    given = attributes(node)
    mode = given.get("rounding_mode", b"ROUND")
    rounding = ROUNDINGS.get(mode.decode(errors="replace").upper()) if isinstance(mode, bytes) else None
    if node.op_type != "Quant" or values is None or scale is None or not np.all(scale) or rounding is None:
        return part.size if part else 0
    signed = bool(given.get("signed", 1))
    if zero is None or bits is None or np.any(bits == 1 if signed else zero):
        return values.size
    try:
        steps = rounding(values.astype(np.float64) / scale.astype(np.float64))
    except ValueError:  # a scale of another shape
        return values.size
    return int(np.count_nonzero(steps if signed else np.maximum(steps, 0)))


def _dequantized(graph: Graph, node: NodeProto) -> Operand:
    given = attributes(node)
    axis, block = given.get("axis", 1), given.get("block_size", 0)
    source, zero = node.input[0], node.input[2] if len(node.input) > 2 else ""
    if _tensor(graph, source) is not None:
        values = _stored(graph, source, zero, axis, block)
    else:
        inner = operand(graph, source)
        assert inner is not None
        values = (
            inner
            if not _offset(graph, zero)
            else Operand(size=inner.size, nonzero=inner.size, leaves=inner.leaves, stored=inner.stored)
        )
    stored = dict(values.stored)
    for side in node.input[1:]:
        part = operand(graph, side) if side else None
        stored.update(part.stored if part else {})
    return Operand(size=values.size, nonzero=values.nonzero, leaves=values.leaves, stored=stored)


def _offset(graph: Graph, zero: str) -> bool:
    points = array_of(graph, zero) if zero else None
    return bool(zero) and (points is None or bool(np.any(points.astype(np.int64) != 0)))


def _filled(graph: Graph, name: str, node: NodeProto) -> Operand:
    """One value everywhere, in a shape the file states: how model zoos ship graphs without their weights."""
    shape = graph.shapes.get(name)
    if shape is None or _tensor(graph, node.input[0]) is None:
        return Operand(size=0, nonzero=0)
    size = prod(shape)
    value = attributes(node).get("value")
    filled = isinstance(value, TensorProto) and bool(np.any(tensor_values(value, graph.file)))
    nonzero = size if filled else 0
    return Operand(size=size, nonzero=nonzero, leaves=(Leaf(key=name, size=size, nonzero=nonzero),) if shape else ())
