"""A hostile .onnx file is refused by name before native code can crash, hang or fill the memory.

Each case killed, hung or filled a process without the bound it tests, so each runs in a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from onnx import AttributeProto, FunctionProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from bench.cost.probe import probe
from bench.errors import InvalidInput, Unsupported
from bench.formats import onnx_functions
from bench.formats.onnx_file import bytes_on_disk, load_onnx, read_onnx
from bench.formats.onnx_functions import MAX_CALLS, expand_functions
from tests.limited import answer_of

Make = Callable[[], ModelProto | bytes]
OPSETS = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]


def model_of(
    nodes: Sequence[NodeProto],
    constants: Sequence[TensorProto] = (),
    functions: Sequence[FunctionProto] = (),
    *,
    kind: int = TensorProto.FLOAT,
    shape: Sequence[int] = (1, 4),
) -> ModelProto:
    x, y = helper.make_tensor_value_info("x", kind, shape), helper.make_tensor_value_info("y", kind, None)
    graph = helper.make_graph(list(nodes), "g", [x], [y], list(constants))
    return helper.make_model(graph, opset_imports=OPSETS, functions=list(functions), ir_version=10)


def function(name: str, *calls: str) -> FunctionProto:
    """A function that calls others one after the other; `Relu` is the standard operator."""
    values = ["a", *(f"v{index}" for index in range(1, len(calls))), "b"]
    nodes = [
        helper.make_node(call, [values[index]], [values[index + 1]], domain="" if call == "Relu" else "own")
        for index, call in enumerate(calls)
    ]
    return helper.make_function("own", name, ["a"], ["b"], nodes, OPSETS)


def call(name: str) -> NodeProto:
    return helper.make_node(name, ["x"], ["y"], domain="own")


def powers(count: int) -> ModelProto:
    """2**(count - 1) nodes once expanded: each function calls the one before twice."""
    functions = [function("f0", "Relu"), *(function(f"f{n}", *[f"f{n - 1}"] * 2) for n in range(1, count))]
    return model_of([call(f"f{count - 1}")], functions=functions)


def chain(count: int) -> ModelProto:
    functions = [function("f0", "Relu"), *(function(f"f{n}", f"f{n - 1}") for n in range(1, count))]
    return model_of([call(f"f{count - 1}")], functions=functions)


def copies(count: int) -> ModelProto:
    """A call that gives a tensor of 1 MB to a function which has `count` copies of it."""
    nodes = [helper.make_node("Constant", [], [f"c{n}"]) for n in range(count)]
    for node in nodes:
        node.attribute.add(name="value", type=AttributeProto.TENSOR, ref_attr_name="big")
    nodes.append(helper.make_node("Relu", ["a"], ["b"]))
    held = helper.make_function("own", "hold", ["a"], ["b"], nodes, OPSETS, ["big"])
    value = numpy_helper.from_array(np.zeros(2**18, np.float32), "value")
    return model_of([helper.make_node("hold", ["x"], ["y"], domain="own", big=value)], functions=[held])


def nested(depth: int) -> bytes:
    """Subgraphs in subgraphs, written as bytes: protobuf refuses to build what it refuses to read."""
    node = helper.make_node("Relu", ["x"], ["y"]).SerializeToString()
    for _ in range(depth):
        body = field(1, node)
        node = field(2, b"y") + field(4, b"If") + field(5, field(1, b"then_branch") + field(6, body) + b"\xa0\x01\x05")
    model = model_of([call("f0")], functions=[function("f0", "Relu")])
    model.graph.ClearField("node")
    del model.functions[:]
    return bytes(model.SerializeToString()) + field(7, field(1, node))


def field(number: int, content: bytes) -> bytes:
    size, length = len(content), b""
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def doubled_constants() -> ModelProto:
    """A constant of 40 sums, each of the one before with itself."""
    constant = numpy_helper.from_array(np.ones(4, np.float32), "c0")
    sums = [helper.make_node("Add", [f"c{n}", f"c{n}"], [f"c{n + 1}"]) for n in range(40)]
    return model_of([*sums, helper.make_node("Add", ["x", "c40"], ["y"])], [constant])


def doubled_shape() -> ModelProto:
    """Onnx computes the values of shapes: 1000 of them, doubled 25 times."""
    constant = numpy_helper.from_array(np.arange(1, 1001), "c0")
    nodes = [helper.make_node("Concat", [f"c{n}", f"c{n}"], [f"c{n + 1}"], axis=0) for n in range(25)]
    return model_of([*nodes, helper.make_node("Reshape", ["x", "c25"], ["y"])], [constant])


def doubled_rank() -> ModelProto:
    """A Gather of a tensor from itself has almost twice its axes."""
    nodes = [helper.make_node("Gather", [f"v{n}", f"v{n}"], [f"v{n + 1}"]) for n in range(40)]
    nodes[0].input[:] = ["x", "x"]
    nodes.append(helper.make_node("Identity", ["v40"], ["y"]))
    return model_of(nodes, kind=TensorProto.INT64, shape=(1, 1))


SELF = model_of([call("f")], functions=[function("f", "f")])
CIRCLE = model_of([call("f")], functions=[function("f", "g"), function("g", "Relu", "h"), function("h", "f")])
UNCALLED = model_of([helper.make_node("Relu", ["x"], ["y"])], functions=[function("f", "f")])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(lambda: SELF, r"function own\.f calls itself", id="self"),
        pytest.param(lambda: CIRCLE, r"function own\.f calls itself", id="circle"),
        pytest.param(lambda: UNCALLED, r"function own\.f calls itself", id="uncalled"),
        pytest.param(lambda: powers(31), "more than 250,000 nodes once its functions are expanded", id="powers"),
        pytest.param(lambda: chain(20_000), f"call one another over {MAX_CALLS} deep", id="chain"),
        pytest.param(lambda: copies(2_100), "over 2 GB once its functions are expanded", id="copies"),
        pytest.param(lambda: nested(40), "graphs nest too deeply; at most 30 levels", id="nested"),
        pytest.param(lambda: nested(4_000), "graphs nest too deeply; at most 30 levels", id="deeply nested"),
    ],
)
def test_a_model_without_bound_is_refused_by_every_reader(tmp_path: Path, make: Make, words: str):
    file, content = tmp_path / "m.onnx", make()
    file.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    for reader in ("bench.cost.count.cost_of", "bench.formats.onnx_file.read_onnx"):
        module, _, name = reader.rpartition(".")
        said, peak = answer_of(f"from pathlib import Path; import {module}; {module}.{name}(Path({str(file)!r}))")
        assert said.startswith(f"InvalidInput: {file}: ")
        assert words.replace("\\", "") in said
        assert peak < 400e6


@pytest.mark.parametrize("content", [doubled_shape(), doubled_rank()], ids=["shape", "rank"])
def test_what_only_onnx_itself_would_expand_is_refused_in_a_child_process(tmp_path: Path, content: ModelProto):
    file = tmp_path / "m.onnx"
    file.write_bytes(content.SerializeToString())
    with pytest.raises(InvalidInput, match=r"m\.onnx needs more memory to be counted than this process may use"):
        probe(file, memory_bytes=2**30)


def test_a_probe_that_runs_on_is_ended(tmp_path: Path):
    file = tmp_path / "m.onnx"
    file.write_bytes(doubled_rank().SerializeToString())
    with pytest.raises(InvalidInput, match=r"m\.onnx cannot be counted in 1 s"):
        probe(file, memory_bytes=2**33, cpu_s=1)


def test_a_probe_that_crashes_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A module named as the child's first import kills it."""
    (tmp_path / "sitecustomize.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InvalidInput, match=r"m\.onnx cannot be counted: .* by SIGSEGV"):
        probe(tmp_path / "m.onnx")


def test_a_probe_passes_a_good_file_and_says_what_the_reader_says(tmp_path: Path):
    file = tmp_path / "m.onnx"
    file.write_bytes(powers(5).SerializeToString())
    probe(file)
    with pytest.raises(InvalidInput, match=r"gone\.onnx: no such file"):
        probe(tmp_path / "gone.onnx")


def test_a_file_over_2_gb_is_unsupported_unread(tmp_path: Path):
    with (tmp_path / "m.onnx").open("wb") as stream:
        stream.truncate(2**31 + 1)
    with pytest.raises(Unsupported, match=r"m\.onnx: over 2 GB"):
        load_onnx(tmp_path / "m.onnx")
    with pytest.raises(Unsupported, match=r"m\.onnx: over 2 GB"):
        probe(tmp_path / "m.onnx")


def test_constants_that_double_are_counted_once(tmp_path: Path):
    file = tmp_path / "m.onnx"
    file.write_bytes(doubled_constants().SerializeToString())
    code = f"from pathlib import Path; from bench.cost.count import cost_of; print(cost_of(Path({str(file)!r})).params)"
    assert answer_of(code)[0] == "4"


@pytest.mark.parametrize(("count", "nodes"), [(1, 1), (5, 16), (12, 2048)])
def test_the_size_said_is_the_size_onnx_expands_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, nodes: int
):
    file = tmp_path / "m.onnx"
    file.write_bytes(powers(count).SerializeToString())
    monkeypatch.setattr(onnx_functions, "MAX_NODES", nodes)
    assert len(expand_functions(load_onnx(file), file).graph.node) == nodes
    monkeypatch.setattr(onnx_functions, "MAX_NODES", nodes - 1)
    with pytest.raises(InvalidInput, match="nodes once its functions are expanded"):
        load_onnx(file)


