"""A file whose operators keep a state: what LiteRT carries from one inference to the next is no input of a sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from ai_edge_litert import schema_py_generated as schema
from flatbuffers import Builder

from backends.litert.session import LitertSession
from backends.tflite import calibrate
from bench.types import QuantSpec

WEIGHT, RECURRENT = [[0.5, -0.25]], [[0.75]]
"""h = relu(weight x + recurrent h)."""


def tensor(name: str, shape: list[int], buffer: int, *, variable: bool = False) -> schema.TensorT:
    made = schema.TensorT()
    made.name, made.shape, made.buffer, made.isVariable = name, shape, buffer, variable
    return made


@pytest.fixture
def recurrent(tmp_path: Path) -> Path:
    """One RNN cell with two inputs and one unit, whose state is a variable tensor."""
    model, graph, code, cell = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT(), schema.OperatorT()
    constants = [np.array(values, np.float32) for values in (WEIGHT, RECURRENT, [0.0])]
    model.version, model.subgraphs, model.operatorCodes = 3, [graph], [code]
    model.buffers = [schema.BufferT() for _ in range(1 + len(constants))]
    for buffer, values in zip(model.buffers[1:], constants, strict=True):
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.RNN
    cell.inputs, cell.outputs = [0, 1, 2, 3, 4], [5]
    cell.builtinOptionsType, cell.builtinOptions = schema.BuiltinOptions.RNNOptions, schema.RNNOptionsT()
    cell.builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.RELU
    graph.tensors = [
        tensor("x", [1, 2], 0),
        *(tensor(f"c{place}", list(values.shape), place + 1) for place, values in enumerate(constants)),
        tensor("state", [1, 1], 0, variable=True),
        tensor("y", [1, 1], 0),
    ]
    graph.inputs, graph.outputs, graph.operators = [0], [5], [cell]
    return write(model, tmp_path / "rnn.tflite")


def test_every_sample_begins_with_the_first_state(recurrent: Path) -> None:
    session = LitertSession.open(recurrent, threads=1, batch=1, options={})
    feed = {"x": np.array([[4.0, 0.0]], np.float32)}
    assert [session.run(feed)[0].item() for _ in range(3)] == [2.0, 2.0, 2.0]


def test_ranges_are_those_of_samples_that_know_nothing_of_each_other(recurrent: Path) -> None:
    samples = np.array([[4.0, 0.0]] * 3, np.float32)
    assert calibrate.ranges(recurrent, calibrate.Fed(arrays=[samples]), QuantSpec(kind="static"))["y"] == (0.0, 2.0)


def write(model: schema.ModelT, path: Path) -> Path:
    builder = Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def take_absolute(entering: int, leaving: int) -> schema.OperatorT:
    made = schema.OperatorT()
    made.opcodeIndex, made.inputs, made.outputs = 1, [entering], [leaving]
    made.builtinOptionsType, made.builtinOptions = schema.BuiltinOptions.AbsOptions, schema.AbsOptionsT()
    return made


def test_outputs_that_differ_between_xnnpack_and_litert_s_own_kernels_are_a_fallback(recurrent: Path) -> None:
    """XNNPACK takes what is before the cell and what reads its state behind it, and runs both before the cell."""
    model = schema.ModelT.InitFromPackedBuf(recurrent.read_bytes(), 0)
    graph, code = model.subgraphs[0], schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.ABS
    model.operatorCodes.append(code)
    graph.tensors += [tensor("before", [1, 2], 0), tensor("behind", [1, 1], 0)]
    (cell,) = graph.operators
    cell.inputs, graph.outputs = [6, 1, 2, 3, 4], [7]
    graph.operators = [take_absolute(0, 6), cell, take_absolute(4, 7)]
    write(model, recurrent)
    feeds = [{"x": np.array([[value, 0.0]], np.float32)} for value in (4.0, 8.0)]
    said = {}
    for kernels in ("any", "builtin"):
        session = LitertSession.open(recurrent, threads=1, batch=1, options={"kernels": kernels})
        assert session.explain_inexact(feeds) == ""
        said[kernels] = session.facts().fallbacks
    assert said["builtin"] == ()
    assert "XNNPACK gives outputs that are" in said["any"][0]
    assert "kernels = 'builtin'" in said["any"][0]
