"""A .tflite file of several signatures, and one of free sizes: what is measured is the one asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from ai_edge_litert import schema_py_generated as schema
from flatbuffers import Builder

from bench.compress.model_files import base_from_file
from bench.cost.count import cost_of
from bench.errors import InvalidInput, Unsupported
from bench.formats.tflite_file import read_tflite
from bench.inputs.of_file import read_inputs
from bench.inputs.options import parse_inputs
from bench.types import Model

ADD, FULLY_CONNECTED, GATHER, FLOAT32, INT32 = 0, 9, 36, 0, 2


def tensor(name, shape, buffer=0, kind=FLOAT32, signature=None):
    made = schema.TensorT()
    made.name, made.shape, made.buffer, made.type, made.shapeSignature = name, shape, buffer, kind, signature
    return made


def layer(width, buffer, signature=None):
    """X (1, 4) -> y (1, width) by one product."""
    graph, operator = schema.SubGraphT(), schema.OperatorT()
    graph.tensors = [tensor("x", [1, 4], signature=signature), tensor("w", [width, 4], buffer), tensor("y", [1, width])]
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1, -1], [2]
    operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    operator.builtinOptions = schema.FullyConnectedOptionsT()
    graph.operators, graph.inputs, graph.outputs = [operator], [0], [2]
    return graph


def added(signature):
    """X (1, 3) plus a constant of 3."""
    graph, operator = schema.SubGraphT(), schema.OperatorT()
    graph.tensors = [tensor("x", [1, 3], signature=signature), tensor("c", [4, 3], 1), tensor("y", [4, 3])]
    operator.opcodeIndex, operator.inputs, operator.outputs = 2, [0, 1], [2]
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.AddOptions, schema.AddOptionsT()
    graph.operators, graph.inputs, graph.outputs = [operator], [0], [2]
    return graph


def lookup(buffer):
    """Ids (1, 6) -> rows of a table of 30."""
    graph, operator = schema.SubGraphT(), schema.OperatorT()
    graph.tensors = [tensor("ids", [1, 6], kind=INT32), tensor("t", [30, 2], buffer), tensor("e", [1, 6, 2])]
    operator.opcodeIndex, operator.inputs, operator.outputs = 1, [1, 0], [2]
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.GatherOptions, schema.GatherOptionsT()
    graph.operators, graph.inputs, graph.outputs = [operator], [0], [2]
    return graph


def save(path: Path, graphs, names=()) -> Path:
    model = schema.ModelT()
    model.version, model.subgraphs, model.operatorCodes, model.signatureDefs = 3, graphs, [], []
    for code in (FULLY_CONNECTED, GATHER, ADD):
        entry = schema.OperatorCodeT()
        entry.builtinCode = entry.deprecatedBuiltinCode = code
        entry.version = 1
        model.operatorCodes.append(entry)
    model.buffers = [schema.BufferT() for _ in range(4)]
    for place, size in ((1, 12), (2, 20), (3, 60)):
        values = np.random.default_rng(place).normal(size=size).astype("<f4")
        model.buffers[place].data = np.frombuffer(values.tobytes(), np.uint8)
    for number, name in enumerate(names):
        entry = schema.SignatureDefT()
        entry.signatureKey, entry.subgraphIndex = name, number
        entry.inputs, entry.outputs = [schema.TensorMapT()], [schema.TensorMapT()]
        entry.inputs[0].name, entry.inputs[0].tensorIndex = f"{name}_in", graphs[number].inputs[0]
        entry.outputs[0].name, entry.outputs[0].tensorIndex = f"{name}_out", graphs[number].outputs[0]
        model.signatureDefs.append(entry)
    builder = Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def run(file: Path, feed):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(file))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], feed)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


@pytest.fixture
def several(tmp_path):
    return save(tmp_path / "two.tflite", [layer(3, 1), layer(5, 2)], ["encode", "decode"])


def made(file, tmp_path, *texts, batch=1, signature=""):
    model = Model(name=file.name, file=file, inputs=parse_inputs(texts), signature=signature)
    return base_from_file(model, (), tmp_path / "cache", batch)


def test_without_a_choice_several_signatures_are_refused_by_name(several, tmp_path):
    with pytest.raises(Unsupported, match=r"signatures encode, decode, each a network of its own.*--signature encode"):
        made(several, tmp_path)
    with pytest.raises(InvalidInput, match=r"unknown signature of two\.tflite 'decod'; did you mean 'decode'"):
        made(several, tmp_path, signature="decod")


@pytest.mark.parametrize(("name", "width"), [("encode", 3), ("decode", 5)])
def test_the_chosen_signature_is_the_only_one_left_and_computes_the_same(several, tmp_path, name, width):
    from ai_edge_litert.interpreter import Interpreter

    base = made(several, tmp_path, signature=name)
    file = base.files["tflite"]
    graph = read_tflite(file)
    assert [item.name for item in graph.signatures] == [name]
    assert (base.inputs[0].name, base.inputs[0].shape) == (f"{name}_in", (1, 4))
    assert cost_of(file).macs == 4 * width
    assert file.stat().st_size < several.stat().st_size
    x = np.ones((1, 4), np.float32)
    wanted = Interpreter(model_path=str(several)).get_signature_runner(name)(**{f"{name}_in": x})
    assert np.array_equal(run(file, x), wanted[f"{name}_out"])


def test_a_free_batch_becomes_the_one_asked_for(tmp_path):
    file = save(tmp_path / "free.tflite", [layer(3, 1, signature=[-1, 4])])
    assert read_inputs(Model(name="free", file=file)).specs[0].axis == 0
    base = made(file, tmp_path, batch=7)
    assert base.inputs[0].shape == (7, 4)
    assert run(base.files["tflite"], np.ones((7, 4), np.float32)).shape == (7, 3)


def test_a_file_that_says_everything_stays_as_it_is(tmp_path):
    file = save(tmp_path / "fixed.tflite", [layer(3, 1)])
    assert made(file, tmp_path).files["tflite"] == file


def test_sizes_that_an_operator_does_not_take_are_refused(tmp_path):
    file = save(tmp_path / "free.tflite", [added(signature=[1, -1])])
    with pytest.raises(Unsupported, match=r"free\.tflite: LiteRT cannot give it inputs of \[\[1, 5\]\]"):
        made(file, tmp_path, "x=N,5")


def test_ids_are_bounded_by_the_table(tmp_path):
    (spec,) = read_inputs(Model(name="l", file=save(tmp_path / "l.tflite", [lookup(3)]))).specs
    assert (spec.name, spec.dtype, spec.integers) == ("ids", "int32", (0, 29))