def test_thirty_levels_of_subgraphs_are_read(tmp_path: Path):
    (tmp_path / "m.onnx").write_bytes(nested(30))
    assert load_onnx(tmp_path / "m.onnx").graph.node[0].op_type == "If"


def beside(folder: Path, **entries: str) -> Path:
    """A product with a 4x6 weight that is kept beside the model."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 6], data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        weight.external_data.add(key=key, value=value)
    file = folder / "m.onnx"
    file.write_bytes(model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], [weight]).SerializeToString())
    return file


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"location": "a\0b"}, r"at 'a\\x00b', which is not a path"),
        ({"location": "a" * 5000}, "which is not a path|no such file"),
        ({"location": "circle"}, "which is not a path|no such file"),
        ({"location": "w.bin", "offset": "many"}, "not a number"),
        ({"location": "w.bin", "length": "-1"}, "wants bytes"),
        ({"location": "w.bin", "offset": "1", "length": "96"}, "wants bytes 1 to 97 of 'w.bin', which has 96"),
        ({"location": "."}, "no such file"),
    ],
)
def test_external_data_that_is_not_there_is_refused_by_both_readers(tmp_path: Path, entries: dict, words: str):
    (tmp_path / "w.bin").write_bytes(bytes(96))
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    file = beside(tmp_path, **entries)
    for reader in (load_onnx, read_onnx):
        with pytest.raises(InvalidInput, match=rf"m\.onnx: external data of 'w'.*({words})"):
            reader(file)


def test_tensors_that_all_read_the_same_large_file_are_refused(tmp_path: Path):
    (tmp_path / "w.bin").write_bytes(bytes(96))
    file = beside(tmp_path, location="w.bin")
    model = load_onnx(file)
    assert bytes_on_disk(model, file) == file.stat().st_size + 96
    for index in range(64):
        model.graph.initializer.add().CopyFrom(model.graph.initializer[0])
        model.graph.initializer[-1].name = f"w{index}"
    file.write_bytes(model.SerializeToString())
    with pytest.raises(InvalidInput, match="read 6240 bytes of external data from files of 96"):
        load_onnx(file)
