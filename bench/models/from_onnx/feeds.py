"""Inputs to run an ONNX file with at any batch, and a copy of it whose batch is free."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, numpy_helper

from bench.errors import Unsupported
from bench.formats.onnx_inputs import find_index_bounds
from bench.models.from_onnx.probe import Array, Feed

KINDS = {
    TensorProto.FLOAT: "float32", TensorProto.INT64: "int64", TensorProto.INT32: "int32", TensorProto.BOOL: "bool",
    TensorProto.UINT8: "uint8", TensorProto.INT8: "int8",
}  # fmt: skip


def input_shapes(model: ModelProto) -> dict[str, tuple[list[int], str]]:
    """Name -> shape (0: free) and numpy type of every input that must be fed.

    Raises `Unsupported` for an input that is not a tensor of a type torch computes with here.
    """
    stored = {item.name for item in model.graph.initializer}
    found = {}
    for item in model.graph.input:
        if item.name in stored:
            continue
        tensor = item.type.tensor_type
        if tensor.elem_type not in KINDS:
            kind = TensorProto.DataType.Name(tensor.elem_type) if tensor.elem_type else "not a tensor"
            raise Unsupported(f"input {item.name!r} is {kind}: torch networks are made of {', '.join(KINDS.values())}")
        found[item.name] = ([max(0, dim.dim_value) for dim in tensor.shape.dim], KINDS[tensor.elem_type])
    return found


def free_batch(model: ModelProto) -> ModelProto:
    """A copy whose inputs have a free first axis; constant targets of Reshape that say 1 there keep what they get."""
    copy = ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    stored = {item.name: item for item in copy.graph.initializer}
    for item in copy.graph.input:
        if item.name not in stored and item.type.tensor_type.shape.dim:
            item.type.tensor_type.shape.dim[0].dim_param = "batch"
    for item in copy.graph.output:
        item.type.tensor_type.ClearField("shape")
    for place, node in enumerate(copy.graph.node):
        if node.op_type != "Reshape" or node.input[1] not in stored:
            continue
        target = numpy_helper.to_array(stored[node.input[1]])
        if target.size > 1 and target[0] == 1:
            name = f"{node.input[1]}/free{place}"
            copy.graph.initializer.append(numpy_helper.from_array(np.array([0, *target[1:]], np.int64), name))
            node.input[1] = name
    return copy


def draw_feed(model: ModelProto, batch: int, seed: int) -> Feed:
    """Inputs at this batch: N(0, 1) for floats, valid indices for integers. A fixed first axis stays where `batch` is 0.

    Raises `Unsupported` naming an input with another free axis.
    """
    generator = np.random.default_rng(seed)
    bounds = find_index_bounds(model)
    feed: dict[str, Array] = {}
    for name, (shape, kind) in input_shapes(model).items():
        sizes = [batch, *shape[1:]] if batch and shape else list(shape)
        if min(sizes, default=1) < 1:
            raise Unsupported(f"input {name!r} has free axes behind the batch: {shape}; give its shape")
        if kind == "float32":
            feed[name] = generator.standard_normal(sizes, dtype=np.float32)
        else:
            low, high = bounds[name].integers or (0, 1)
            feed[name] = generator.integers(low, high + 1, sizes).astype(kind)
    return feed
