"""Inputs of a .tflite that have no names of their own are fed all the same: each is called by its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from ai_edge_litert import schema_py_generated as schema
from flatbuffers import Builder

from backends.litert.session import LitertSession
from bench.inputs.of_file import read_inputs
from bench.types import Model


def subtraction(path: Path, names: tuple[str, str]) -> Path:
    """The first input less the second, without a signature."""
    model, graph, code, operator = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT(), schema.OperatorT()
    model.version, model.subgraphs, model.operatorCodes, model.buffers = 3, [graph], [code], [schema.BufferT()]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.SUB
    for name in (*names, "y"):
        tensor = schema.TensorT()
        tensor.name, tensor.shape = name, [1, 3]
        graph.tensors = [*(graph.tensors or []), tensor]
    operator.inputs, operator.outputs = [0, 1], [2]
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.SubOptions, schema.SubOptionsT()
    graph.operators, graph.inputs, graph.outputs = [operator], [0, 1], [2]
    builder = Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


@pytest.mark.parametrize(
    ("names", "called"),
    [(("x", "x"), ("x_0", "x_1")), (("", ""), ("input_0", "input_1")), (("a", ""), ("a", "input_1"))],
)
def test_equal_and_empty_names_get_their_place(tmp_path: Path, names: tuple[str, str], called: tuple[str, str]) -> None:
    path = subtraction(tmp_path / "net.tflite", names)
    assert tuple(spec.name for spec in read_inputs(Model(name="net", file=path)).specs) == called
    session = LitertSession.open(path, threads=1, batch=1, options={})
    feed = dict(zip(called, (np.full((1, 3), 5, np.float32), np.full((1, 3), 2, np.float32)), strict=True))
    assert session.run(feed)[0].tolist() == [[3.0, 3.0, 3.0]]
