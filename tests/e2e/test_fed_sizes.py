"""A file whose untaken branch contradicts the sizes that are given: they are fed, and not written into it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from quick_run import run, settle

from bench.cli import main
from bench.compress.model_files import base_from_file
from bench.inputs.options import parse_inputs
from bench.types import Model

F, I64 = TensorProto.FLOAT, TensorProto.INT64


def branching(file: Path, *, contradicts: bool) -> Path:
    """Rows of any length times a matrix. The branch of another rate takes away an axis, which needs to be 1."""
    matrix = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    stored = [numpy_helper.from_array(matrix, "w"), numpy_helper.from_array(np.array(16000, np.int64), "wanted")]
    one = numpy_helper.from_array(np.array([1], np.int64), "one")
    then = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["t"], "product")],
        "then",
        [],
        [helper.make_tensor_value_info("t", F, None)],
    )
    nodes = (
        [helper.make_node("Squeeze", ["x", "one"], ["e"])] if contradicts else [helper.make_node("Neg", ["x"], ["e"])]
    )
    other = helper.make_graph(nodes, "else", [], [helper.make_tensor_value_info("e", F, None)], [one])
    chosen = [
        helper.make_node("Equal", ["rate", "wanted"], ["is_wanted"]),
        helper.make_node("If", ["is_wanted"], ["y"], "choose", then_branch=then, else_branch=other),
    ]
    inputs = [helper.make_tensor_value_info("x", F, [None, None]), helper.make_tensor_value_info("rate", I64, [])]
    graph = helper.make_graph(chosen, "g", inputs, [helper.make_tensor_value_info("y", F, None)], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    return file


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    settle(tmp_path, tmp_path / "cache", monkeypatch)


def base_of(file: Path, *, sizes: str):
    return base_from_file(Model(name="m", file=file, inputs=parse_inputs([sizes])), (), Path("cache"))


def test_sizes_are_written_unless_onnx_runtime_refuses_the_file_with_them():
    plain = base_of(branching(Path("plain.onnx"), contradicts=False), sizes="x=N,6")
    assert plain.files["onnx"] != Path("plain.onnx")
    assert "are fixed: x=N,6" in plain.notes["input_shape"]
    file = branching(Path("odd.onnx"), contradicts=True)
    odd, other = base_of(file, sizes="x=N,6"), base_of(file, sizes="x=N,7")
    assert odd.files["onnx"] == file
    assert "are fed and not written into it: x=N,6; rate=; with them ONNX Runtime refuses" in odd.notes["input_shape"]
    assert [spec.shape for spec in odd.inputs] == [(-1, 6), ()]
    assert odd.content != other.content


def test_such_a_file_is_measured_and_its_outputs_judged():
    file = branching(Path("odd.onnx"), contradicts=True)
    asked = ("--model", str(file), "--input", "x=N,6", "--batch", "2", "--recipe", "int8_weights()")
    cells = run("--backend", "ort", *asked)
    assert cells["baseline"]["status"] in {"ok", "inconclusive"}
    assert cells["baseline"]["latency_p50_ms"]


def test_a_compressed_file_keeps_its_free_sizes(capsys):
    file = branching(Path("odd.onnx"), contradicts=True)
    with pytest.raises(SystemExit) as ended:
        main(["compress", "--model", str(file), "--input", "x=N,6", "--recipe", "", "--out", "out.onnx"])
    assert ended.value.code == 0, capsys.readouterr()
    assert not onnx.load("out.onnx").metadata_props
    session = onnxruntime.InferenceSession("out.onnx", providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": np.ones((3, 6), np.float32), "rate": np.array(16000)})[0]
    assert found.shape == (3, 2)
