"""Which whole numbers a graph takes as its inputs."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from bench.formats.onnx_inputs import find_index_bounds

I64, FLOAT, BOOL = TensorProto.INT64, TensorProto.FLOAT, TensorProto.BOOL


def found(nodes, *, stored=None, inputs=(("ids", I64, ["N", 4]), ("x", FLOAT, ["N", 4]))):
    tensors = {"table": np.zeros((30, 5), np.float32), "one": np.array(1.0, np.float32), **(stored or {})}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    return find_index_bounds(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))


N = helper.make_node


@pytest.mark.parametrize(
    ("nodes", "bounds"),
    [
        ([N("Gather", ["table", "ids"], ["y"])], (0, 29)),
        ([N("Gather", ["table", "ids"], ["y"], axis=1)], (0, 4)),
        ([N("Gather", ["table", "ids"], ["y"], axis=-1)], (0, 4)),
        (
            [N("Cast", ["ids"], ["i"], to=6), N("Unsqueeze", ["i", "ax"], ["j"]), N("Gather", ["table", "j"], ["y"])],
            (0, 29),
        ),
        ([N("Add", ["ids", "two"], ["i"]), N("Gather", ["table", "i"], ["y"])], (-2, 27)),
        ([N("Sub", ["ids", "two"], ["i"]), N("Gather", ["table", "i"], ["y"])], (2, 31)),
        ([N("OneHot", ["ids", "depth", "values"], ["y"])], (0, 6)),
        ([N("Equal", ["ids", "classes"], ["e"]), N("Cast", ["e"], ["y"], to=FLOAT)], (0, 256)),
        ([N("Equal", ["ids", "some"], ["e"]), N("Cast", ["e"], ["y"], to=FLOAT)], None),
        ([N("GatherElements", ["table", "ids"], ["y"], axis=1)], (0, 4)),
        ([N("GatherND", ["table", "ids"], ["y"])], (0, 4)),
        ([N("Gather", ["table", "ids"], ["a"]), N("Gather", ["table", "ids"], ["y"], axis=1)], (0, 4)),
        ([N("Identity", ["table"], ["t"]), N("Gather", ["t", "ids"], ["y"])], (0, 29)),
        ([N("Shape", ["ids"], ["s"]), N("Gather", ["table", "ids"], ["y"])], (0, 29)),
        (
            [
                N("Less", ["ids", "zero"], ["neg"]),
                N("Add", ["ids", "size"], ["wrapped"]),
                N("Where", ["neg", "wrapped", "ids"], ["i"]),
                N("Gather", ["table", "i"], ["y"]),
            ],
            (0, 29),
        ),
        ([N("Gather", ["x", "ids"], ["y"], axis=0)], None),
        ([N("Cast", ["ids"], ["f"], to=FLOAT), N("MatMul", ["f", "table"], ["y"])], None),
        ([N("Gather", ["table", "ids"], ["y"], axis=7)], None),
    ],
)
def test_an_index_is_bounded_by_the_smallest_table_that_it_looks_up(nodes, bounds):
    stored = {
        "two": np.array(2, np.int64),
        "zero": np.array(0, np.int64),
        "size": np.array(30, np.int64),
        "depth": np.array(7, np.int64),
        "values": np.array([0, 1], np.float32),
        "ax": np.array([1], np.int64),
        "classes": np.arange(257, dtype=np.int64).reshape(1, 1, 257),
        "some": np.array([3, 9], np.int64),
    }
    assert found(nodes, stored=stored)["ids"].integers == bounds


@pytest.mark.parametrize(
    ("nodes", "masks"),
    [
        ([N("Cast", ["ids"], ["f"], to=FLOAT), N("Sub", ["one", "f"], ["i"]), N("Mul", ["i", "big"], ["y"])], True),
        ([N("Cast", ["ids"], ["f"], to=FLOAT), N("Mul", ["x", "f"], ["y"])], True),
        ([N("Cast", ["ids"], ["f"], to=FLOAT), N("Mul", ["x", "f"], ["y"]), N("ReduceSum", ["f"], ["n"])], True),
        ([N("Cast", ["ids"], ["f"], to=FLOAT), N("Sub", ["f", "one"], ["i"]), N("Mul", ["i", "big"], ["y"])], False),
        ([N("Cast", ["ids"], ["f"], to=FLOAT), N("MatMul", ["f", "table"], ["y"])], False),
        ([N("Equal", ["ids", "nothing"], ["off"]), N("Where", ["off", "big", "x"], ["y"])], True),
        ([N("Gather", ["table", "ids"], ["y"])], False),
    ],
)
def test_a_mask_is_told_from_numbers_that_are_counted_with(nodes, masks):
    stored = {"big": np.array(-1e4, np.float32), "nothing": np.array(0, np.int64)}
    assert found(nodes, stored=stored)["ids"].is_mask == masks


@pytest.mark.parametrize(
    "before", [[], [N("Reshape", ["sr", "ax"], ["flat"]), N("Gather", ["flat", "first"], ["number"])]]
)
def test_a_scalar_that_is_compared_with_a_constant_is_that_constant(before):
    nodes = [
        *before,
        N("Equal", ["number" if before else "sr", "rate"], ["same"]),
        N("Where", ["same", "x", "one"], ["y"]),
    ]
    inputs = (("sr", I64, []), ("x", FLOAT, ["N", 4]))
    stored = {"rate": np.array(16000, np.int64), "ax": np.array([1], np.int64), "first": np.array(0, np.int64)}
    assert found(nodes, stored=stored, inputs=inputs)["sr"].integers == (16000, 16000)


@pytest.mark.parametrize(
    "nodes",
    [
        [N("LSTM", ["x", "w", "r", "", "ids"], ["y"])],
        [N("GRU", ["t", "w", "r", "", "i"], ["y"], layout=1)],
        [N("ReverseSequence", ["t", "ids"], ["y"], time_axis=1, batch_axis=0)],
    ],
)
def test_the_length_of_a_sequence_is_at_most_its_axis_of_time(nodes):
    before = [N("Cast", ["ids"], ["i"], to=6), N("Transpose", ["x"], ["t"], perm=[1, 0, 2])]
    inputs = (("ids", I64, ["N"]), ("x", FLOAT, [9, "N", 5]))
    assert found([*before, *nodes], inputs=inputs)["ids"].integers == (1, 9)
