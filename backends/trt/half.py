"""A network in float16 or bfloat16 between float32 inputs and outputs: in a strongly typed network the file decides."""

from __future__ import annotations

from dataclasses import replace

import ml_dtypes
import numpy as np
from onnx import ModelProto, TensorProto, numpy_helper

from backends.onnx_tools.deploy import Quantized
from backends.onnx_tools.graph import at_least_opset
from backends.onnx_tools.quantize import cast_to_float16
from bench.types import QuantSpec

HALF_SCALES_OPSET = 19
"""The first whose QuantizeLinear takes float16 and bfloat16."""


def cast_to_half(model: ModelProto, precision: str, spec: QuantSpec) -> Quantized:
    """The network in "float16" or "bfloat16" but for the layers the spec keeps float32. Raises `Unsupported`."""
    wide = at_least_opset(model, HALF_SCALES_OPSET)
    done = cast_to_float16(wide, spec, final=precision)
    if precision == "bfloat16":
        _rename(done.model, {item.name: item for item in wide.graph.initializer})
    return replace(done, precision=replace(done.precision, asked=precision))


def _rename(model: ModelProto, originals: dict[str, TensorProto]) -> None:
    """Every float16 becomes bfloat16, in place; weights are rounded from their float32 originals."""
    graph = model.graph
    for item in graph.initializer:
        if item.data_type == TensorProto.FLOAT16:
            item.CopyFrom(_to_bfloat16(originals.get(item.name, item), item.name))
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.BFLOAT16
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.BFLOAT16
            if attribute.t.data_type == TensorProto.FLOAT16:
                attribute.t.CopyFrom(_to_bfloat16(attribute.t, attribute.t.name))


def _to_bfloat16(tensor: TensorProto, name: str) -> TensorProto:
    return numpy_helper.from_array(np.asarray(numpy_helper.to_array(tensor)).astype(ml_dtypes.bfloat16), name)
