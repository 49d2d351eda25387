"""An output that a quantized operator reads too, as logits beside their softmax, is read as integers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from flatbuffers import Builder

from backends.tflite.outputs import feed_integers

FLOAT, INT8, INT32 = schema.TensorType.FLOAT32, schema.TensorType.INT8, schema.TensorType.INT32
STEPS = (("DEQUANTIZE", [0], 1), ("SOFTMAX", [1], 2), ("DEQUANTIZE", [2], 3), ("ARG_MAX", [1, 4], 5))


def make_tensor(kind: int, scale: float = 0.0, zero: int = 0, shape: tuple[int, ...] = (1, 4)) -> Any:
    tensor = schema.TensorT()
    tensor.type, tensor.shape, tensor.name = kind, list(shape), f"{kind} {scale} {shape}".encode()
    if scale:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [zero]
    return tensor


def as_the_quantizer_writes_it(steps: tuple[Any, ...] = STEPS) -> bytes:
    """Logits in int8 (1, 4) -> their floats, an output; softmax and class of these floats, the softmax given in int8."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    axis = schema.BufferT()
    axis.data = np.frombuffer(np.array([1], np.int32).tobytes(), np.uint8)
    model.version, model.subgraphs, model.buffers, model.operatorCodes = 3, [graph], [schema.BufferT(), axis], []
    graph.tensors = [
        make_tensor(INT8, 0.05),
        make_tensor(FLOAT),
        make_tensor(INT8, 1 / 256, -128),
        make_tensor(FLOAT),
        make_tensor(INT32, shape=(1,)),
        make_tensor(INT32, shape=(1,)),
    ]
    graph.tensors[4].buffer = 1
    graph.operators, graph.inputs, graph.outputs = [], [0], [1, 3, 5]
    for place, (name, inputs, *outputs) in enumerate(steps):
        code, operator = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = getattr(schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = 2 if name in ("SOFTMAX", "DEQUANTIZE") else 1
        operator.opcodeIndex, operator.inputs, operator.outputs = place, inputs, outputs
        if name == "SOFTMAX":
            operator.builtinOptionsType = schema.BuiltinOptions.SoftmaxOptions
            operator.builtinOptions = schema.SoftmaxOptionsT()
            operator.builtinOptions.beta = 1.0
        if name == "ARG_MAX":
            operator.builtinOptionsType = schema.BuiltinOptions.ArgMaxOptions
            operator.builtinOptions = schema.ArgMaxOptionsT()
            operator.builtinOptions.outputType = INT32
        model.operatorCodes.append(code)
        graph.operators.append(operator)
    builder = Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def run(path: Path, content: bytes, logits: np.ndarray) -> list[np.ndarray]:
    path.write_bytes(content)
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], logits)
    interpreter.invoke()
    return [interpreter.get_tensor(item["index"]) for item in interpreter.get_output_details()]


def test_a_softmax_in_int8_reads_the_integers_of_logits_that_are_an_output(tmp_path: Path) -> None:
    logits = np.array([[10, 40, -20, 5]], np.int8)
    given, shares, best = run(tmp_path / "net.tflite", feed_integers(as_the_quantizer_writes_it()), logits)
    wanted = np.exp(logits * 0.05) / np.exp(logits * 0.05).sum()
    np.testing.assert_allclose(given, logits * 0.05, rtol=1e-6)
    np.testing.assert_allclose(shares, wanted, atol=0.01)
    assert best.tolist() == [1]


def test_a_file_without_such_readers_stays_as_it_is() -> None:
    done = feed_integers(as_the_quantizer_writes_it())
    assert feed_integers(done) is done


@pytest.mark.parametrize("step", [("ASSIGN_VARIABLE", [4, 1]), ("CAST", [1], 2)])
def test_a_state_and_a_cast_read_the_floats_of_an_output(step: tuple[Any, ...]) -> None:
    written = as_the_quantizer_writes_it((STEPS[0], step))
    assert feed_integers(written) is written
