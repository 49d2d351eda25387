"""Samples that do not fit what a quantized input of a .tflite file can hold are named with both ranges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from ai_edge_litert import schema_py_generated as schema
from flatbuffers import Builder

from bench.line.judged.ranges import describe_ranges
from bench.types import TensorSpec

PIXELS = np.linspace(0, 1, 256, dtype=np.float32).reshape(64, 4)
U8, I8 = schema.TensorType.UINT8, schema.TensorType.INT8


def quantized(path: Path, kind: int, scale: float, zero: int) -> Path:
    """A Relu of one quantized input `x` (1, 4)."""
    model, graph, code, operator = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT(), schema.OperatorT()
    model.version, model.subgraphs, model.operatorCodes, model.buffers = 3, [graph], [code], [schema.BufferT()]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.RELU
    for name in ("x", "y"):
        tensor, scales = schema.TensorT(), schema.QuantizationParametersT()
        tensor.name, tensor.shape, tensor.type, tensor.quantization = name, [1, 4], kind, scales
        scales.scale, scales.zeroPoint = [scale], [zero]
        graph.tensors = [*(graph.tensors or []), tensor]
    operator.inputs, operator.outputs = [0], [1]
    graph.operators, graph.inputs, graph.outputs = [operator], [0], [1]
    builder = Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


@pytest.mark.parametrize(
    ("kind", "scale", "zero", "fed", "says"),
    [
        (U8, 1 / 255, 0, PIXELS, ""),
        (I8, 1 / 255, -128, PIXELS, ""),
        (I8, 1 / 127, 0, PIXELS, ""),
        (I8, 1 / 255, -128, PIXELS * 0, ""),
        (U8, 1.0, 0, PIXELS * 255, ""),
        (U8, 1.0, 0, PIXELS, "'x' holds 0 to 255, and is fed 0 to 1, 0.4% of it"),
        (U8, 1 / 127.5, 127, PIXELS, "holds -0.9961 to 1.004, and is fed 0 to 1, 50.0% of it"),
        (I8, 1 / 127.5, -1, PIXELS, "holds -0.9961 to 1.004, and is fed 0 to 1, 50.0% of it"),
        (U8, 1 / 255, 0, PIXELS * 2 - 1, "holds 0 to 1, and is fed -1 to 1: 50% of the values are cut off"),
    ],
)
def test_inputs_outside_of_a_range_or_in_a_small_part_of_it_are_named(tmp_path, kind, scale, zero, fed, says):
    file = quantized(tmp_path / "net.tflite", kind, scale, zero)
    spec = TensorSpec(name="x", shape=(1, 4), dtype="float32")
    found = describe_ranges(file, [spec], [fed])
    assert len(found) == bool(says)
    assert says in "".join(found)
