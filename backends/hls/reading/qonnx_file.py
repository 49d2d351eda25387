"""Reads a QONNX graph as a design: its precision is the file's own, and every sum is exact."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto

from backends.hls.design import Array, Design, Fixed, hold
from backends.hls.reading.graph import attributes, pads_of, read_ends, refuse, window_places
from backends.hls.reading.values import Value, channels
from backends.hls.reading.walk import Operator, Reader, Weight


def read_qonnx(model: ModelProto) -> Design:
    """The design of a QONNX network at batch 1 with constants folded, as `qonnx` cleans it up.

    Raises `Unsupported` naming the operator, for one that has no form here, and for several inputs or outputs.
    """
    graph = model.graph
    tensors, name, shape = read_ends(model)
    stored = {key: np.asarray(value, np.float64) for key, value in tensors.items()}
    readers = Counter(name for node in graph.node for name in node.input)
    reader = Reader(stored=stored, operators=OPERATORS, readers=readers)
    last = any(
        node.op_type == "Transpose" and tuple(attributes(node).get("perm", ())) == (0, 3, 1, 2) for node in graph.node
    )
    reader.begin(name, shape, channels_last=last and len(shape) == 3)
    for node in graph.node:
        reader.read(node)
    return reader.finish(graph.output[0].name, shape, channels_last=last)


def _gemm(reader: Reader, node: NodeProto) -> Value:
    found = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0, **attributes(node)}
    if found["transA"]:
        raise refuse(node, "with its input turned")
    made = _dense(reader, node, turned=bool(found["transB"]), alpha=float(found["alpha"]))
    if len(node.input) > 2 and node.input[2]:
        bias = reader.constant(node.input[2], node) * found["beta"]
        return replace(made, shift=made.shift + channels(bias, node))
    return made


def _matmul(reader: Reader, node: NodeProto) -> Value:
    return _dense(reader, node, turned=False, alpha=1.0)


def _dense(reader: Reader, node: NodeProto, *, turned: bool, alpha: float) -> Value:
    """A row of an image has its channels first in the model and last in the design: the weight's rows move with it."""
    value, weight = reader.value(node.input[0], node), reader.weight(node.input[1], node)
    integers, scale = weight.integers, weight.scale * alpha
    if integers.ndim != 2 or len(reader.builder[value.node].shape) != 1:
        raise refuse(node, "of more than a row and a matrix")
    if turned:
        integers, scale = integers.T, scale.T
    if value.row:
        high, wide, deep = value.row
        integers = integers.reshape(deep, high, wide, -1).transpose(1, 2, 0, 3).reshape(integers.shape)
    return reader.layer(node, "dense", value, integers, scale)


def _conv(reader: Reader, node: NodeProto) -> Value:
    found = {"group": 1, **attributes(node)}
    value, weight = reader.value(node.input[0], node), reader.weight(node.input[1], node)
    source = reader.builder[value.node]
    if len(source.shape) != 3 or weight.integers.ndim != 4:
        raise refuse(node, "over another number of axes than two")
    if found["group"] != 1:
        raise refuse(node, "in groups")
    if any(step != 1 for step in found.get("dilations", ())):
        raise refuse(node, "with dilation")
    window, stride = weight.integers.shape[2:], tuple(found.get("strides", (1, 1)))
    pads = pads_of(node, found, source.shape, window, stride)
    integers, scale = (one.transpose(2, 3, 1, 0) for one in (weight.integers, weight.scale))
    shape = (*window_places(source.shape, window, stride, pads), integers.shape[-1])
    made = reader.layer(node, "conv", value, integers, scale, shape=shape, window=window, stride=stride, pads=pads)
    if len(node.input) > 2 and node.input[2]:
        return replace(made, shift=made.shift + channels(reader.constant(node.input[2], node), node))
    return made


def _batch_norm(reader: Reader, node: NodeProto) -> Value:
    value = reader.value(node.input[0], node)
    gamma, beta, mean, variance = (reader.constant(name, node).reshape(-1) for name in node.input[1:5])
    factor = gamma / np.sqrt(variance + attributes(node).get("epsilon", 1e-5))
    return _affine(reader, node, value, factor, beta - mean * factor)


def _affine(reader: Reader, node: NodeProto, value: Value, factor: Array, shift: Array) -> Value:
    if value.row and max(factor.size, shift.size) > 1:
        raise refuse(node, "of constants for each place of an image that became a row")
    if value.relu:
        value = reader.builder.settle(value, f"{node.name} input")
    return replace(value, scale=value.scale * factor, shift=value.shift * factor + shift)


def _arithmetic(reader: Reader, node: NodeProto) -> Value:
    """A constant changes the scale or the shift; two values make a residual sum."""
    if all(name in reader.values for name in node.input) and node.op_type == "Add":
        return _residual(reader, node)
    value = next((reader.values[name] for name in node.input if name in reader.values), None)
    if value is None or all(name in reader.values for name in node.input):
        raise refuse(node, "of two computed values")
    first = node.input[0] in reader.values
    stored = channels(reader.constant(node.input[1 if first else 0], node), node)
    if node.op_type == "Div" and not first:
        raise refuse(node, "of a constant by a value")
    if node.op_type in ("Mul", "Div"):
        return _affine(reader, node, value, stored if node.op_type == "Mul" else 1 / stored, np.zeros(()))
    if node.op_type == "Add":
        return _affine(reader, node, value, np.ones(()), stored)
    return _affine(reader, node, value, np.asarray(1.0 if first else -1.0), -stored if first else stored)


