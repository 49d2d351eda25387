"""What a body of WHILE or IF multiplies in float32 is seen."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("ai_edge_litert")
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import Builder

from backends.tflite.bodies import find_float_bodies

KINDS = schema.TensorType
FC, IF = schema.BuiltinOperator.FULLY_CONNECTED, schema.BuiltinOperator.IF


def operator(code: int, inputs: list[int], outputs: list[int], options=None, kind: int = 0):
    made = schema.OperatorT()
    made.opcodeIndex, made.inputs, made.outputs = code, inputs, outputs
    made.builtinOptions, made.builtinOptionsType = options, kind
    return made


def graph(operators: list, weight: int):
    made = schema.SubGraphT()
    made.operators, made.tensors = operators, []
    for shape, kind in (([1, 4], KINDS.FLOAT32), ([3, 4], weight), ([1, 3], KINDS.FLOAT32), ([1], KINDS.BOOL)):
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.name = shape, kind, b"t"
        made.tensors.append(tensor)
    made.inputs, made.outputs = [0], [2]
    return made


def write(path: Path, weights: list[int]) -> Path:
    """A main graph with one IF, its branches 1 and 2, and a graph 3 that only another signature reaches."""
    options = schema.IfOptionsT()
    options.thenSubgraphIndex, options.elseSubgraphIndex = 1, 2
    main = graph([operator(1, [3, 0], [2], options, schema.BuiltinOptions.IfOptions)], KINDS.FLOAT32)
    model = schema.ModelT()
    model.operatorCodes = []
    for code in (FC, IF):
        entry = schema.OperatorCodeT()
        entry.builtinCode = entry.deprecatedBuiltinCode = code
        model.operatorCodes.append(entry)
    model.version, model.buffers = 3, [schema.BufferT()]
    model.subgraphs = [main, *(graph([operator(0, [0, 1], [2])], kind) for kind in weights)]
    builder = Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def test_a_float_product_in_a_branch_is_named_with_its_weights(tmp_path):
    path = write(tmp_path / "m.tflite", [KINDS.FLOAT32, KINDS.INT8, KINDS.FLOAT32])
    assert find_float_bodies(path) == {"FULLY_CONNECTED_0 of body 1": 12}


def test_bodies_that_are_all_narrow_leave_nothing_float(tmp_path):
    assert find_float_bodies(write(tmp_path / "m.tflite", [KINDS.INT8, KINDS.INT8, KINDS.FLOAT32])) == {}
