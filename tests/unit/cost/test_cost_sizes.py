"""Sizes that a graph computes from the sizes of its inputs."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from bench.compress.export import export
from bench.cost.count import cost_of


class _Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTM(6, 5, num_layers=2, batch_first=True, bidirectional=True)
        self.last = nn.Linear(10, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.cell(x)[0][:, -1])


def test_a_recurrent_network_that_torch_wrote_is_counted(tmp_path: Path) -> None:
    file = tmp_path / "m.onnx"
    file.write_bytes(export(_Recurrent(), (torch.rand(2, 7, 6),)).onnx)
    cost = cost_of(file)
    first, second = 2 * 4 * 5 * (6 + 5), 2 * 4 * 5 * (10 + 5)
    assert cost.unknown == ()
    assert cost.macs == 7 * (first + second) + 10 * 3


def test_positions_that_are_made_from_a_length_leave_no_product_unknown(tmp_path: Path) -> None:
    """The length is read from the ids and goes through an operator whose sizes onnx does not follow."""
    nodes = [
        helper.make_node("Shape", ["ids"], ["sizes"], start=1, end=2),
        helper.make_node("ReduceProd", ["sizes"], ["length"], keepdims=0),
        helper.make_node("Range", ["zero", "length", "one"], ["places"]),
        helper.make_node("Gather", ["table", "places"], ["positions"]),
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["positions", "turned"], ["scores"]),
        helper.make_node("MatMul", ["scores", "rows"], ["y"]),
    ]
    held = {
        "none": np.zeros(0, np.int64),
        "zero": np.int64(0),
        "one": np.int64(1),
        "table": np.ones((9, 4), np.float32),
    }
    cost = cost_of(_save(nodes, held, ["N", 8], TensorProto.INT64, "ids", tmp_path / "m.onnx"))
    assert cost.unknown == ()
    assert cost.macs == 2 * 8 * 8 * 4


def test_a_negative_length_is_divided_towards_zero_whatever_the_onnx(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older reference of onnx divides down: it made three places of two."""
    monkeypatch.setattr("onnx.reference.ops.op_div.Div._run", lambda _, a, b: (a // b,))
    nodes = [
        helper.make_node("Shape", ["ids"], ["sizes"], start=1, end=2),
        helper.make_node("ReduceProd", ["sizes"], ["length"], keepdims=0),
        helper.make_node("Neg", ["length"], ["below"]),
        helper.make_node("Div", ["below", "three"], ["part"]),
        helper.make_node("Neg", ["part"], ["places"]),
        helper.make_node("Range", ["zero", "places", "one"], ["chosen"]),
        helper.make_node("Gather", ["table", "chosen"], ["positions"]),
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["positions", "turned"], ["y"]),
    ]
    held = {name: np.int64(value) for value, name in enumerate(["zero", "one", "two", "three"])}
    held["table"] = np.ones((9, 4), np.float32)
    cost = cost_of(_save(nodes, held, ["N", 8], TensorProto.INT64, "ids", tmp_path / "m.onnx"))
    assert (cost.unknown, cost.macs) == ((), 2 * 4 * 8)


def test_constants_that_would_take_much_memory_are_not_computed(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["open"]),
        helper.make_node("ConstantOfShape", ["many"], ["made"]),
        helper.make_node("ReduceProd", ["made"], ["y"]),
    ]
    file = _save(nodes, {"many": np.array([2**14, 2**13])}, ["N", 8], TensorProto.FLOAT, "x", tmp_path / "m.onnx")
    tracemalloc.start()
    try:
        cost = cost_of(file)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert any(line.startswith("NonZero") for line in cost.unknown)
    assert peak < 2**27


def _save(
    nodes: list[onnx.NodeProto], held: dict[str, np.generic], sizes: list[str | int], kind: int, name: str, file: Path
) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kind, sizes)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in held.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    return file