def _residual(reader: Reader, node: NodeProto) -> Value:
    one, other = (reader.values[name] for name in node.input)
    builder = reader.builder
    if builder[one.node].shape != builder[other.node].shape or one.row != other.row:
        raise refuse(node, "of values of two shapes")
    one = builder.settle(one, f"{node.name} left")
    other = builder.settle(other, f"{node.name} right", float(one.scale))
    types = [builder.type_of(value.node) for value in (one, other)]
    reach = sum(max(-kind.low, kind.high) for kind in types)
    sums = hold(reach, max(kind.fraction for kind in types))
    made = builder.add(node.name, "add", (one.node, other.node), builder[one.node].shape, result=sums, exact=True)
    return replace(one, node=made.name)


def _relu(reader: Reader, node: NodeProto) -> Value:
    return replace(reader.value(node.input[0], node), relu=True)


def _forward(reader: Reader, node: NodeProto) -> Value:
    return reader.value(node.input[0], node)


def _pool(reader: Reader, node: NodeProto) -> Value:
    """The greatest stays the greatest under a factor above 0; an average is exact over a power of two of values."""
    value = reader.builder.settle(reader.value(node.input[0], node), f"{node.name} input")
    source = reader.builder[value.node]
    found = attributes(node)
    if len(source.shape) != 3:
        raise refuse(node, "over another number of axes than two")
    whole = node.op_type == "GlobalAveragePool"
    window = source.shape[:2] if whole else tuple(found["kernel_shape"])
    stride = source.shape[:2] if whole else tuple(found.get("strides", (1, 1)))
    if any(pads_of(node, found, source.shape, window, stride)) or any(one != 1 for one in found.get("dilations", ())):
        raise refuse(node, "with padding or dilation")
    if found.get("ceil_mode") and any((s - w) % d for s, w, d in zip(source.shape, window, stride, strict=False)):
        raise refuse(node, "with a window over the edge (ceil_mode)")
    kind, count = reader.builder.type_of(source.name), math.prod(window)
    shape = (*window_places(source.shape, window, stride, (0, 0, 0, 0)), source.shape[2])
    given: dict[str, Any] = {"window": window, "stride": stride, "result": kind, "exact": True}
    if node.op_type != "MaxPool":
        if count & (count - 1):
            raise refuse(node, f"over {count} values, which fixed point cannot divide by exactly; take a power of two")
        more = count.bit_length() - 1
        held = Fixed(kind.width + 2 * more + 1, kind.integer + more + 1)
        given |= {"accum": held, "result": held}
    made = reader.builder.add(
        node.name, "maxpool" if node.op_type == "MaxPool" else "avgpool", (source.name,), shape, **given
    )
    return replace(value, node=made.name)


def _reshape(reader: Reader, node: NodeProto) -> Value:
    """To one row of each sample."""
    value = reader.value(node.input[0], node)
    source = reader.builder[value.node]
    size = math.prod(source.shape)
    if node.op_type == "Flatten":
        fits = attributes(node).get("axis", 1) == 1
    else:
        wanted = [int(one) for one in reader.constant(node.input[1], node).reshape(-1)]
        fits = len(wanted) == 2 and wanted[1] in (-1, size)
    if not fits:
        raise refuse(node, "to another shape than one row per sample")
    return value if len(source.shape) == 1 else _row(reader, node, value)


def _row(reader: Reader, node: NodeProto, value: Value) -> Value:
    if value.scale.size > 1 or value.shift.size > 1:
        value = reader.builder.settle(value, f"{node.name} input")
    source = reader.builder[value.node]
    kind, row = source.result, (math.prod(source.shape),)
    made = reader.builder.add(node.name, "flatten", (source.name,), row, result=kind, exact=True)
    mixed = source.shape[:2] != (1, 1) and not value.channels_last
    return replace(value, node=made.name, row=source.shape if mixed else (), channels_last=False)


def _squeeze(reader: Reader, node: NodeProto) -> Value:
    """An axis of 1 behind a row comes and goes; an image of one place becomes a row."""
    value = reader.value(node.input[0], node)
    shape = reader.builder[value.node].shape
    axes = attributes(node).get("axes") or (reader.constant(node.input[1], node) if len(node.input) > 1 else ())
    if len(shape) == 1 and [int(axis) for axis in axes] in ([2], [-1]):
        return value
    if node.op_type == "Squeeze" and shape[:-1] == (1, 1) and sorted(int(axis) % 4 for axis in axes) == [2, 3]:
        return _row(reader, node, value)
    raise refuse(node, "of other axes than an image's height and width, both 1,")


def _transpose(reader: Reader, node: NodeProto) -> Value | None:
    """Channels first or last: the design has them last, so only the names of the axes change. Weights are turned."""
    order = tuple(attributes(node).get("perm", ()))
    tensor = node.input[0]
    if tensor in reader.weights:
        kept = reader.weights[tensor]
        reader.weights[node.output[0]] = Weight(
            integers=kept.integers.transpose(order or None), scale=kept.scale.transpose(order or None)
        )
        return None
    value = reader.value(tensor, node)
    wanted = (0, 3, 1, 2) if value.channels_last else (0, 2, 3, 1)
    if order != wanted or len(reader.builder[value.node].shape) != 3:
        raise refuse(node, f"by {list(order)}")
    return replace(value, channels_last=not value.channels_last)


OPERATORS: Mapping[str, Operator] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Conv": _conv,
    "BatchNormalization": _batch_norm,
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _arithmetic),
    "Relu": _relu,
    **dict.fromkeys(("Identity", "Dropout"), _forward),
    **dict.fromkeys(("MaxPool", "AveragePool", "GlobalAveragePool"), _pool),
    **dict.fromkeys(("Reshape", "Flatten"), _reshape),
    **dict.fromkeys(("Squeeze", "Unsqueeze"), _squeeze),
    "Transpose": _transpose,
}
